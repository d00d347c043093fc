"""Functions as tools: their schemas, their calls, their results as text; and answers as typed values."""

from __future__ import annotations

from voxnb.clients.tools.running import ToolRun
from voxnb.clients.tools.tool import Tool

__all__ = ["Tool", "ToolRun"]
