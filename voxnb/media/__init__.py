"""Media units and the streams between them: files, recorders, devices, sockets, and the model's voice."""

from __future__ import annotations

from voxnb.media.unit import MediaUnit, send_media_between

__all__ = ["MediaUnit", "send_media_between"]
