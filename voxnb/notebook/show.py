"""Where a turn is painted: in a page that has widgets, in another notebook, or on standard output."""

from __future__ import annotations

import threading
from contextvars import copy_context

from voxnb.clients.turn import Turn
from voxnb.notebook.live import LiveCanvas
from voxnb.notebook.paint import Canvas, CellCanvas, StreamCanvas, paint_quietly, paint_until_end
from voxnb.runtime import cells


def canvas_for(turn: Turn) -> Canvas:
    """Where a turn is painted that is shown here.

    A front end that names its cells has a page behind it; what runs notebooks without one (nbclient) names none, and
    would keep the widget's code in the file.
    """
    if not cells.in_kernel():
        return StreamCanvas()
    return LiveCanvas(turn) if cells.current_cell() is not None else CellCanvas()


def show_turn(turn: Turn, *, wait: bool) -> None:
    """Paint a turn where this is called, until its listeners have run.

    Args:
        turn: running or ended.
        wait: paint here and raise what `Turn.result` raises; else in a daemon thread, returning at once.

    Raises:
        KeyboardInterrupt: the turn was cancelled and its partial stored and shown.
        VoxnbError: see `Turn.result`.
    """
    canvas = canvas_for(turn)
    if wait:
        paint_until_end(turn, canvas)
        turn.result()
        return
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(paint_quietly, turn, canvas), name="voxnb-painter", daemon=True)
    thread.start()
