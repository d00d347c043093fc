"""A terminal gets lines that fit it and cannot drive it; a file gets the text as it is."""

import io

import pytest

from voxnb.terminal.budget import token_bar
from voxnb.terminal.screen import Screen
from voxnb.terminal.text import width_of

ESC = "\x1b"


class Tty(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def tty(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Tty()


def test_spans_are_coloured_and_their_text_cannot_act(tty):
    Screen(tty).line(("title", "1"), f" {ESC}[31mred")
    assert tty.getvalue() == f"{ESC}[1mtitle{ESC}[0m \\x1b[31mred\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_without_colours_no_escape_is_written(tty, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    screen = Screen(tty)
    screen.line(("title", "1"), f"{ESC}[31m")
    screen.head("head")
    screen.line(*token_bar(screen, {"tail": 5}, total_tokens=5, window_tokens=10, reserve_tokens=2))
    assert ESC not in tty.getvalue()
    assert "=====" in tty.getvalue()


def test_a_file_gets_the_text_as_it_is():
    out = io.StringIO()
    screen = Screen(out)
    screen.line(("title", "1"), f" {ESC}[31mred\r")
    screen.write("a\r")
    screen.write("\nb")
    screen.end()
    assert out.getvalue() == f"title {ESC}[31mred\r\na\r\nb\n"


def test_a_reply_in_pieces_cannot_act_on_a_terminal(tty):
    screen = Screen(tty)
    for piece in ("a", ESC, "]52;c;eA==", "\x07", "\r", "\n", "\r", "b"):
        screen.write(piece)
    screen.end()
    assert tty.getvalue() == "a\\x1b]52;c;eA==\\x07\n\\rb\n"


@pytest.mark.parametrize("columns", [1, 20, 33, 60, 110, 200])
def test_a_table_fits_whatever_is_in_it(tty, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [["1", "北京" * 40, "x" * 300], ["1,000", "שלום\n\n" * 9, f"{ESC}[31m" * 50]]
    Screen(tty).table(("n", "name", "text"), rows, right=("n",), flexible=("name", "text"))
    lines = [line.removeprefix(f"{ESC}[1m").removesuffix(f"{ESC}[0m") for line in tty.getvalue().splitlines()]
    assert len(lines) == 3
    assert all(width_of(line) <= max(columns, 20) for line in lines)
    assert ESC not in "".join(lines)


def test_signs_of_ours_have_a_plain_form_where_there_is_no_unicode():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    Screen(out).head("a · b … é")
    assert raw.getvalue().decode().strip().startswith("-- a - b ~ \\xe9 ---")


def test_a_bar_is_never_longer_than_its_terminal_allows(tty, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    spans = token_bar(Screen(tty), {"tail": 9_999}, total_tokens=9_999, window_tokens=100, reserve_tokens=50)
    text = Screen(tty).rendered(*spans)
    assert text.index("]") - text.index("[") - 1 == 22
