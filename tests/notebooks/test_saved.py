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
