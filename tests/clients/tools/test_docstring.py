"""Docstrings of three styles, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.clients.tools.docstring import read_docstring

GOOGLE = """Find rows.

    Looks everywhere: also in the archive.

    Args:
        query (str): What to look for,
            in any language.
        limit (int, optional): How many: at most 50.
        **rest: ignored

    Returns:
        list: rows

    Raises:
        ValueError: never
    """
NUMPY = """Find rows.

    Looks everywhere: also in the archive.

    Parameters
    ----------
    query : str
        What to look for,
        in any language.
    limit : int, optional
        How many: at most 50.
    **rest
        ignored

    Returns
    -------
    list
        rows
    """
REST = """Find rows.

    Looks everywhere: also in the archive.

    :param str query: What to look for,
        in any language.
    :param limit: How many: at most 50.
    :type limit: int, optional
    :param rest: ignored
    :returns: rows
    :raises ValueError: never
    """


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_each_style_says_the_same(doc):
    said = read_docstring(doc)
    assert said.text == "Find rows.\n\nLooks everywhere: also in the archive."
    assert said.arguments == {
        "query": "What to look for, in any language.",
        "limit": "How many: at most 50.",
        "rest": "ignored",
    }
    assert said.types == {"query": "str", "limit": "int, optional"}


def test_several_names_of_one_numpy_entry_share_its_text():
    said = read_docstring("Add.\n\nParameters\n----------\na, b : float\n    A summand.\n")
    assert said.arguments == {"a": "A summand.", "b": "A summand."}
    assert said.types == {"a": "float", "b": "float"}


def test_nothing_is_said_where_there_is_no_docstring():
    assert read_docstring(None).text == ""
    assert read_docstring("") == read_docstring(None)


def test_prose_with_colons_is_no_section():
    doc = "Weather now.\n\nExample of use: none.\nunits: metric\n"
    assert read_docstring(doc).text == "Weather now.\n\nExample of use: none.\nunits: metric"


def test_text_after_the_arguments_at_the_left_edge_is_no_argument():
    said = read_docstring("F.\n\nArgs:\n    a: first\n\nb: no argument\n")
    assert said.arguments == {"a": "first"}


@given(st.text(max_size=300))
def test_any_text_can_be_read(doc):
    said = read_docstring(doc)
    assert all(isinstance(v, str) for v in (said.text, *said.arguments.values(), *said.types.values()))
