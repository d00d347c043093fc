"""voxnb's tables in a notebook: long texts folded, times that read, everything escaped; other tables as they were."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

import voxnb
from voxnb import testing
from voxnb.notebook import frame_html
from voxnb.notebook.frame_html import LONG, draw, table_html
from voxnb.runtime.marked import MARK, marked

FRAME = '<div class="voxnb-reply tex2jax_ignore mathjax_ignore">'
"""In it no TeX is typeset: neither a price of $5 nor an address hidden in a formula."""

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</details></td><b>",
    "\x1b]0;title\x07",
    "$\\href{javascript:x}{y}$",
)


@pytest.fixture
def store():
    with voxnb.ContextStore(":memory:") as made:
        yield made


def cells_of(page):
    return re.findall(r"<td>(.*?)</td>", re.sub(r"</?nobr>", "", page), re.DOTALL)


def test_a_long_text_is_folded_and_short_ones_stand_in_their_line(store):
    long = "word " * 300
    store.append("iris", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": long}])
    page = draw(store.turns(columns=["user_text", "reply_text"]))
    short, folded = cells_of(page)
    assert short == '<div align="left">Hi</div>'
    summary = re.search(r"<details><summary>(.*?)</summary>(.*?)</details>", folded, re.DOTALL)
    assert len(summary[1]) <= LONG + 2
    assert summary[2] == long


def test_a_text_without_end_stays_small_on_the_page():
    page = table_html(pd.DataFrame({"text": ["x" * 2_000_000]}))
    assert len(page) < 10_000
    assert "(2,000,000 characters)" in page


def test_times_are_read_and_say_their_zone_once(store):
    at = datetime(2026, 3, 4, 5, 6, 7, 891, tzinfo=UTC)
    page = table_html(marked(pd.DataFrame({"created_at": pd.DatetimeIndex([at, None]).tz_convert("UTC")})))
    assert "<th>created_at (UTC)</th>" in page
    assert cells_of(page) == ["2026-03-04 05:06:07", ""]


def test_numbers_read_and_what_is_not_known_is_nothing():
    page = table_html(
        pd.DataFrame(
            {
                "tokens": pd.array([12345, None], dtype="Int64"),
                "duration_ms": [1234.56, float("nan")],
                "cost_usd": pd.array([0.00042, None], dtype="Float64"),
                "pinned": [True, False],
            }
        )
    )
    assert cells_of(page) == ["12,345", "1,235", "0.000420", "yes", "", "", "", ""]


def test_no_column_shrinks_to_a_word():
    page = table_html(pd.DataFrame({"model": ["gpt-4o mini"], "text": ["one two " * 8], "turn_id": ["t-7"], "n": [1]}))
    assert re.findall("<nobr>(.*?)</nobr>", page) == ["text" + "&emsp;" * 14, "gpt-4o mini", "t-7"]


def test_ids_are_told_by_their_ends():
    page = table_html(pd.DataFrame({"turn_id": ["t-06h1tgfemexrcwvpqdvwe64b6", "t-7", None]}))
    assert cells_of(page) == ["t-…we64b6", "t-7", ""]


def test_the_head_of_a_text_stands_over_it_and_that_of_a_number_too():
    page = table_html(pd.DataFrame({"role": ["user"], "n": [1], "turn_id": ["t-7"]}))
    assert re.findall("<th>(.*?)</th>", page) == ['<div align="left">role</div>', "n", "turn_id"]


def test_many_rows_show_their_ends_as_pandas_does():
    page = table_html(pd.DataFrame({"n": range(1000)}))
    assert cells_of(page) == ["0", "1", "2", "3", "4", "…", "995", "996", "997", "998", "999"]
    assert "1,000 rows × 1 columns" in page
    with pd.option_context("display.max_rows", None):
        assert len(cells_of(table_html(pd.DataFrame({"n": range(1000)})))) == 1000
    assert len(cells_of(table_html(pd.DataFrame({"n": range(1000)}), whole=True))) == 1000


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_table_says_acts_on_the_page(text):
    page = table_html(
        pd.DataFrame({text: [text, text * 40], "x": [[text], {text: text}]}, index=pd.Index([text, "b"], name=text)),
        title=text,
    )
    assert page.startswith(FRAME)
    tags = set(re.findall(r"<[^>]*>", page))
    assert tags <= {
        FRAME, '<div align="left">', "</div>", "<br>", "<details>", "</details>", "<summary>", "</summary>",
        *(f"<{end}{tag}>" for tag in ("table", "thead", "tbody", "tr", "th", "td", "p", "small", "nobr") for end in ("", "/")),
    }  # fmt: skip
    assert "\x1b" not in page
    assert "style" not in page


def test_the_mark_goes_along_and_other_tables_are_pandas_own(store):
    store.append("iris", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}])
    turns = store.turns()
    for made in (
        turns,
        turns[turns["seq"] > 0],
        turns[["user_text", "seq"]],
        turns.sort_values("seq"),
        store.sql("SELECT 1 AS one"),
        store.search("Hi"),
    ):
        assert made.attrs[MARK]
        assert 'align="left"' in draw(made) or "<td>1</td>" in draw(made)
    plain = pd.DataFrame({"a": [1]})
    assert draw(plain) == plain._repr_html_()
    grouped = turns.groupby(["state", "model"], observed=True)[["seq"]].sum()
    grouped.attrs[MARK] = True
    assert draw(grouped) == grouped._repr_html_(), "several levels are pandas' business"


def test_the_mark_changes_no_comparison_and_no_file(store, tmp_path):
    turns = store.turns()
    unmarked = turns.copy()
    unmarked.attrs.clear()
    pd.testing.assert_frame_equal(turns, unmarked)
    turns.to_parquet(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet").columns.tolist() == turns.columns.tolist()


def test_a_notebook_draws_them_unless_somebody_else_draws_tables(store, monkeypatch):
    class Shell:
        display_formatter = DisplayFormatter()

    monkeypatch.setattr("voxnb.runtime.cells.shell", lambda: Shell)
    html = Shell.display_formatter.formatters["text/html"]
    html.for_type(pd.DataFrame, lambda df: "theirs")
    frame_html.install()
    assert html(store.turns()) == "theirs"
    html.pop(pd.DataFrame)
    turns = store.turns()
    assert html(turns) == table_html(turns)
    assert html(pd.DataFrame({"a": [1]})) == pd.DataFrame({"a": [1]})._repr_html_()


def test_a_plan_and_a_summary_typeset_no_formula_and_keep_the_lines_of_what_was_said():
    text = "- It costs $5 or $6.\n- $\\href{javascript:x}{y}$ <script>alert(1)</script>"
    policy = voxnb.ContextPolicy(window_tokens=900, fold_at_tokens=300, keep_last_turns=1, summary_max_tokens=100)
    with (
        testing.server(lambda _: text) as server,
        voxnb.chat("m", base_url=server.base_url, store=":memory:", policy=policy) as chat,
    ):
        for _ in range(3):
            chat.ask("word " * 60).result()
        chat.conversation.fold().result()
        plan, summary = (
            chat.conversation.plan("How much is $5?")._repr_html_(),
            chat.conversation.summary()._repr_html_(),
        )
        assert chat.statistics().df.attrs[MARK]
    for page in (plan, summary):
        assert page.startswith(FRAME)
        assert "<script" not in page
    assert "How much is $5?" in plan
    assert re.findall("<li>(.*?)</li>", summary) == [
        "It costs $5 or $6.",
        "$\\href{javascript:x}{y}$ &lt;script&gt;alert(1)&lt;/script&gt;",
    ]
