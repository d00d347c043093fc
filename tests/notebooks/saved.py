"""Notebooks as they are saved, and run anew."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]

A_PATH = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|work|opt|usr|var|mnt|Users)/|[A-Za-z]:\\\\")
A_KEY = re.compile(r"\bsk-\w{8,}|Bearer\s|api_key\s*=")


class Notebook:
    """A notebook of the project.

    Attributes:
        path: its file.
        made: all of it.
        cells: its code cells.
    """

    def __init__(self, name, made=None):
        self.name = name
        self.path = ROOT / "notebooks" / name
        self.made = made or nbformat.read(self.path, 4)
        self.cells = [cell for cell in self.made.cells if cell.cell_type == "code"]

    def cell(self, words):
        """The one cell with these words in its source."""
        (found,) = (cell for cell in self.cells if words in cell.source)
        return found

    def streams(self):
        """The names of the streams that cells wrote to."""
        return {one.name for cell in self.cells for one in cell.outputs if one.output_type == "stream"}

    def run(self, folder, *, kernel="python3"):
        """The same, executed from top to bottom in a new kernel; a cell that fails fails the test."""
        again = Notebook(self.name)
        for cell in again.cells:
            cell.outputs, cell.execution_count = [], None
        place = {"metadata": {"path": str(folder)}}
        NotebookClient(again.made, timeout=200, kernel_name=kernel, resources=place).execute()
        return again


def output(cell):
    """All that a cell put out, as text; a stream comes in pieces that differ from run to run, a widget is none."""
    found = []
    for one in cell.outputs:
        found += [one["text"]] if one.output_type == "stream" else [*one.get("data", {}).values(), "\n"]
    return "".join(piece for piece in found if isinstance(piece, str))


def traces(path):
    """What a saved notebook must not hold: paths of a machine, keys, addresses of a server that is gone."""
    text = path.read_text(encoding="utf-8")
    return [*A_PATH.findall(text), *A_KEY.findall(text), *re.findall(r"127\.0\.0\.1|localhost", text)]
