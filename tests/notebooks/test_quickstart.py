"""The quickstart notebook: it runs against the embedded model, and running it again costs nothing."""

import pytest

import voxnb
from tests.invariants.scripted import everything
from tests.notebooks.saved import A_PATH, ROOT, Notebook, output

QUICKSTART = Notebook("01_quickstart.ipynb")


def test_the_saved_notebook_has_every_kind_of_output_but_errors():
    kinds = {one.output_type for cell in QUICKSTART.cells for one in cell.outputs}
    assert kinds == {"stream", "display_data", "execute_result"}


def test_the_saved_notebook_shows_folds_and_that_nothing_is_lost():
    assert "folded ---" in output(QUICKSTART.cell("for line in lines"))
    assert "rebuilt exactly" in output(QUICKSTART.cell("explain("))
    assert output(QUICKSTART.cell("verify()")).startswith("all holds: 1 conversation, 19 turns")


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


@pytest.mark.local
@pytest.mark.kernel
@pytest.mark.timeout(420)  # twenty replies and their summaries on a slow machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_it_runs_folds_and_a_second_run_is_answered_from_the_store(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setenv("VOXNB_STORE", str(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first = QUICKSTART.run(tmp_path)
    assert first.streams() == {"stdout"}
    assert "all holds" in output(first.cell("verify()"))
    with voxnb.ContextStore(path) as store:
        calls, rows = store.calls("quickstart"), everything(store)
        assert len(store.summaries("quickstart")) >= 2
        assert list(calls["purpose"]).count("turn") == len(store.turns("quickstart")) == 19
        assert store.verify()

    second = QUICKSTART.run(tmp_path)
    with voxnb.ContextStore(path) as store:
        assert len(store.calls("quickstart")) == len(calls)
        assert everything(store) == rows
    same = [a.source for a, b in zip(first.cells, second.cells, strict=True) if output(a) == output(b)]
    for words in ("chat.ask(", "summary()", "verify()", "plan(", "explain(", "search("):
        assert any(words in source for source in same), f"the second run shows something else at {words}"
