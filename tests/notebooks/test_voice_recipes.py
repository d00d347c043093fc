"""The voice recipes: each runs, and says what its saved output says."""

import pytest

from tests.notebooks.saved import ROOT, Notebook, traces

RECIPES = Notebook("06_voice_recipes.ipynb")


def said(cell):
    """What a cell printed, and what it showed; a stream comes in pieces that differ from run to run."""
    return "".join(one.get("text", "") for one in cell.outputs), [dict(one.get("data", {})) for one in cell.outputs if "data" in one]  # fmt: skip


def test_the_saved_notebook_was_run_from_top_to_bottom():
    assert [cell.execution_count for cell in RECIPES.cells] == list(range(1, len(RECIPES.cells) + 1))
    assert RECIPES.streams() == {"stdout"}


def test_the_saved_notebook_names_no_machine_and_no_key():
    assert traces(RECIPES.path) == []


@pytest.mark.kernel
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_every_recipe_runs_and_says_what_is_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = RECIPES.run(tmp_path)
    for saved, now in zip(RECIPES.cells, again.cells, strict=True):
        assert said(now) == said(saved), saved.source
