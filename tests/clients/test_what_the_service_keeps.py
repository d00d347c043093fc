"""What the service keeps and a request names: prompts, earlier answers, conversations, items; and the ids it gives."""

from __future__ import annotations

import asyncio
import dataclasses
import re

import openai
import pytest

import voxnb
from tests.invariants.scripted import TELLER, WAIT_S, scripted, small
from voxnb import OpenAI, errors, testing

MODEL = "gpt-5"
PROMPT = {"id": "pmpt_1", "version": "2"}


def client(server, **given):
    usual = {"base_url": server.base_url, "api_key": server.api_key, "timeout_s": WAIT_S}
    return voxnb.ResponsesAPIClient({**usual, "store_context": True, "store": ":memory:", **given})


def sent(server):
    return [r.json for r in server.requests if r.method == "POST" and r.path.endswith("/responses")]


def said(conversation):
    turns = conversation.turns()[["user_text", "reply_text"]].astype(object)
    return list(turns.where(turns.notna(), None).itertuples(index=False, name=None))


# -- a turn without words ---------------------------------------------------------------------


def test_a_prompt_alone_is_a_turn_whose_model_is_the_prompts():
    with testing.server(["One.", "Two."]) as server, client(server) as talk:
        reply = talk.create_responses(prompt=PROMPT).result(WAIT_S)
        assert str(reply) == "One."
        assert "the context window of the prompt's model is not known" in reply.warnings[0]
        talk.ask("And?", model=MODEL).result(WAIT_S)
        conversation = talk.conversation
        assert said(conversation) == [(None, "One."), ("And?", "Two.")]
        assert conversation.explain(1).exact
        assert conversation.explain(1).request == {"prompt": PROMPT}
        assert talk.store.verify()
    first, second = sent(server)
    assert first == {"prompt": PROMPT, "stream": True}
    assert [(i["role"], i["content"]) for i in second["input"]] == [("assistant", "One."), ("user", "And?")]


def test_explain_shows_what_was_sent_in_place_of_words():
    with testing.server(["One.", "Two."]) as server, client(server) as talk:
        first = talk.create_responses(prompt=PROMPT).result(WAIT_S)
        talk.create_responses(previous_response_id=first.id, model=MODEL).result(WAIT_S)
        by_prompt, by_answer = talk.conversation.explain(1), talk.conversation.explain(2)
    rows = by_prompt.df[["kind", "why", "content"]].to_numpy().tolist()
    assert rows == [["prompt", "the service adds what it names", '{"id": "pmpt_1", "version": "2"}']]
    assert by_answer.df["kind"].tolist() == ["dropped", "previous_response_id"]
    assert by_answer.df["content"].tolist()[-1] == first.id
    assert '\n  prompt           {"id": "pmpt_1"' in repr(by_prompt)
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td>(.*?)</td>", by_answer._repr_html_())]
    assert cells[-6:] == ["previous_response_id", "", "", "", "the service adds what it names", first.id]


def test_an_earlier_answer_or_a_conversation_of_the_service_goes_on_without_words():
    with testing.server(["One.", "Two.", "Three."]) as server, client(server, model=MODEL) as talk:
        with openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as elsewhere:
            name = elsewhere.conversations.create().id
        first = talk.ask("a").result(WAIT_S)
        talk.create_responses({"previous_response_id": first.id}).result(WAIT_S)
        talk.create_responses({"conversation": name}).result(WAIT_S)
        assert said(talk.conversation) == [("a", "One."), (None, "Two."), (None, "Three.")]
        assert talk.store.verify()
    assert ["input" in body for body in sent(server)] == [True, False, False]


def test_a_turn_without_words_is_asked_again_taken_back_forked_and_planned():
    with testing.server(["One.", "Two.", "Three."]) as server, client(server) as talk:
        conversation = talk.conversation
        talk.create_responses(prompt=PROMPT, instructions="Be brief.").result(WAIT_S)
        assert str(conversation.retry().result(WAIT_S)) == "Two."
        assert sent(server)[1] == sent(server)[0]
        talk.create_responses(prompt={"id": "pmpt_2"}).result(WAIT_S)
        fork = conversation.fork(at=1, name="other")
        conversation.undo()
        assert said(conversation) == said(fork) == [(None, "Two.")]
        contents = [m["content"] for m in conversation.plan("And?").messages]
        assert contents == ["Be brief.", "Two.", "And?"]
        assert talk.store.verify()


def test_a_turn_without_words_that_failed_can_be_asked_again():
    refusal = testing.Status(400, body={"error": {"message": "no such prompt"}})
    with testing.server([refusal, "Here."]) as server, client(server) as talk:
        with pytest.raises(errors.BadRequestError):
            talk.create_responses(prompt=PROMPT).result(WAIT_S)
        assert str(talk.conversation.retry().result(WAIT_S)) == "Here."
        assert said(talk.conversation) == [(None, "Here.")]
        assert talk.store.verify()


def test_turns_without_words_are_folded(tmp_path):
    with testing.server(scripted(chat="Well, #1 it is. " * 8)) as server:
        with client(server, model=MODEL, policy=small(), summary_model=TELLER) as talk:
            for _ in range(12):
                talk.create_responses(prompt=PROMPT).result(WAIT_S)
                talk.idle().result(WAIT_S)
            assert len(talk.store.summaries()) > 0
            assert talk.store.verify()


def test_turns_without_words_travel(tmp_path):
    with testing.server(["One.", "Two."]) as server, client(server, conversation="spoken first") as talk:
        talk.create_responses(prompt=PROMPT).result(WAIT_S)
        talk.ask("And?", model=MODEL).result(WAIT_S)
        talk.store.export_conversations(tmp_path / "all.jsonl")
        talk.conversation.export(tmp_path / "read.html")
        expected = said(talk.conversation)
    with voxnb.ContextStore(":memory:") as other:
        other.import_conversations(tmp_path / "all.jsonl")
        assert said(other["spoken first"]) == expected
        assert other.verify()
    assert "One." in (tmp_path / "read.html").read_text(encoding="utf-8")


def test_a_run_that_is_repeated_tells_prompts_apart():
    store = voxnb.ContextStore(":memory:")
    with testing.server(["One.", "Two.", "Three."]) as server:

        def run(*prompts, **more):
            with client(server, store=store, conversation="again", **more) as talk:
                replies = [talk.create_responses(prompt=prompt).result(WAIT_S) for prompt in prompts]
                return [(r.text, r.id, r.reused) for r in replies]

        other = {"id": "pmpt_2"}
        first = run(PROMPT, other)
        assert run(PROMPT, other, if_exists="reuse") == [(text, name, True) for text, name, _ in first]
        assert [(text, reused) for text, _, reused in run(PROMPT, PROMPT, if_exists="reuse")] == [
            ("One.", True),
            ("Three.", False),
        ]
    assert store.verify()


def test_nothing_at_all_is_said_plainly():
    with testing.server("Well.") as server, client(server, model=MODEL) as talk:
        with pytest.raises(errors.ParameterError, match="input is empty"):
            talk.create_responses()
        with pytest.raises(errors.MessageError, match="no message but instructions"):
            talk.create_responses(instructions="Be brief.").result(WAIT_S)
        assert talk.store.verify()
    with testing.server("Well.") as server, client(server) as talk, pytest.raises(errors.ParameterError, match="model"):
        talk.ask("Hi")


# -- the ids of answers -----------------------------------------------------------------------


def test_a_reply_has_the_services_id_and_the_calls_have_it_too():
    with testing.server(["One.", "Two."]) as server:
        with voxnb.chat(MODEL, base_url=server.base_url, api_key=server.api_key, store=":memory:") as talk:
            reply = talk.ask("a").result(WAIT_S)
            assert reply.id.startswith("chatcmpl-")
            assert list(talk.store.calls()["reply_id"]) == [reply.id]
        with client(server, store_context=False, store=None, model=MODEL) as talk:
            assert talk.ask("a").result(WAIT_S).id.startswith("resp_")


@pytest.mark.parametrize("remembers", [True, False])
def test_after_a_tool_loop_the_id_is_the_last_answers(remembers):
    def weather(city: str) -> str:
        return f"sunny in {city}"

    call = {"tool_calls": [{"name": "weather", "arguments": {"city": "Ulm"}}]}
    with testing.server([call, "Sunny."]) as server:
        memory = {} if remembers else {"store_context": False, "store": None}
        with client(server, model=MODEL, **memory) as talk:
            seen = []
            talk.on(OpenAI.ResponsesAPIEvents.ResponseCompleted, lambda event: seen.append(event.payload.response.id))
            reply = talk.ask("Weather?", tools=[weather], run_tools=True).result(WAIT_S)
            assert len(set(seen)) == 2
            assert reply.id == seen[-1]
            if remembers:
                assert list(talk.store.calls()["reply_id"]) == seen


def test_a_replayed_tool_loop_has_the_id_that_its_last_answer_had():
    def weather(city: str) -> str:
        return f"sunny in {city}"

    call = {"tool_calls": [{"name": "weather", "arguments": {"city": "Ulm"}}]}
    store = voxnb.ContextStore(":memory:")
    with testing.server([call, "Sunny."]) as server:

        def run(**more):
            with client(server, model=MODEL, store=store, conversation="again", **more) as talk:
                return talk.ask("Weather?", tools=[weather], run_tools=True).result(WAIT_S)

        first, again = run(), run(if_exists="reuse")
    assert again.reused
    assert again.id == first.id
    assert first.id is not None


# -- items ------------------------------------------------------------------------------------


def test_a_reference_to_an_item_is_told_apart_from_a_history_that_differs():
    with testing.server("Well.") as server, client(server, model=MODEL) as talk:
        first = talk.ask("a").result(WAIT_S)
        reference = {"type": "item_reference", "id": "msg_3_0"}
        question = {"role": "user", "content": "b"}
        with pytest.raises(errors.HistoryConflictError, match="'msg_3_0', which the service keeps") as caught:
            talk.create_responses(input=[reference, question]).result(WAIT_S)
        assert "previous_response_id" in str(caught.value)
        assert len(talk.conversation) == 1
        talk.create_responses(input=[question], previous_response_id=first.id).result(WAIT_S)
        assert talk.store.verify()


@pytest.mark.parametrize(
    "words",
    [
        "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.",
        "Conversation with id 'conv_1' not found.",
        "No such File object: file-1",
    ],
)
def test_what_the_service_does_not_keep_is_named_and_not_the_model(words):
    refusal = testing.Status(404, body={"error": {"message": words, "type": "invalid_request_error"}})
    with testing.server(refusal) as server, client(server, model=MODEL) as talk:
        with pytest.raises(errors.NotFoundError) as caught:
            talk.ask("a").result(WAIT_S)
    assert words in str(caught.value)
    assert "does not have what the request names" in str(caught.value)
    assert MODEL not in str(caught.value)


def test_a_model_of_openai_that_reasons_is_asked_for_what_must_be_sent_back(monkeypatch):
    wanted = "reasoning.encrypted_content"
    with testing.server("Well.") as server, client(server) as talk:
        talk.ask("a", model=MODEL).result(WAIT_S)
        monkeypatch.setattr(talk, "endpoint", dataclasses.replace(talk.endpoint, is_openai=True))
        talk.ask("b", model=MODEL).result(WAIT_S)
        talk.ask("c", model=MODEL, include=["message.output_text.logprobs"]).result(WAIT_S)
        talk.create_responses(input="d", model=MODEL, include=[wanted]).result(WAIT_S)
        talk.ask("e", model="gpt-4o").result(WAIT_S)
    assert [body.get("include") for body in sent(server)] == [
        None,
        [wanted],
        ["message.output_text.logprobs", wanted],
        [wanted],
        None,
    ]


# -- what other providers know ----------------------------------------------------------------


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("spelling", ["keywords", "extra_body"])
def test_keys_of_other_providers_reach_them_in_either_spelling(wire, remembers, spelling):
    extras = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 20, "min_p": 0.05}
    memory = {"store_context": True, "store": ":memory:"} if remembers else {}
    policy = voxnb.ContextPolicy(window_tokens=8192)
    answer = {"choices": [{"message": {"role": "assistant", "content": "Well."}, "finish_reason": "stop"}]}
    more = extras if spelling == "keywords" else {"extra_body": extras, "top_k": 5}

    async def talk():
        async with wire.server(wire.http(body=answer)) as server:
            given = {"model": "m", "base_url": server.base_url, "policy": policy, **memory}
            with voxnb.ChatCompletionsAPIClient(given) as chat:
                await chat.ask("a", **more)
                await chat.create_chat_completions({"messages": [{"role": "user", "content": "b"}], **more})
            return [asked.json for asked in server.asked if asked.method == "POST"]

    bodies = asyncio.run(talk())
    assert [{k: body.get(k) for k in extras} for body in bodies] == [extras, extras]
    assert not any("extra_body" in body for body in bodies)


def test_the_summarys_request_takes_extra_body_too():
    given = {"summary_model": TELLER, "policy": small(), "summary_request": {"extra_body": {"top_p": 0.5}}}
    with testing.server(scripted(chat="Well, #1 it is. " * 8)) as server, client(server, model=MODEL, **given) as talk:
        for _ in range(4):
            talk.ask("Tell me more of it. " * 4).result(WAIT_S)
        talk.conversation.fold().result(WAIT_S)
    folds = [body for body in sent(server) if body["model"] == TELLER]
    assert folds
    assert {body.get("top_p") for body in folds} == {0.5}
    with pytest.raises(errors.ParameterError, match="timeout is no part of a request"):
        client(server, model=MODEL, summary_request={"timeout": 5})


@pytest.mark.parametrize("name", ["extra_headers", "extra_query", "timeout", "extra_body"])
def test_what_is_no_part_of_a_body_says_what_to_use(name):
    with testing.server("Well.") as server:
        usual = {"base_url": server.base_url, "api_key": server.api_key, "model": MODEL}
        chat, responses = voxnb.ChatCompletionsAPIClient(**usual), voxnb.ResponsesAPIClient(**usual)
        with chat, responses:
            for ask in (chat.ask, responses.ask):
                with pytest.raises(errors.ParameterError, match=rf"{name} is .*(client|expected a dict)") as caught:
                    ask("a", **{name: 5})
                assert caught.value.name == name
                assert str(ask("a", **{name: None}).result(WAIT_S)) == "Well."


def test_a_models_short_name_is_not_found_in_the_name_of_an_item():
    refusal = testing.Status(404, body={"error": {"message": "Item with id 'msg_1' not found."}})
    with testing.server(refusal) as server, client(server, model="m") as talk:
        with pytest.raises(errors.NotFoundError, match="does not have what the request names"):
            talk.ask("a").result(WAIT_S)


def test_what_was_put_in_the_models_mouth_is_not_asked_again_without_it():
    said_by_us = {"role": "assistant", "content": "Once upon"}
    with testing.server(["One.", "a time."]) as server:
        with client(server, model=MODEL) as talk:
            first = talk.ask("Tell me.").result(WAIT_S)
            talk.create_responses(previous_response_id=first.id, input=[said_by_us]).result(WAIT_S)
            with pytest.raises(errors.ConversationError, match="is an answer to nothing"):
                talk.conversation.retry()
        with voxnb.chat(MODEL, base_url=server.base_url, api_key=server.api_key, store=":memory:") as chat:
            chat.create_chat_completions(messages=[said_by_us]).result(WAIT_S)
            with pytest.raises(errors.ConversationError, match="is an answer to nothing"):
                chat.conversation.retry()
        assert len([r for r in server.requests if r.method == "POST"]) == 3
