"""The demo's conversation is what its README says: lines, planted facts, a correction, a tool's result."""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata

import pytest

from voxnb.messages import parse_messages

KINDS = {"name", "number", "date", "identifier", "path"}


@pytest.fixture(scope="module")
def script(root):
    return json.loads((root / "data" / "demo" / "conversation.json").read_text(encoding="utf-8"))


def normalised(text):
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"(?<=\d),(?=\d)", "", text).split())


def says(text, fact):
    """Does the text hold one of the ways to say a fact, as words of their own?"""
    return any(
        re.search(rf"(?<!\w){re.escape(normalised(way))}(?!\w)", normalised(text)) is not None for way in fact["text"]
    )


def heard(turn):
    return "\n".join([turn["user"], turn.get("tool", {}).get("result", "")])


def messages_of(script):
    """The whole script as the messages of one conversation, every user line answered."""
    out = [{"role": "system", "content": script["instructions"]}]
    for turn in script["turns"]:
        out.append({"role": "user", "content": turn["user"]})
        if tool := turn.get("tool"):
            function = {"name": tool["name"], "arguments": json.dumps(tool["arguments"])}
            call = {"id": tool["call_id"], "type": "function", "function": function}
            out.append({"role": "assistant", "content": None, "tool_calls": [call]})
            out.append({"role": "tool", "tool_call_id": tool["call_id"], "content": tool["result"]})
        out.append({"role": "assistant", "content": "Noted."})
    return out


def test_it_has_the_keys_that_are_documented(script):
    assert set(script) == {"title", "instructions", "turns", "facts"}
    assert all({"user"} <= set(turn) <= {"user", "tool"} for turn in script["turns"])
    assert all(set(t["tool"]) == {"call_id", "name", "arguments", "result"} for t in script["turns"] if "tool" in t)
    required = {"id", "kind", "text", "planted_in"}
    assert all(required <= set(fact) <= required | {"superseded_by"} for fact in script["facts"])


def test_it_is_long_enough_to_be_folded_several_times(script):
    assert len(script["turns"]) >= 32


def test_its_lines_are_short(script):
    assert max(len(turn["user"].split()) for turn in script["turns"]) <= 20
    assert all(turn["user"] == " ".join(turn["user"].split()) for turn in script["turns"])


def test_every_fact_is_said_in_the_turn_that_plants_it_and_not_before(script):
    for fact in script["facts"]:
        first = next(n for n, turn in enumerate(script["turns"], 1) if says(heard(turn), fact))
        assert first == fact["planted_in"], fact["id"]
        assert says(heard(script["turns"][first - 1]), {"text": fact["text"][:1]}), "the planted way comes first"


def test_facts_are_of_every_kind_and_tell_themselves_apart(script):
    facts = script["facts"]
    assert {fact["kind"] for fact in facts} == KINDS
    assert len({fact["id"] for fact in facts}) == len(facts)
    assert all(fact["text"] and all(fact["text"]) for fact in facts)


def test_a_fact_is_corrected_by_a_later_line_that_names_both(script):
    by_id = {fact["id"]: fact for fact in script["facts"]}
    corrected = [fact for fact in script["facts"] if "superseded_by" in fact]
    assert corrected
    for old in corrected:
        new = by_id[old["superseded_by"]]
        line = script["turns"][new["planted_in"] - 1]["user"]
        assert old["planted_in"] < new["planted_in"]
        assert says(line, old)
        assert says(line, new)


def test_a_fact_is_known_from_a_tool_result_alone(script):
    from_tool = [
        fact
        for fact in script["facts"]
        if "tool" in (turn := script["turns"][fact["planted_in"] - 1]) and not says(turn["user"], fact)
    ]
    assert from_tool


def test_most_facts_are_planted_early_enough_to_be_folded(script):
    early = [fact for fact in script["facts"] if fact["planted_in"] <= len(script["turns"]) - 8]
    assert len(early) >= 0.75 * len(script["facts"])


def test_it_is_a_message_list_that_the_library_takes(script):
    assert len(parse_messages(messages_of(script))) == len(messages_of(script))


def test_a_number_is_found_with_and_without_its_comma_and_not_inside_another():
    fact = {"text": ["11,930"]}
    assert says("there are 11930 riders", fact)
    assert says("there are 11,930.", fact)
    assert not says("there are 111,930 riders", fact)


def test_it_travels_in_the_wheel(root):
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    assert "data/demo" in wheel["only-include"]
    assert wheel["sources"]["data/demo"] == "voxnb/data/demo"
    assert "/data" in build["targets"]["sdist"]["include"]


def test_the_readme_says_how_many_lines_it_has(root, script):
    assert f"conversation of {len(script['turns'])} lines" in (root / "README.md").read_text(encoding="utf-8")
