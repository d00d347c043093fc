"""The embedded default: a small model of your own, so that everything runs without a key.

`Model` serves any GGUF file on a loopback port; without one it is SmolLM2-135M-Instruct, which writes poor answers and
poor summaries (see `voxnb.local.model`).

>>> from voxnb import local
>>> local.Model.__name__
'Model'
"""

from __future__ import annotations

from voxnb.local.model import Model, serve_default

__all__ = ["Model", "serve_default"]
