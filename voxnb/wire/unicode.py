"""Text from the wire that is no Unicode text: half a surrogate pair, which JSON can carry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from voxnb.wire.choice import REPLACED

_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def whole_unicode(value: Any) -> Any:
    r"""The value with the halves of surrogate pairs joined and lone ones replaced, in every text of it.

    JSON can carry them, also cut between two chunks of a stream; no file and no database can.

    >>> whole_unicode({"a": "hi \ud83d\ude00 \ud83d"}) == {"a": "hi \U0001f600 \ufffd"}
    True
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {whole_unicode(k): whole_unicode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [whole_unicode(v) for v in value]
    return value


def load_escaped(data: str) -> Any:
    r"""A message of a stream that has escapes in it, decoded; with `whole_unicode`, but for pieces of text.

    Those may go on in the next message; they are mended when they are put together.

    >>> load_escaped(r'{"id": "c\ud83d", "delta": {"id": "t\ud83d", "content": "hi \ud83d"}}') == {
    ...     "id": "c\ufffd", "delta": {"id": "t\ufffd", "content": "hi \ud83d"}
    ... }
    True
    """
    message = json.loads(data)
    return _whole_but_pieces(message, is_piece=False) if _HALF.search(data) else message


def _whole_but_pieces(value: Any, *, is_piece: bool) -> Any:
    if isinstance(value, dict):
        return {
            whole_unicode(k): _whole_but_pieces(v, is_piece=(is_piece or k == "delta") and k not in REPLACED)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_whole_but_pieces(v, is_piece=is_piece) for v in value]
    return value if is_piece else whole_unicode(value)
