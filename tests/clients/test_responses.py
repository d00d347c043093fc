"""The Responses client through its public face: turns of items, instructions with every call, whose history it is."""

from __future__ import annotations

import asyncio
import base64
import threading

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import TELLER, WAIT_S, scripted, small
from voxnb import OpenAI, errors, testing
from voxnb.testing import Drop, Hang, Paced

MODEL = "gpt-5"
EVENTS = OpenAI.ResponsesAPIEvents
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = {"tool_calls": [{"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}]}
REASONED = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Two and two."}],
        "encrypted_content": "gAAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Four.", "annotations": []}],
    },
]


def client(server, **given):
    usual = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL, "timeout_s": WAIT_S}
    return voxnb.ResponsesAPIClient({**usual, "store_context": True, "store": ":memory:", **given})


def asked(server):
    """The requests for a response, without the questions about models."""
    return [r for r in server.requests if r.path.endswith("/responses")]


def inputs(server):
    return [r.input for r in asked(server)]


def user(text):
    return {"role": "user", "content": text}


# -- turns ------------------------------------------------------------------------------------


def test_a_conversation_is_sent_whole_with_its_instructions():
    with testing.server(["Hello Ann.", "You are Ann."]) as server, client(server) as chat:
        first = chat.create_responses(input="I am Ann.", instructions="Be brief.")
        assert "".join(first) == "Hello Ann."
        assert chat.create_responses({"input": [user("Who am I?")]}).result(WAIT_S).text == "You are Ann."
        assert chat.store.verify()
    assert [r.instructions for r in asked(server)] == ["Be brief.", "Be brief."]
    said = {"type": "message", "role": "assistant", "content": "Hello Ann."}
    assert inputs(server) == [[user("I am Ann.")], [user("I am Ann."), said, user("Who am I?")]]


def test_other_instructions_replace_the_last_ones_and_the_clients_own_are_said_first():
    with testing.server("Well.") as server, client(server, instructions="Be kind.") as chat:
        for more in ({}, {"instructions": "Be brief."}, {}):
            chat.ask("Go on", **more).result(WAIT_S)
        assert chat.conversation.explain(1).request["instructions"] == "Be kind."
        assert chat.store.verify()
    assert [r.instructions for r in asked(server)] == ["Be kind.", "Be brief.", "Be brief."]


def test_reasoning_is_kept_and_sent_back_encrypted():
    with testing.server([{"output": REASONED}, "Five."]) as server, client(server) as chat:
        reply = chat.ask("Two and two?").result(WAIT_S)
        assert (reply.text, reply.message["reasoning_content"]) == ("Four.", "Two and two.")
        chat.ask("And one more?").result(WAIT_S)
        assert chat.store.verify()
    assert inputs(server)[1][1] == REASONED[0]
    assert inputs(server)[1][2]["content"] == REASONED[1]["content"]


def test_a_call_its_output_and_the_answer_are_one_turn():
    with testing.server([CALL, "It is sunny.", "Bye."]) as server, client(server) as chat:
        reply = chat.create_responses(input="Weather in Ulm?", tools=[WEATHER]).result(WAIT_S)
        assert reply.finish_reason == "tool_calls"
        (call,) = reply.tool_calls
        output = {"type": "function_call_output", "call_id": call["id"], "output": "sunny"}
        assert chat.create_responses(input=[output]).result(WAIT_S).text == "It is sunny."
        chat.ask("Thanks").result(WAIT_S)
        assert list(chat.conversation.turns()["state"].astype(str)) == ["complete", "complete"]
        assert list(chat.store.messages(chat.conversation)["role"])[:4] == [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        assert chat.store.verify()
    kinds = [item.get("type", "message") for item in inputs(server)[2]]
    assert kinds == ["message", "function_call", "function_call_output", "message", "message"]


def test_an_output_that_nobody_asked_for_is_refused_before_it_is_sent():
    with testing.server("Well.") as server, client(server) as chat:
        turn = chat.create_responses(input=[{"type": "function_call_output", "call_id": "x", "output": "1"}])
        with pytest.raises(errors.MessageError, match="'x'"):
            turn.result(WAIT_S)
        assert asked(server) == []


def test_a_custom_tools_input_and_output_are_kept():
    custom = {
        "output": [
            {
                "type": "custom_tool_call",
                "id": "ctc_1",
                "call_id": "c1",
                "name": "sql",
                "input": "select 1",
                "status": "completed",
            }
        ]
    }
    with testing.server([custom, "One row."]) as server, client(server) as chat:
        (call,) = chat.ask("How many?", tools=[{"type": "custom", "name": "sql"}]).result(WAIT_S).tool_calls
        assert call == {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
        output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"}
        chat.create_responses(input=[output]).result(WAIT_S)
        assert chat.store.verify()
    assert [i.get("type") for i in inputs(server)[1]][1:] == ["custom_tool_call", "custom_tool_call_output"]


def test_what_the_services_own_tools_did_is_kept_shown_and_sent_back():
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "iris"},
    }
    image = {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "result": base64.b64encode(b"\x89PNG\r\n\x1a\n!").decode(),
    }
    with testing.server([{"output": [search, image, REASONED[1]]}, "Well."]) as server, client(server) as chat:
        reply = chat.ask("Look it up and draw it").result(WAIT_S)
        assert [thing.label for thing in reply.produced] == ["searched the web: iris", "an image, PNG, 9 bytes"]
        chat.ask("And?").result(WAIT_S)
        assert chat.store.verify()
    assert [i["type"] for i in inputs(server)[1][1:4]] == ["web_search_call", "image_generation_call", "message"]


def test_images_and_files_go_out_as_they_were_given():
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
    ]
    with testing.server(["A flower.", "Well."]) as server, client(server) as chat:
        chat.create_responses(input=[{"role": "user", "content": parts}]).result(WAIT_S)
        chat.ask("Sure?").result(WAIT_S)
        assert chat.store.verify()
    assert inputs(server)[1][0]["content"] == parts


# -- whose history it is ----------------------------------------------------------------------


def test_with_previous_response_id_the_service_has_the_history_and_the_store_records():
    with testing.server(["One.", "Two.", "Three."]) as server, client(server) as chat:
        seen = []
        chat.on(EVENTS.ResponseCompleted, lambda event: seen.append(event.payload.response.id))
        chat.ask("a", instructions="Be brief.").result(WAIT_S)
        chat.ask("b", previous_response_id=seen[0]).result(WAIT_S)
        plan = chat.conversation.explain(2)
        assert plan.exact
        assert plan.request["input"] == [user("b")]
        assert [why for _, why in plan.dropped] == [
            "this turn and all before it: the server has them (previous_response_id)"
        ]
        chat.ask("c").result(WAIT_S)
        assert chat.store.verify()
        assert list(chat.conversation.turns()["reply_text"]) == ["One.", "Two.", "Three."]
    assert inputs(server)[1] == [user("b")]
    assert asked(server)[1].instructions == "Be brief.", "instructions do not carry over at the service"
    assert [i["content"] for i in inputs(server)[2]] == ["a", "One.", "b", "Two.", "c"]


def test_a_call_that_the_service_made_is_answered_with_its_output_alone():
    with testing.server([CALL, "It is sunny."]) as server, client(server) as chat:
        seen = []
        chat.on(EVENTS.ResponseCompleted, lambda event: seen.append(event.payload.response.id))
        chat.ask("Weather?", tools=[WEATHER]).result(WAIT_S)
        output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        chat.create_responses(input=[output], previous_response_id=seen[0]).result(WAIT_S)
        assert len(chat.conversation) == 1
        assert chat.conversation.explain().request["input"] == [output]
        assert chat.store.verify()
    assert inputs(server)[1] == [output]


def test_a_foreign_calls_output_is_recorded_where_the_service_knows_the_call():
    call = {"tool_calls": [{"id": "elsewhere", "name": "weather"}]}
    with testing.server([call, "Well."]) as server, client(server) as chat:
        with openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as elsewhere:
            name = elsewhere.conversations.create().id
            elsewhere.responses.create(model=MODEL, input="Weather?", conversation=name)
        output = {"type": "function_call_output", "call_id": "elsewhere", "output": "1"}
        chat.create_responses(input=[output], conversation=name).result(WAIT_S)
        assert chat.store.verify()
        chat.ask("And now?").result(WAIT_S)
        assert chat.store.verify()
    assert [i["content"] for i in inputs(server)[2]] == ["Well.", "And now?"]


def test_an_unknown_previous_response_is_the_services_refusal():
    with testing.server("Well.") as server, client(server) as chat:
        with pytest.raises(errors.BadRequestError, match="resp_x"):
            chat.ask("a", previous_response_id="resp_x").result(WAIT_S)
        assert list(chat.conversation.turns()["state"].astype(str)) == ["failed"]
        assert chat.store.verify()


# -- memory -----------------------------------------------------------------------------------


def test_nothing_is_folded_without_a_summary_model():
    with testing.server(scripted()) as server, client(server, policy=small(window_tokens=2_000)) as chat:
        for n in range(12):
            chat.ask(f"Tell me of #{n}, " + "please " * 12).result(WAIT_S)
            chat.idle().result(WAIT_S)
        assert len(chat.store.summaries()) == 0
        with pytest.raises(errors.ContextOverflowError, match="summary_model"):
            for n in range(100):
                chat.ask(f"Tell me of #{n}, " + "please " * 12).result(WAIT_S)
        assert chat.store.verify()


def test_with_a_summary_model_the_oldest_turns_are_folded_over_the_same_interface():
    with testing.server(scripted()) as server, client(server, policy=small(), summary_model=TELLER) as chat:
        for n in range(1, 13):
            chat.ask(f"Tell me of #{n}, " + "please " * 12, instructions="Be brief.").result(WAIT_S)
            chat.idle().result(WAIT_S)
        assert len(chat.store.summaries()) > 1
        assert "#1" in chat.conversation.summary().text
        assert chat.store.verify()
        assert {r.path for r in server.requests if r.method == "POST"} == {"/v1/responses"}
        told = [r for r in server.requests if r.model == TELLER]
        assert told[0].instructions.startswith("You are maintaining a running summary")
        last = [r for r in server.requests if r.model == MODEL][-1]
    assert last.input[0]["content"].startswith("Summary of the earlier conversation")


def test_a_chat_goes_on_where_responses_stopped_and_the_other_way_round():
    store = voxnb.ContextStore(":memory:")
    with testing.server([{"output": REASONED}, "Five.", "Six."]) as server:
        settings_ = {"base_url": server.base_url, "api_key": server.api_key, "store": store, "conversation": "sums"}
        with client(server, store=store, conversation="sums") as chat:
            chat.ask("Two and two?").result(WAIT_S)
        with voxnb.chat(MODEL, **settings_) as chat:
            chat.ask("And one more?").result(WAIT_S)
        with client(server, store=store, conversation="sums") as chat:
            chat.ask("And one more?").result(WAIT_S)
            assert len(chat.conversation) == 3
    assert store.verify()
    (chat_request,) = [r for r in server.requests if r.path.endswith("/completions")]
    assert chat_request.messages == [
        user("Two and two?"),
        {"role": "assistant", "content": "Four."},
        user("And one more?"),
    ]
    assert inputs(server)[-1][1]["encrypted_content"] == "gAAAA"


def test_running_all_again_makes_no_call():
    store = voxnb.ContextStore(":memory:")
    with testing.server([{"output": REASONED}, CALL, "Sunny."]) as server:

        def run(**more):
            with client(server, store=store, conversation="again", instructions="Be brief.", **more) as chat:
                heard = []
                chat.on(EVENTS.ResponseTextDelta, lambda event: heard.append(event.payload.delta))
                replies = [
                    chat.ask("Two and two?").result(WAIT_S),
                    chat.ask("Weather?", tools=[WEATHER]).result(WAIT_S),
                ]
                output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
                replies.append(chat.create_responses(input=[output], tools=[WEATHER]).result(WAIT_S))
                return [r.text for r in replies], [r.reused for r in replies], "".join(heard)

        texts, reused, heard = run()
        before = len(asked(server))
        again = run(if_exists="reuse")
    assert (texts, reused) == (["Four.", "", "Sunny."], [False] * 3)
    assert again == (texts, [True] * 3, heard)
    assert len(asked(server)) == before
    assert store.verify()


def test_without_a_memory_each_request_stands_alone():
    with (
        testing.server(["One.", "Two."]) as server,
        client(server, store_context=False, store=None, instructions="Be brief.") as bare,
    ):
        bare.ask("a").result(WAIT_S)
        assert bare.ask("b").result(WAIT_S).text == "Two."
        with pytest.raises(errors.ConversationError):
            bare.conversation
    assert inputs(server) == [[user("a")], [user("b")]]
    assert asked(server)[0].instructions == "Be brief."


# -- how it ends ------------------------------------------------------------------------------


def test_an_answer_cut_by_its_limit_says_so_and_is_kept():
    with testing.server("word " * 40) as server, client(server) as chat:
        reply = chat.ask("Count", max_output_tokens=16).result(WAIT_S)
        assert reply.finish_reason == "length"
        assert reply.text == "word" + " word" * 15
        assert chat.store.verify()


def test_a_refusal_is_the_replys_and_is_sent_back():
    with testing.server([{"refusal": "I will not."}, "Well."]) as server, client(server) as chat:
        reply = chat.ask("Do it").result(WAIT_S)
        assert (reply.refusal, reply.text) == ("I will not.", "")
        chat.ask("Why?").result(WAIT_S)
        assert chat.store.verify()
    assert inputs(server)[1][1]["content"] == [{"type": "refusal", "refusal": "I will not."}]


@pytest.mark.parametrize(
    "reply",
    [
        {"status": "failed", "error": {"code": "server_error", "message": "it broke"}},
        [{"type": "error", "code": "server_error", "message": "it broke", "param": None, "sequence_number": 0}],
    ],
    ids=["failed", "error"],
)
def test_a_failure_in_the_stream_is_an_error_and_the_turn_is_closed(reply):
    with testing.server([reply, "Well."]) as server, client(server, max_retries=0) as chat:
        with pytest.raises(errors.APIError, match="it broke"):
            chat.ask("a").result(WAIT_S)
        assert list(chat.conversation.turns()["state"].astype(str)) == ["failed"]
        assert chat.ask("b").result(WAIT_S).text == "Well."
        assert chat.store.verify()


def test_an_item_that_the_service_refuses_is_sent_once():
    with testing.server("Well.") as server, client(server) as chat:
        with pytest.raises(errors.BadRequestError, match="Invalid value: 'nonsense'"):
            chat.create_responses(input=[{"type": "nonsense"}]).result(WAIT_S)
        assert chat.ask("b").result(WAIT_S).text == "Well."
        assert inputs(server)[-1] == [user("b")]
        assert list(chat.conversation.turns()["state"].astype(str)) == ["failed", "complete"]
        assert chat.store.verify()


def test_half_an_answer_is_kept_and_never_asked_for_again():
    broken = Drop(after_events=6, reply="One two three four.")
    with testing.server([broken, "Well."]) as server, client(server) as chat:
        with pytest.raises(errors.StreamBrokenError) as caught:
            chat.ask("a").result(WAIT_S)
        assert caught.value.reply.text.startswith("One")
        assert list(chat.conversation.turns()["state"].astype(str)) == ["partial"]
        chat.ask("b").result(WAIT_S)
        assert chat.store.verify()
        assert len(inputs(server)) == 2
    assert "cut off here" in str(inputs(server)[1][1])


def streamed(response, *, text="Hi."):
    """The events of a text and the end that the service gives it."""
    where = {"output_index": 0, "content_index": 0, "item_id": "m"}
    return [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", **where, "delta": text},
        {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", **response}},
    ]


@pytest.mark.parametrize(
    ("end", "more", "words"),
    [
        ({"usage": [1]}, [], "usage that is none and was passed over: [1]"),
        ({"output": "no"}, [], "output that is none and was passed over: 'no'"),
        ({"output": [3]}, [], "output that is none"),
        ({}, [{"type": 3}], "something after the end of the reply"),
        ({}, [{"type": "response.output_text.delta", "output_index": -1, "delta": "x"}], "output_index"),
    ],
)
def test_what_cannot_be_read_at_the_end_loses_no_reply(end, more, words):
    with testing.server([[*streamed(end), *more], "Well."]) as server, client(server) as chat:
        reply = chat.ask("a").result(WAIT_S)
        assert (reply.text, reply.finish_reason) == ("Hi.", "stop")
        assert words in reply.warnings[0]
        assert chat.ask("b").result(WAIT_S).warnings == ()
        assert list(chat.conversation.turns()["state"].astype(str)) == ["complete", "complete"]
        assert chat.store.verify()


FAILED = {
    "id": "resp_1",
    "status": "failed",
    "output": [],
    "error": {"code": "server_error", "message": "The log is full."},
}
CHANGED = {"id": "resp_1", "status": "incomplete", "output": [], "incomplete_details": {"reason": "max_output_tokens"}}


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ([{"type": "response.failed", "response": FAILED}], "The log is full."),
        ([{"type": "response.failed", "response": {"id": "resp_1", "status": "failed"}}], "does not say why"),
        ([{"type": "response.incomplete", "response": CHANGED}], "was completed, and is 'incomplete' afterwards"),
    ],
)  # fmt: skip
def test_a_response_that_was_completed_stays_whole_whatever_the_service_says_of_it_afterwards(late, words):
    with testing.server([[*streamed({}), *late], "Well."]) as server, client(server) as chat:
        heard = []
        chat.on(EVENTS.ResponsesAPIError, heard.append)
        reply = chat.ask("a").result(WAIT_S)
        assert (reply.text, reply.finish_reason, len(asked(server))) == ("Hi.", "stop", 1)
        assert "after the end of the reply" in reply.warnings[0]
        assert words in reply.warnings[0]
        assert heard
        assert chat.ask("b").result(WAIT_S).warnings == ()
        assert list(chat.conversation.turns()["state"].astype(str)) == ["complete", "complete"]
        assert chat.store.verify()


def test_a_response_that_failed_and_is_completed_afterwards_has_failed():
    events = [{"type": "response.failed", "response": FAILED}, *streamed({})]
    with testing.server([events]) as server, client(server, max_retries=0) as chat:
        with pytest.raises(errors.APIError, match="The log is full"):
            chat.ask("a").result(WAIT_S)


def test_a_place_below_0_is_no_place():
    wrong = [{"type": "response.output_text.delta", "output_index": -1, "content_index": 0, "delta": "x"}]
    with testing.server([wrong]) as server, client(server) as chat:
        with pytest.raises(errors.APIResponseValidationError, match="output_index of a response's event is -1"):
            chat.ask("a").result(WAIT_S)


def test_a_cancelled_answer_keeps_what_had_come():
    with testing.server(Hang(after_events=6, reply="One two three four.")) as server, client(server) as chat:
        turn = chat.ask("a")
        for delta in turn:
            if "two" in delta:
                break
        turn.cancel()
        assert turn.result(WAIT_S).finish_reason == "cancelled"
        assert chat.store.verify()


def test_a_wrong_input_is_told_before_anything_is_stored():
    with testing.server("Well.") as server, client(server) as chat:
        for wrong in (5, b"x", {"role": "user"}, [3], [{"no": "type"}]):
            with pytest.raises(errors.MessageError):
                chat.create_responses(input=wrong)
        with pytest.raises(errors.ParameterError, match="instructions"):
            chat.ask("a", instructions=["x"])
        with pytest.raises(errors.ParameterError, match="empty"):
            chat.create_responses()
        with pytest.raises(errors.ParameterError, match="given as messages, the name of chat completions"):
            chat.create_responses(messages=[user("a")])
        assert not chat.conversation.exists
        assert asked(server) == []


# -- in the background ------------------------------------------------------------------------


def test_a_background_answer_is_streamed_and_says_that_it_was_queued():
    with testing.server("Done.") as server, client(server) as chat:
        heard = []
        for event in (EVENTS.ResponseQueued, EVENTS.ResponseInProgress, EVENTS.ResponseCompleted):
            chat.on(event, lambda event: heard.append(event.name.rpartition(".")[2]))
        assert chat.ask("a", background=True).result(WAIT_S).text == "Done."
    assert heard == ["ResponseQueued", "ResponseInProgress", "ResponseCompleted"]


def test_a_background_answer_whose_stream_breaks_is_fetched():
    with testing.server(Drop(after_events=7, reply="One two three four.")) as server, client(server) as chat:
        turn = chat.ask("a", background=True)
        assert "".join(turn) == "One two three four."
        assert turn.result(WAIT_S).finish_reason == "stop"
        assert chat.store.verify()
    assert [r.method for r in server.requests if "/responses" in r.path] == ["POST", "GET", "GET"]


@pytest.mark.parametrize("after_events", range(2, 14))
def test_of_a_background_answer_that_is_fetched_listeners_hear_only_what_is_new(after_events):
    broken = Drop(after_events=after_events, reply="One two three four.")
    with testing.server(broken) as server, client(server) as chat:
        heard, deltas = [], []
        for event in EVENTS:
            chat.on(event, lambda event: heard.append((event.name.rpartition(".")[2], event.payload)))
        chat.on(EVENTS.ResponseTextDelta, lambda event: deltas.append(event.payload.delta))
        chat.ask("a", background=True).result(WAIT_S)
    assert "".join(deltas) == "One two three four."
    heard = [(name, payload) for name, payload in heard if name != "ConnectorInformation"]
    assert [payload["sequence_number"] for _, payload in heard] == list(range(len(heard)))
    assert [name for name, _ in heard if name != "ResponseTextDelta"] == [
        *("ResponseCreated", "ResponseQueued", "ResponseInProgress", "ResponseOutputItemAdded"),
        *("ResponseContentPartAdded", "ResponseTextDone", "ResponseContentPartDone", "ResponseOutputItemDone"),
        "ResponseCompleted",
    ]


def test_a_background_answer_that_nobody_waits_for_any_more_is_stopped_at_the_service():
    with testing.server(Hang(after_events=3, reply="Done.")) as server, client(server) as chat:
        started = chat.wait_for(EVENTS.ResponseInProgress, timeout_s=WAIT_S)
        turn = chat.ask("a", background=True)
        started.result()
        turn.cancel()
        with pytest.raises(errors.TurnCancelledError):
            turn.result(WAIT_S)
        assert any(r.path.endswith("/cancel") for r in server.requests)


# -- many at once -----------------------------------------------------------------------------


def test_requests_without_memory_run_side_by_side_and_their_events_tell_them_apart():
    together = threading.Barrier(3)

    def reply(request):
        together.wait(WAIT_S)
        return Paced(f"Answer to {request.text}.", chunk_delay_s=0.002)

    with testing.server(reply) as server, client(server, store_context=False, store=None) as bare:
        heard = {}
        bare.on(EVENTS.ResponseTextDelta, lambda e: heard.setdefault(e.payload.item_id, []).append(e.payload.delta))
        replies = voxnb.gather([bare.ask(name) for name in ("a", "b", "c")])
    assert [r.text for r in replies] == ["Answer to a.", "Answer to b.", "Answer to c."]
    assert sorted("".join(pieces) for pieces in heard.values()) == sorted(r.text for r in replies)


def test_it_is_awaited_too():
    async def talk(chat):
        return str(await chat.ask("a"))

    with testing.server("Well.") as server, client(server) as chat:
        assert asyncio.run(talk(chat)) == "Well."


# -- laws -------------------------------------------------------------------------------------

steps = st.lists(
    st.sampled_from(["say", "reasoned", "call", "prompt", "undo", "retry", "fork"]), min_size=1, max_size=8
)


@settings(max_examples=12)
@given(steps)
def test_whatever_is_done_every_request_can_be_rebuilt_and_none_is_refused(todo):
    def reply(request):
        if request.text == "call" and request.messages[-1]["role"] != "tool":
            return {"tool_calls": [{"id": f"c{len(request.input)}", "name": "weather", "arguments": {}}]}
        unnamed = [{k: v for k, v in item.items() if k != "id"} for item in REASONED]  # the server numbers them
        return {"output": unnamed} if request.text == "reasoned" else "Well."

    with testing.server(reply) as server, client(server, policy=small(), summary_model=TELLER) as chat:
        talk = chat.conversation
        for step in todo:
            if step in ("say", "reasoned", "call"):
                answer = chat.ask(step, tools=[WEATHER]).result(WAIT_S)
                if answer.tool_calls:
                    output = {"type": "function_call_output", "call_id": answer.tool_calls[0]["id"], "output": "1"}
                    chat.create_responses(input=[output]).result(WAIT_S)
            elif step == "prompt":
                chat.create_responses(prompt={"id": "pmpt_1"}).result(WAIT_S)
            elif len(talk):
                {"undo": talk.undo, "retry": lambda: talk.retry().result(WAIT_S), "fork": talk.fork}[step]()
            chat.idle().result(WAIT_S)
        assert chat.store.verify()
        for n in range(1, len(talk) + 1):
            assert talk.explain(n).exact
