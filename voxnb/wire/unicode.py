"""Text from the wire that is no Unicode text: half a surrogate pair, which JSON can carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
