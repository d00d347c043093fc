"""Messages are values: equal if they say the same, hashed alike for ever, refused with a reason if they are none."""

from __future__ import annotations

import copy
import enum
import json
import time
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ParsedChatCompletionMessage
from pydantic import BaseModel

from voxnb.errors import MessageError
from voxnb.messages import (
    ANSWER_ROLES,
    INSTRUCTION_ROLES,
    MAX_DEPTH,
    ROLES,
    Message,
    canonical,
    content_text,
    digest,
    group_turns,
    parse_message,
    parse_messages,
    split_instructions,
    unpaired,
    without_none,
)

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def user(text="Hi", **more):
    return {"role": "user", "content": text, **more}


def calls(*ids, content=None):
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids],
    }


def result(call_id, text="ok"):
    return {"role": "tool", "tool_call_id": call_id, "content": text}


# -- what counts as equal ---------------------------------------------------------------------

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

SAME = {
    "None values": (user("a"), user("a", name=None, refusal=None)),
    "text as one part": (user("a"), user([{"type": "text", "text": "a"}])),
    "no text": (user(""), user([])),
    "an answer of tool calls, content null or empty": (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ),
    "content left out": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ),
    "annotations and reasoning": (
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "annotations": [], "reasoning_content": "hm", "reasoning": "hm"},
    ),
    "no tool calls": ({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "a", "tool_calls": []}),
    "a parsed answer": (
        {"role": "assistant", "content": "{}"},
        {"role": "assistant", "content": "{}", "parsed": {"x": 1}},
    ),
    "what a provider adds to a call": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL | {"index": 0, "extra_content": {"google": {"thought": "x"}}}]},
    ),
    "the type of a call left out": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{k: v for k, v in CALL.items() if k != "type"}]},
    ),
    "None inside a part": (user([PICTURE, {"type": "text", "text": "a", "x": None}]), user([PICTURE, {"type": "text", "text": "a"}])),
    "order of keys": ({"content": "a", "role": "user"}, {"role": "user", "content": "a"}),
    "a list or a tuple of parts": (user([PICTURE, PICTURE]), user((PICTURE, PICTURE))),
    "data of spoken audio": (
        {"role": "assistant", "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hi"}},
        {"role": "assistant", "audio": {"id": "audio_1"}},
    ),
}  # fmt: skip

DIFFERENT = {
    "role": (user("a"), {"role": "system", "content": "a"}),
    "text": (user("a"), user("a ")),
    "name": (user("a"), user("a", name="bob")),
    "refusal": ({"role": "assistant", "content": None}, {"role": "assistant", "content": None, "refusal": "no"}),
    "which call is answered": (result("c1"), result("c2")),
    "id of a call": (calls("c1"), calls("c2")),
    "order of calls": (calls("c1", "c2"), calls("c2", "c1")),
    "arguments": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "{ }"}}]},
    ),
    "kind of call": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "{}"}}]},
    ),
    "a picture more": (user([{"type": "text", "text": "a"}, PICTURE]), user("a")),
    "two parts or one": (
        user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        user([{"type": "text", "text": "a\nb"}]),
    ),
    "which audio was spoken": (
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "assistant", "audio": {"id": "audio_2"}},
    ),
    "normal forms of Unicode": (user("é"), user("e\u0301")),
}


@pytest.mark.parametrize(("a", "b"), SAME.values(), ids=SAME.keys())
def test_messages_that_say_the_same_are_equal(a, b):
    one, other = parse_message(a), parse_message(b)
    assert one == other
    assert one.content_hash == other.content_hash
    assert hash(one) == hash(other)


@pytest.mark.parametrize(("a", "b"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_messages_that_say_something_else_are_not_equal(a, b):
    one, other = parse_message(a), parse_message(b)
    assert one != other
    assert one.content_hash != other.content_hash


def test_a_message_equals_no_dict():
    assert parse_message(user()) != user()


# Hashes stand in stores of users: a change here makes every stored conversation a stranger to its own messages.
PINNED = [
    (user("Hi"), "b2:f9a36ea9178f7be06c3bb6c34ae1f97d"),
    (
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        "b2:15a0442612367d779a4599bea0134d1d",
    ),
    ({"role": "tool", "tool_call_id": "call_1", "content": "Zürich 東京"}, "b2:064c8f6df25a7048a41ba393d87eee0a"),
    (
        user([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]),
        "b2:cd7166c3467139ebb4d49f530a0c237f",
    ),
]


@pytest.mark.parametrize(("message", "expected"), PINNED)
def test_a_hash_is_the_same_in_every_version(message, expected):
    assert parse_message(message).content_hash == expected


def test_a_digest_is_blake2b_of_the_utf8_text():
    assert digest("abc") == "b2:cf4ab791c62b8d2b2109c90275287816"
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'


# -- in and out -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, texts),
    st.builds(lambda kind, more: {"type": kind, "data": more}, texts.filter(lambda t: t != "text"), values),
)
identities = st.sampled_from(["c1", "c2", "c3", "c4"])


@st.composite
def wire_messages(draw):
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool"]))
    content = texts | st.lists(parts, max_size=3)
    message = {"role": role, "content": draw(content | st.none() if role == "assistant" else content)}
    if role == "tool":
        message["tool_call_id"] = draw(identities)
    if role == "assistant" and draw(st.booleans()):
        message |= {"tool_calls": calls(*draw(st.lists(identities, unique=True, min_size=1)))["tool_calls"]}
    if draw(st.booleans()):
        message["metadata"] = draw(values.filter(lambda v: v is not None))
    return message


@given(wire_messages())
def test_a_message_goes_in_and_out_as_it_was(message):
    before = copy.deepcopy(message)
    parsed = parse_message(message)
    assert message == before, "the caller's dict was changed"
    assert parsed.to_dict() == message
    assert json.loads(json.dumps(parsed.to_dict())) == message


@given(wire_messages())
def test_parsing_what_was_given_out_gives_the_same_message(message):
    parsed = parse_message(message)
    again = parse_message(parsed.to_dict())
    stored = Message.from_dict(json.loads(canonical(parsed.to_dict())))
    assert again == parsed == stored
    assert again.content_hash == parsed.content_hash == stored.content_hash


@given(wire_messages())
def test_a_parsed_message_shares_nothing_that_can_change(message):
    parsed = parse_message(message)
    key = parsed.content_hash
    for part in message["content"] if isinstance(message["content"], list) else ():
        part["text"] = "changed"
    for call in message.get("tool_calls", ()):
        call["function"]["name"] = "changed"
    message["metadata"] = "changed"
    assert parsed.content_hash == key
    assert "changed" not in json.dumps(parsed.to_dict())


def test_what_a_message_has_can_be_asked():
    message = parse_message(user([{"type": "text", "text": "look"}, PICTURE, {"type": "text", "text": "here"}]))
    assert message.text == "look\nhere"
    assert message.parts == (PICTURE,)
    assert message.tool_calls == ()
    assert message.tool_call_id is None
    assert [c["id"] for c in parse_message(calls("a", "b")).tool_calls] == ["a", "b"]
    assert parse_message(result("a")).tool_call_id == "a"
    assert parse_message(calls("a")).text == ""


def test_text_of_every_kind_of_content():
    assert content_text(None) == ""
    assert content_text("a") == "a"
    assert (
        content_text([{"type": "input_text", "text": "a"}, {"type": "x"}, {"type": "output_text", "text": "b"}])
        == "a\nb"
    )


@given(values)
def test_without_none_leaves_out_nothing_else(value):
    def has_none_entry(held):
        if isinstance(held, dict):
            return any(v is None or has_none_entry(v) for v in held.values())
        return isinstance(held, list) and any(map(has_none_entry, held))

    cleaned = without_none(value)
    assert not has_none_entry(cleaned)
    assert without_none(cleaned) == cleaned
    if not has_none_entry(value):
        assert cleaned == value


# -- objects of the SDK and other shapes ------------------------------------------------------


def test_an_sdk_message_is_taken_as_it_is():
    message = ChatCompletionMessage(role="assistant", content="Hello", refusal=None, annotations=[])
    before = message.model_copy(deep=True)
    parsed = parse_message(message)
    assert parsed == parse_message({"role": "assistant", "content": "Hello"})
    assert message == before


def test_sdk_tool_calls_are_taken_whole_and_inside_a_dict():
    message = ChatCompletionMessage.model_validate(calls("c1", "c2"))
    expected = parse_message(calls("c1", "c2"))
    assert parse_message(message) == expected
    assert parse_message({"role": "assistant", "content": None, "tool_calls": message.tool_calls}) == expected


def test_a_parsed_sdk_answer_says_what_its_text_says():
    class Weather(BaseModel):
        degrees: int

    message = ParsedChatCompletionMessage[Weather](role="assistant", content='{"degrees":3}', parsed=Weather(degrees=3))
    assert parse_message(message) == parse_message({"role": "assistant", "content": '{"degrees":3}'})


def test_an_empty_list_of_calls_is_left_out():
    assert parse_message({"role": "assistant", "content": "a", "tool_calls": []}).to_dict() == {
        "role": "assistant",
        "content": "a",
    }


def test_a_list_may_mix_dicts_sdk_objects_and_messages():
    given_list = [user("a"), ChatCompletionMessage(role="assistant", content="b"), parse_message(user("c"))]
    assert [m.text for m in parse_messages(given_list)] == ["a", "b", "c"]


def test_any_iterable_is_a_list():
    assert [m.text for m in parse_messages(user(t) for t in "ab")] == ["a", "b"]
    assert parse_messages(()) == []
    assert parse_messages({1: user("a")}.values())[0].text == "a"


def test_read_only_mappings_and_enums_are_plain_in_the_end():
    class Role(str, enum.Enum):  # noqa: UP042 - the older way, whose str() is not its value
        USER = "user"

    message = MappingProxyType({"role": Role.USER, "content": (MappingProxyType({"type": "text", "text": "a"}),)})
    out = parse_message(message).to_dict()
    assert out == {"role": "user", "content": [{"type": "text", "text": "a"}]}
    assert type(out["role"]) is str
    assert type(out["content"][0]) is dict


# -- bad lists --------------------------------------------------------------------------------


class Weather(BaseModel):
    degrees: int


def cyclic():
    part = {"type": "x"}
    part["again"] = part
    return [part]


def deep(levels):
    value = "end"
    for _ in range(levels):
        value = [value]
    return value


NOT_A_LIST = {
    "text": "Hi",
    "bytes": b"Hi",
    "bytearray": bytearray(b"Hi"),
    "one message": user(),
    "None": None,
    "number": 3,
    "an SDK message": ChatCompletionMessage(role="assistant", content="a"),
    "an SDK answer": ChatCompletion.model_construct(choices=[]),
    "a Message": Message("user", "a", {}),
}


@pytest.mark.parametrize("value", NOT_A_LIST.values(), ids=NOT_A_LIST.keys())
def test_what_is_no_list_is_refused(value):
    with pytest.raises(MessageError, match="expected a list of dicts") as caught:
        parse_messages(value)
    assert caught.value.index is None
    assert type(value).__name__ in str(caught.value)


BAD = {
    "a text": ("Hi", "is str, expected a dict"),
    "a tuple": (("user", "Hi"), "is tuple, expected a dict"),
    "None": (None, "is NoneType"),
    "no role": ({"content": "a"}, "has role None, expected one of system"),
    "a role nobody has": (user() | {"role": "User"}, "has role 'User', expected"),
    "a role that is no text": (user() | {"role": ["user"]}, r"has role \['user'\]"),
    "another object": (Weather(degrees=3), "has role None"),
    "no content": ({"role": "user"}, "no content; give a text"),
    "content None": (user(None), "no content"),
    "content None of a tool": ({"role": "tool", "tool_call_id": "c", "content": None}, "no content"),
    "content of numbers": (user(3), "content of type int"),
    "content of bytes": (user(b"a"), r"content is bytes.*use ask\(text, attach="),
    "content of a dict": (user({"type": "text", "text": "a"}), "content of type dict"),
    "a set": (user({"a"}), "content is set"),
    "a part without type": (user([{"text": "a"}]), "part 0 without a type"),
    "a part that is a text": (user([PICTURE, "a"]), "part 1 without a type"),
    "a text part without text": (user([{"type": "text"}]), "part 0 whose text is NoneType"),
    "a text part of bytes": (user([{"type": "text", "text": b"a"}]), r"content\[0\].text is bytes"),
    "a tool without id": ({"role": "tool", "content": "a"}, "no tool_call_id; name the call"),
    "a tool with a number for an id": ({"role": "tool", "tool_call_id": 3, "content": "a"}, "no tool_call_id"),
    "calls of a user": (user(tool_calls=[CALL]), "only the assistant calls tools"),
    "calls that are no list": ({"role": "assistant", "tool_calls": CALL}, "tool_calls of type dict"),
    "a call without id": ({"role": "assistant", "tool_calls": [{"type": "function"}]}, "tool call 0 without an id"),
    "a call that is a text": ({"role": "assistant", "tool_calls": ["f"]}, "tool call 0 without an id"),
    "a function that is a text": ({"role": "assistant", "tool_calls": [{"id": "c", "function": "f"}]}, "function is str"),
    "NaN": (user([{"type": "x", "n": float("nan")}]), r"content\[0\].n is nan"),
    "infinity": (user("a", metadata={"n": float("-inf")}), "metadata.n is -inf"),
    "bytes deep inside": (user([{"type": "x", "data": [{"b": b"a"}]}]), r"content\[0\].data\[0\].b is bytes"),
    "an object": (user("a", metadata=object()), "metadata is object"),
    "a key that is no text": (user("a", metadata={3: 4}), "metadata has the key 3"),
    "a lone surrogate": (user("ab\ud800c"), r"content at character 2 \(a lone surrogate\); repair it"),
    "a lone surrogate in a part": (user([{"type": "text", "text": "\udfff"}]), r"content\[0\].text at character 0"),
    "a lone surrogate in arguments": (
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "\ud800"}}]},
        r"tool_calls\[0\].function.arguments at character 0",
    ),
    "a lone surrogate in a key": (user("a", metadata={"\ud800": 1}), "the key '.ud800'"),
    "a structure that holds itself": (user(cyclic()), "levels deep .or holds itself"),
    "deep nesting": (user("a", metadata=deep(5000)), "levels deep"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_message_is_refused_with_its_index_and_the_reason(message, reason):
    with pytest.raises(MessageError, match=reason) as caught:
        parse_messages([user("fine"), message])
    assert caught.value.index == 1
    assert str(caught.value).startswith("message 1 ")
    str(caught.value).encode()  # can be printed
    assert len(str(caught.value)) < 400


def test_what_is_nested_as_deep_as_allowed_can_be_hashed_and_written():
    message = parse_message(user([PICTURE, {"type": "x", "held": deep(MAX_DEPTH - 3)}]))
    assert message.content_hash.startswith("b2:")
    json.dumps(message.to_dict())
    with pytest.raises(MessageError):
        parse_message(user([{"type": "x", "held": deep(MAX_DEPTH)}]))


def test_a_pair_of_surrogates_written_as_one_character_is_fine():
    assert parse_message(user("😀\x00\u2028")).text == "😀\x00\u2028"


@pytest.mark.parametrize("char", ["a", "é", "😀"])
def test_two_megabytes_of_text_are_a_matter_of_milliseconds(char):
    text = char * (2_000_000 // len(char.encode()))
    began = time.perf_counter()
    message = parse_message(user(text))
    key = message.content_hash
    assert time.perf_counter() - began < 1.0  # about 0.02 s; a quadratic step would take minutes
    assert message.content is text or message.content == text
    assert key == parse_message(user([{"type": "text", "text": text}])).content_hash


# -- pairs and turns --------------------------------------------------------------------------


def parsed(*messages):
    return parse_messages(messages)


def test_results_without_a_call_and_calls_without_a_result_are_found():
    messages = parsed(user(), calls("a", "b"), result("b"), result("x"))
    assert unpaired(messages) == ([(3, "x")], ["a"])


def test_calls_that_were_open_before_are_answered_later():
    assert unpaired(parsed(result("a"), user()), open_ids=["a", "b"]) == ([], ["b"])


def test_a_result_before_its_call_is_an_orphan_and_the_call_still_waits():
    assert unpaired(parsed(result("a"), calls("a"))) == ([(0, "a")], ["a"])


def test_a_second_result_for_one_call_is_an_orphan():
    assert unpaired(parsed(calls("a"), result("a"), result("a"))) == ([(2, "a")], [])


def test_an_id_may_be_used_again_in_the_next_round():
    assert unpaired(parsed(calls("a"), result("a"), calls("a"), result("a"))) == ([], [])


@given(st.lists(wire_messages(), max_size=12), st.lists(identities, unique=True))
def test_unpaired_adds_up(messages, open_ids):
    messages = parsed(*messages)
    orphans, waiting = unpaired(messages, open_ids=open_ids)
    results = [m for m in messages if m.role == "tool"]
    made = {*open_ids, *(c["id"] for m in messages for c in m.tool_calls)}
    assert len(waiting) == len(set(waiting))
    assert set(waiting) <= made
    assert all(messages[n].tool_call_id == call_id for n, call_id in orphans)
    answered = [m.tool_call_id for n, m in enumerate(messages) if m.role == "tool" and n not in dict(orphans)]
    assert len(answered) + len(orphans) == len(results)
    assert set(answered) <= made
    assert made <= {*waiting, *answered}


@given(st.lists(wire_messages(), max_size=12))
def test_instructions_are_the_leading_system_messages_and_nothing_else(messages):
    messages = parsed(*messages)
    leading, rest = split_instructions(messages)
    assert leading + rest == messages
    assert all(m.role in INSTRUCTION_ROLES for m in leading)
    assert not rest or rest[0].role not in INSTRUCTION_ROLES


def test_a_system_message_in_between_stays_where_it_was_said():
    leading, rest = split_instructions(
        parsed({"role": "developer", "content": "a"}, user(), {"role": "system", "content": "b"})
    )
    assert [m.text for m in leading] == ["a"]
    assert [m.role for m in rest] == ["user", "system"]


@given(st.lists(wire_messages(), max_size=14))
@example([user(), calls("c1"), user(), result("c1"), user()])
def test_turns_are_the_list_cut_and_no_call_is_parted_from_its_result(messages):
    messages = parsed(*messages)
    turns = list(group_turns(messages))
    assert [m for turn in turns for m in turn] == messages
    assert all(turns)
    orphans, _ = unpaired(messages)
    assert sum(len(unpaired(turn)[0]) for turn in turns) == len(orphans)
    for turn in turns[1:]:
        assert turn[0].role not in ANSWER_ROLES
    for turn in turns[:-1]:
        assert any(m.role in ANSWER_ROLES for m in turn)


@given(st.lists(wire_messages().filter(lambda m: m["role"] != "tool"), max_size=14))
def test_without_tools_a_turn_ends_where_somebody_speaks_after_an_answer(messages):
    for turn in group_turns(parsed(*messages)):
        answers = [m.role in ANSWER_ROLES for m in turn]
        assert answers == sorted(answers), "first what was asked, then what answered it"


def test_a_turn_is_what_was_asked_with_everything_that_answers_it():
    messages = parsed(
        user("1"), user("2"), calls("a", "b"), result("b"), result("a"), calls("a"), result("a"),
        {"role": "assistant", "content": "done"}, {"role": "system", "content": "s"}, user("3"),
    )  # fmt: skip
    assert [len(turn) for turn in group_turns(messages)] == [8, 2]


def test_words_said_while_a_tool_runs_belong_to_its_turn():
    messages = parsed(user("1"), calls("a", "b"), result("a"), user("hurry"), result("b"), user("2"))
    assert [[m.text for m in turn] for turn in group_turns(messages)] == [["1", "", "ok", "hurry", "ok"], ["2"]]


def test_a_call_that_was_never_answered_does_not_hold_the_turn_open():
    messages = parsed(user("1"), calls("a"), user("2"), calls("a"), result("a"), user("3"))
    assert [len(turn) for turn in group_turns(messages)] == [2, 3, 1]


def test_many_messages_are_grouped_in_linear_time():
    messages = parsed(user("1"), calls("a"), result("a")) * 30_000
    began = time.perf_counter()
    assert sum(1 for _ in group_turns(messages)) == 30_000
    assert time.perf_counter() - began < 5.0


def test_the_roles_are_those_of_the_api():
    assert set(ROLES) == {"system", "developer", "user", "assistant", "tool", "function"}
    assert not INSTRUCTION_ROLES & ANSWER_ROLES
