"""What holds of every saved notebook: it ran from top to bottom, and says nothing of where."""

import pytest

from tests.notebooks.saved import ROOT, Notebook, traces

ALL = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", ALL)
def test_the_saved_notebook_was_run_from_top_to_bottom(name):
    notebook = Notebook(name)
    assert [cell.execution_count for cell in notebook.cells] == list(range(1, len(notebook.cells) + 1))
    assert notebook.streams() == {"stdout"}


@pytest.mark.parametrize("name", ALL)
def test_the_saved_notebook_names_no_machine_and_no_key(name):
    assert traces(Notebook(name).path) == []


@pytest.mark.parametrize("name", ALL)
def test_nothing_in_the_saved_notebook_needs_a_widget(name):
    shown = [one.data for cell in Notebook(name).cells for one in cell.outputs if "data" in one]
    assert [data["text/plain"] for data in shown if any("widget" in kind for kind in data)] == []
