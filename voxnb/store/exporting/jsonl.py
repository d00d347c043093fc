"""JSON Lines of our own form, which `import_conversations` reads back exactly."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from voxnb.memory.past import UNDER_WAY
from voxnb.store.exporting.contents import lines
from voxnb.store.exporting.sink import EVERYTHING, Sink

NOT_CARRIED: Final = frozenset(
    {"undone turns", "older and trial summaries", "plans of requests (explain() needs them)"}
)


class JsonLines(Sink):
    """Everything of a conversation's current path."""

    carries = EVERYTHING - NOT_CARRIED

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:
        """Write one conversation's lines."""
        for line in lines(c, conversation):
            if line["type"] == "turn":
                self.count(line)
                if line["state"] in UNDER_WAY:
                    self.remarks.add("turns that still run, without their reply", f"{name}, turn {line['seq']}")
            self.put(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
