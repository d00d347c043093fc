"""The same chunks through the OpenAI SDK's stream helper and through ours: same events, same fields, same message."""

from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from voxnb.events import ChatCompletionsAPIEvents as Names
from voxnb.wire.chat import ChatReader

ALL = frozenset(n.value for n in Names)
WIRE = {n.wire_type: n.value for n in Names if n.wire_type}
PARSED = {"parsed", "parsed_arguments"}
WORD = st.text('ab \n"{}é🫖', max_size=4)


def token(text):
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


@st.composite
def steps(draw):
    """The deltas of one choice after its first: (delta, logprobs, finish_reason)."""
    found = []
    for key in draw(st.sampled_from([["content"], ["refusal"], ["content", "refusal"], []])):
        with_logprobs = draw(st.booleans())
        for piece in draw(st.lists(WORD, max_size=4)):
            tokens = [token(piece)] if piece and with_logprobs else draw(st.sampled_from([None, []]))
            other = "refusal" if key == "content" else "content"
            logprobs = {key: tokens, other: None} if with_logprobs else None
            found.append(({key: piece}, logprobs, None))
    deltas = []
    for index in range(draw(st.integers(0, 3))):
        call = {"index": index, "id": f"call_{index}", "type": "function"}
        deltas.append({**call, "function": {"name": f"tool_{index}", "arguments": ""}})
        deltas += [{"index": index, "function": {"arguments": p}} for p in draw(st.lists(WORD, max_size=3))]
    while deltas:
        # The helper's events of one chunk show the state after all of it: one delta per call and chunk.
        group = [deltas.pop(0)]
        while deltas and deltas[0]["index"] != group[-1]["index"] and draw(st.booleans()):
            group.append(deltas.pop(0))
        found.append(({"tool_calls": group}, None, None))
    if draw(st.booleans()):
        reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        found.append(({}, None, reason))
    return found


@st.composite
def chunk_lists(draw):
    """A whole stream: choices interleaved, now and then two in one chunk, empty chunks, a usage chunk."""
    choices = draw(st.lists(steps(), min_size=1, max_size=3))
    first = draw(st.sampled_from([{"role": "assistant", "content": ""}, {"role": "assistant", "content": None}]))
    chunks = [chunk([entry(i, dict(first), None, None)]) for i in range(len(choices))]
    waiting = [list(c) for c in choices]
    while any(waiting):
        ready = [i for i, w in enumerate(waiting) if w]
        taken = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=2, unique=True))
        chunks.append(chunk([entry(i, *waiting[i].pop(0)) for i in taken]))
    if draw(st.booleans()):
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        chunks.append({**chunk([]), "usage": usage})
    return chunks


def entry(index, delta, logprobs, finish):
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def chunk(choices):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return {**head, "system_fingerprint": None, "choices": choices}


def theirs(state, raw):
    """The helper's events of one chunk as (name, fields)."""
    found = []
    for event in state.handle_chunk(ChatCompletionChunk.model_validate(raw)):
        if event.type == "chunk":
            found.append((WIRE["chunk"], raw))
            continue
        fields = event.model_dump(mode="json")
        found.append((WIRE[fields.pop("type")], fields))
    return found


def comparable(events):
    """As a multiset, without what is parsed (ours parses more) and without `Content` (the helper has none)."""
    rows = []
    for name, payload in events:
        if name == Names.Chunk.value:
            rows.append((name, "", json.dumps(payload, sort_keys=True)))
        elif name != Names.Content.value:
            rows.append((name, " ".join(sorted(payload)), json.dumps(plain(payload), sort_keys=True)))
    return sorted(rows)


def plain(payload):
    return {k: v for k, v in payload.items() if k not in PARSED}


@given(chunk_lists())
def test_names_and_fields_are_the_helpers(chunks):
    state, reader = ChatCompletionStreamState(), ChatReader(wanted=ALL)
    for raw in chunks:
        expected = comparable(theirs(state, copy.deepcopy(raw)))
        assert comparable(reader.feed(copy.deepcopy(raw))) == expected


@given(chunk_lists())
def test_the_answer_is_the_helpers(chunks):
    state, reader = ChatCompletionStreamState(), ChatReader()
    for raw in chunks:
        theirs(state, copy.deepcopy(raw))
        reader.feed(raw)
    snapshot = state.current_completion_snapshot
    assert len(reader.choices) == len(snapshot.choices)
    for ours, other in zip(reader.choices, snapshot.choices, strict=True):
        assert ours["finish_reason"] == other.finish_reason
        assert ours["message"]["content"] == other.message.content
        assert ours["message"].get("refusal") == other.message.refusal
        calls = [c.to_dict() for c in other.message.tool_calls or ()]
        assert ours["message"].get("tool_calls", []) == [
            {"id": c["id"], "type": c["type"], "function": plain(c["function"])} for c in calls
        ]
        tokens = other.logprobs and json.loads(other.logprobs.model_dump_json(exclude_unset=True))
        assert ours["logprobs"] == tokens


@given(chunk_lists(), st.sets(st.sampled_from(sorted(ALL))))
def test_what_is_wanted_changes_nothing_but_what_is_told(chunks, wanted):
    full, some, none = ChatReader(wanted=ALL), ChatReader(wanted=frozenset(wanted)), ChatReader()
    for raw in chunks:
        everything = full.feed(copy.deepcopy(raw))
        assert some.feed(copy.deepcopy(raw)) == [e for e in everything if e[0] in wanted]
        assert none.feed(copy.deepcopy(raw)) == []
        assert full.text_delta == some.text_delta == none.text_delta
    for reader in (full, some, none):
        reader.done()
    assert some.finish() == [e for e in full.finish() if e[0] in wanted]
    assert none.finish() == []
    assert full.choices == some.choices == none.choices
    assert (full.usage, full.id, full.complete) == (none.usage, none.id, none.complete)


@given(chunk_lists())
def test_payloads_are_shared_neither_with_the_reader_nor_with_the_chunk(chunks):
    reader, clean = ChatReader(wanted=ALL), ChatReader(wanted=ALL)
    for raw in chunks:
        clean.feed(copy.deepcopy(raw))
        given_chunk = copy.deepcopy(raw)
        for _, payload in reader.feed(given_chunk):
            spoil(payload)
        assert given_chunk == raw
        for choice in reader.choices:
            spoil(choice)
    assert reader.choices == clean.choices
    assert reader.usage == clean.usage


def spoil(value):
    children = list(value.values()) if isinstance(value, dict) else list(value)
    for child in children:
        if isinstance(child, dict | list):
            spoil(child)
    value.clear()


@given(chunk_lists())
def test_the_text_deltas_add_up_to_the_content_of_choice_0(chunks):
    reader = ChatReader()
    texts = []
    for raw in chunks:
        reader.feed(raw)
        texts.append(reader.text_delta)
    assert "".join(texts) == (reader.message["content"] or "")
