"""Secrets are kept out of a tape, in whatever pieces a stream says them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.errors import ParameterError
from voxnb.taping.redact import Redactor

SECRETS = [
    "sk-proj-abcdefgh12345678",
    "ghp_" + "a1B2" * 9,
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-1234567890-abcdef",
    "hf_" + "Zy" * 15,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "Ada Lovelace",
]


@pytest.fixture
def hide():
    return Redactor(["Ada Lovelace"])


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_wherever_it_stands(hide, secret):
    hidden = hide(f"before {secret} after")
    assert hidden == "before … after"
    assert hide(hidden) == hidden


@pytest.mark.parametrize("secret", SECRETS)
@given(data=st.data())
def test_no_piece_of_a_stream_gives_a_secret_away(secret, data):
    hide = Redactor(["Ada Lovelace"])
    text = f"It is {secret}, I think."
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(1, len(text) - 1), max_size=6))})
    events = [
        {"type": "x.delta", "n": n, "delta": text[a:b]} for n, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]
    kept = hide.events(events)
    assert "".join(event["delta"] for event in kept) == "It is …, I think."
    assert [event["n"] for event in kept] == list(range(len(events)))


def test_streams_that_run_side_by_side_are_put_together_apart(hide):
    events = [
        {"choices": [{"index": n % 2, "delta": {"content": text}}]}
        for n, text in enumerate(["Ada ", "Ada ", "Lovelace", "Byron"])
    ]
    told = [{"type": f"{n % 2}", **event} for n, event in enumerate(events)]
    kept = hide.events(told)
    assert "Lovelace" not in json.dumps(kept)
    assert kept[1]["choices"][0]["delta"]["content"] + kept[3]["choices"][0]["delta"]["content"] == "Ada Byron"


def test_events_without_secrets_are_as_they_were(hide):
    events = [{"a.b": {"c": ["sky", 1, None]}}, "[DONE]", {"a.b": {"c": ["blue", 1, None]}}]
    assert hide.events(events) == events


def test_a_key_with_a_dot_is_found_again(hide):
    assert hide.events([{"a.b": {"c": ["Ada Lovelace"]}, "a": {"b": {"c": ["x"]}}}])[0]["a.b"] == {"c": ["…"]}


def test_what_the_environment_calls_a_secret_is_one(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "not-of-any-shape-42")
    monkeypatch.setenv("SHORT_KEY", "abc")
    assert Redactor()("abc not-of-any-shape-42") == "abc …"


@pytest.mark.parametrize("name", ["DB_PWD", "KEY_2", "API_KEY2", "GPG_PASSPHRASE", "db_pass", "AWS_CREDENTIAL"])
def test_secrets_have_many_names(monkeypatch, name):
    monkeypatch.setenv(name, "correct horse")
    assert Redactor()("the correct horse") == "the …"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "BYPASS", "KEY_FILE_NAME"])
def test_a_folder_is_none(monkeypatch, name):
    monkeypatch.setenv(name, "/home/someone")
    assert Redactor()("in /home/someone") == "in /home/someone"


def test_a_function_redacts_before_everything_else():
    assert Redactor(lambda text: text.replace("Berlin", "City"))("Berlin sk-abcdefgh") == "City …"


@pytest.mark.parametrize("redact", [7, [1], [""]])
def test_what_redacts_nothing_is_refused(redact):
    with pytest.raises(ParameterError, match="redact"):
        Redactor(redact)


def test_a_function_that_returns_no_text_is_named():
    with pytest.raises(ParameterError, match="NoneType"):
        Redactor(lambda text: None)("x")
