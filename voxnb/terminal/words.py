"""The command line's words for Python's, in errors and warnings."""

from __future__ import annotations

from typing import Final

IN_SHELL: Final = (
    ('pass api_key="sk-…" or set OPENAI_API_KEY', "set OPENAI_API_KEY"),
    ('base_url="local"', "--base-url local"),
    ('base_url="ollama"', "--base-url ollama"),
    ("another base_url", "another --base-url"),
    ('if_exists="fail"', "--new makes a new one only"),
    ('choose another name or "append"', "choose another name or leave --new out"),
    ("set policy=ContextPolicy(window_tokens=…)", "say --window-tokens N"),
    ("unite it with store.merge(…)", "unite it with `voxnb merge`"),
    ("see store.conversations()", "see `voxnb conversations`"),
    ("pass overwrite=True", "say --overwrite (voxnb export)"),
    ("say format=…", "say --format"),
    ("columns= is for rows", "--columns is for rows"),
    ("roles= has no use", "--roles has no use"),
    ("copy= has no use", "--copy has no use"),
    ("(store=… or VOXNB_STORE)", "(--store or VOXNB_STORE)"),
)
"""What an error says in Python → the same on the command line."""


def in_shell(text: str) -> str:
    """A text with the command line's words for Python's.

    >>> in_shell('no key; base_url="local" runs the embedded model')
    'no key; --base-url local runs the embedded model'
    """
    for python, shell in IN_SHELL:
        text = text.replace(python, shell)
    return text
