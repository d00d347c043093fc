"""Which notebook cell is running, told from the message that IPython executes for the current context."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One execution of one cell.

    Attributes:
        id: the cell's id, which stays when it is run again.
        execution: id of the request that runs it, new for every execution.
    """

    id: str
    execution: str


def shell() -> Any:
    """The running IPython shell, or None; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return get_ipython() if get_ipython is not None else None


def in_kernel() -> bool:
    """Whether this is a Jupyter kernel, which can show rich output."""
    return getattr(shell(), "kernel", None) is not None


def current_cell() -> Cell | None:
    """The cell that the current context belongs to.

    None in scripts and terminals, and where the front end names no cells (nbclient does not, JupyterLab does).
    Source: ipykernel, ``ZMQInteractiveShell.get_parent``; JupyterLab sends ``cellId`` in the metadata.
    """
    get_parent = getattr(shell(), "get_parent", None)
    parent = get_parent() if get_parent is not None else None
    if not isinstance(parent, dict):
        return None
    cell_id = (parent.get("metadata") or {}).get("cellId")
    execution = (parent.get("header") or {}).get("msg_id")
    if not isinstance(cell_id, str) or not isinstance(execution, str):
        return None
    return Cell(cell_id, execution)
