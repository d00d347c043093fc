"""The voice recipes: each runs, and says what its saved output says."""

import pytest

from tests.notebooks.saved import ROOT, Notebook

RECIPES = Notebook("06_voice_recipes.ipynb")


def said(cell):
    """What a cell printed, and what it showed; a stream comes in pieces that differ from run to run."""
    return "".join(one.get("text", "") for one in cell.outputs), [dict(one.get("data", {})) for one in cell.outputs if "data" in one]  # fmt: skip


@pytest.mark.kernel
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_every_recipe_runs_and_says_what_is_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = RECIPES.run(tmp_path)
    for saved, now in zip(RECIPES.cells, again.cells, strict=True):
        assert said(now) == said(saved), saved.source
