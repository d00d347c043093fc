"""The quickstart notebook: it runs against the embedded model, and running it again costs nothing."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import voxnb
from tests.invariants.scripted import everything

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = ROOT / "notebooks" / "01_quickstart.ipynb"

A_PATH = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|work|opt|usr|var|mnt|Users)/|[A-Za-z]:\\\\")
A_KEY = re.compile(r"\bsk-\w{8,}|Bearer\s|api_key\s*=")


def read():
    return nbformat.read(NOTEBOOK, 4)


def code(made):
    return [cell for cell in made.cells if cell.cell_type == "code"]


def output(cell):
    """All that a cell put out, as text."""
    found = []
    for one in cell.outputs:
        found += [one["text"]] if one.output_type == "stream" else list(one.get("data", {}).values())
    return "\n".join(found)


def cell_with(made, words):
    (found,) = (cell for cell in code(made) if words in cell.source)
    return found


def test_the_saved_notebook_was_run_from_top_to_bottom():
    cells = code(read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {one.output_type for cell in cells for one in cell.outputs}
    assert kinds == {"stream", "display_data", "execute_result"}
    assert {one.name for cell in cells for one in cell.outputs if one.output_type == "stream"} == {"stdout"}


def test_the_saved_notebook_shows_folds_and_that_nothing_is_lost():
    made = read()
    assert "folded ---" in output(cell_with(made, "for line in lines"))
    assert "rebuilt exactly" in output(cell_with(made, "explain("))
    assert output(cell_with(made, "verify()")).startswith("all holds: 1 conversations, 19 turns")


def test_the_saved_notebook_names_no_machine_and_no_key():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not A_PATH.findall(text)
    assert not A_KEY.findall(text)
    assert "127.0.0.1" not in text
    assert "localhost" not in text


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("saved in /home" + "/ann/x.db", True),
        ("see https://example.com/home/x", False),
        ("data/rentals.parquet", False),
    ],
)
def test_a_path_of_a_machine_is_recognised(text, bad):
    assert bool(A_PATH.search(text)) is bad


def run(folder):
    """The notebook, executed in a new kernel; a cell that fails fails the test."""
    made = read()
    for cell in code(made):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(made, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return made


@pytest.mark.local
@pytest.mark.kernel
@pytest.mark.timeout(420)  # twenty replies and their summaries on a slow machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_it_runs_folds_and_a_second_run_is_answered_from_the_store(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setenv("VOXNB_STORE", str(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first = run(tmp_path)
    assert {one.name for cell in code(first) for one in cell.outputs if one.output_type == "stream"} == {"stdout"}
    assert "all holds" in output(cell_with(first, "verify()"))
    with voxnb.ContextStore(path) as store:
        calls, rows = store.calls("quickstart"), everything(store)
        assert len(store.summaries("quickstart")) >= 2
        assert list(calls["purpose"]).count("turn") == len(store.turns("quickstart")) == 19
        assert store.verify()

    second = run(tmp_path)
    with voxnb.ContextStore(path) as store:
        assert len(store.calls("quickstart")) == len(calls)
        assert everything(store) == rows
    same = [a.source for a, b in zip(code(first), code(second), strict=True) if output(a) == output(b)]
    for words in ("chat.ask(", "summary()", "verify()", "plan(", "explain(", "search("):
        assert any(words in source for source in same), f"the second run shows something else at {words}"
