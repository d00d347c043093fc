"""How far something long is: what is drawn where, and how often."""

import pytest

from voxnb.runtime import cells, progress
from voxnb.runtime.progress import following


@pytest.fixture
def cell(monkeypatch):
    """What a kernel would display: (bundle, display id, whether it replaces)."""
    shown = []
    monkeypatch.setattr(cells, "in_kernel", lambda: True)
    monkeypatch.setattr(
        "IPython.display.display", lambda data, *, raw, display_id, update: shown.append((data, display_id, update))
    )
    return shown


def test_a_notebook_gets_one_line_of_plain_text_that_is_replaced_and_stays(cell, monkeypatch):
    monkeypatch.setattr(progress, "TICK_S", 0.0)
    with following(None, title="<b>loading</b>", total=3, unit="row") as step:
        for done in (1, 2, 3):
            step(done)
    assert [data["text/plain"].rpartition(",")[0] for data, *_ in cell] == [
        f"<b>loading</b>: {done} of 3 rows" for done in range(4)
    ]
    assert all(set(data) == {"text/plain", "text/html"} for data, *_ in cell), "no widget is needed to read it"
    assert "&lt;b&gt;loading" in cell[-1][0]["text/html"]
    assert len({name for _, name, _ in cell}) == 1
    assert [update for *_, update in cell] == [False, True, True, True]


def test_quick_work_is_drawn_at_its_begin_and_end_alone(cell):
    with following(None, title="quick", total=1000, unit="row") as step:
        for done in range(1, 1001):
            step(done)
    assert cell[-1][0]["text/plain"].startswith("quick: 1,000 of 1,000 rows")
    assert len(cell) < 20


def test_what_need_not_be_shown_when_it_is_quick_is_shown_when_it_is_slow_or_asked_for(cell):
    for wanted, after_s, lines in ((None, 1000.0, 0), (True, 1000.0, 2), (None, 1e-9, 2)):
        with following(wanted, title="import", total=1, unit="row", after_s=after_s) as step:
            step(1)
        assert len(cell) == lines
        cell.clear()


def test_what_ends_too_early_stays_where_it_was(cell):
    with pytest.raises(ValueError, match="broken"), following(None, title="half", total=2, unit="row") as step:
        step(1)
        raise ValueError("broken")
    assert cell[-1][0]["text/plain"].startswith("half: 1 of 2 rows")


def test_nothing_is_drawn_where_it_is_not_wanted(cell):
    with following(False, title="quiet", total=1, unit="row") as step:
        step(1)
    assert cell == []
