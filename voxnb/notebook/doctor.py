"""`voxnb.doctor`: what works here, what does not, and the one line that mends it."""

from __future__ import annotations

import html
from typing import Any

from voxnb.notebook.checks import FAILED, NOTE, Check, everything
from voxnb.runtime import cells
from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart


class Diagnosis:
    """What `doctor` found; true where nothing failed.

    Attributes:
        checks: what was looked at, each a `Check` with ``name``, ``state``, ``found`` and ``cure``.
    """

    def __init__(self, checks: tuple[Check, ...]) -> None:
        self.checks = checks

    @property
    def problems(self) -> tuple[Check, ...]:
        """What failed."""
        return tuple(check for check in self.checks if check.state == FAILED)

    @property
    def df(self) -> Any:
        """The checks as a DataFrame."""
        import_apart("pandas")
        import pandas as pd

        return marked(pd.DataFrame(self.to_dict(), columns=["name", "state", "found", "cure"]))

    def to_dict(self) -> list[dict[str, str]]:
        """The checks as JSON has them."""
        return [{"name": c.name, "state": c.state, "found": c.found, "cure": c.cure} for c in self.checks]

    def __bool__(self) -> bool:
        return not self.problems

    def __getitem__(self, name: str) -> Check:
        """A check by its name."""
        return next(check for check in self.checks if check.name == name)

    def _ipython_key_completions_(self) -> list[str]:
        return [check.name for check in self.checks]

    def _summary(self) -> str:
        failed = len(self.problems)
        notes = sum(check.state == NOTE for check in self.checks)
        if failed:
            return f"{failed} of {len(self.checks)} checks failed"
        return "all is well" + (f", with {notes} {'note' if notes == 1 else 'notes'}" if notes else "")

    def __repr__(self) -> str:
        wide = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{check.name:<{wide}}  {check.state:<8}  {check.found}")
            if check.cure:
                lines.append(f"{'':<{wide}}  {'':<8}  → {check.cure}")
        return "\n".join([f"voxnb: {self._summary()}", *lines])

    def _repr_html_(self) -> str:
        items = []
        for check in self.checks:
            state = f"<strong>{check.state}</strong>" if check.state == FAILED else check.state
            cure = f"<br><em>{html.escape(check.cure)}</em>" if check.cure else ""
            items.append(f"<li><strong>{check.name}</strong>, {state}: {html.escape(check.found)}{cure}</li>")
        return f"<p>voxnb: {self._summary()}</p><ul>{''.join(items)}</ul>"


def doctor() -> Diagnosis:
    """Look at everything that voxnb needs here, and say of each failure the one line that mends it.

    In a notebook it asks the page for up to four seconds: front end, binary messages to the kernel and back while a cell
    runs, secure context, permission for the microphone (which is not switched on, nor asked for). Then the kernel, versions,
    asyncio patches, the embedded model's files, the store's folder, and whether there is a key: yes or no. Nothing is
    fetched, sent or kept. ``voxnb doctor`` does the same in a shell.

    Returns:
        The checks: ``print`` it, show it as a cell's last line, ``.problems``, ``.df``, ``.to_dict()``; true if none failed.

    >>> bool(doctor()["versions"].found)
    True
    """
    page, asked = None, False
    # A front end that names its cells has a page behind it; what executes notebooks has none.
    if cells.in_kernel() and cells.current_cell() is not None:
        from voxnb.notebook.probe import ask_page

        page, asked = ask_page(), True
    return Diagnosis(everything(page=page, asked=asked))
