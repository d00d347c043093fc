"""Where a client is private, the openai package's own log says nothing of its requests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

LOGGER: Final = "openai._base_client"
"""Logs whole requests at level DEBUG (``OPENAI_LOG=debug``)."""

_quiet: ContextVar[bool] = ContextVar("voxnb_quiet", default=False)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging's signature
        return not _quiet.get()


_SILENCE: Final = _Silence()


@contextlib.contextmanager
def quiet(on: bool, /) -> Iterator[None]:  # noqa: FBT001 - one switch
    """Keep the SDK's log silent inside of the block, for this task alone."""
    if not on:
        yield
        return
    logging.getLogger(LOGGER).addFilter(_SILENCE)  # adding it again does nothing
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)
