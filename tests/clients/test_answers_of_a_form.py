"""``response_format`` with a type: ``reply.parsed`` is an instance, and an answer that is none loses nothing."""

import dataclasses
import json
from typing import Literal

import pytest
from pydantic import BaseModel, field_validator

import voxnb
from tests.invariants.scripted import WAIT_S, client, in_turn, talking
from voxnb import OpenAI, testing
from voxnb.errors import InternalServerError, ParameterError
from voxnb.testing import Status

EVENTS = OpenAI.ChatCompletionsAPIEvents
REFUSED = Status(500, headers={"x-should-retry": "false"})


class Flower(BaseModel):
    """A flower."""

    name: str
    petals: int
    color: Literal["blue", "white"] = "blue"


@dataclasses.dataclass
class Size:
    length_cm: float


IRIS = '{"name": "iris", "petals": 3, "color": "white"}'


@pytest.mark.parametrize("memory", [True, False])
def test_a_model_is_sent_as_a_strict_schema_and_comes_back_as_an_instance(memory):
    more = {"store_context": True, "store": ":memory:"} if memory else {}
    with testing.server(IRIS) as server:
        with voxnb.ChatCompletionsAPIClient(
            model="gpt-4o", base_url=server.base_url, api_key=server.api_key, **more
        ) as chat:
            reply = chat.ask("Describe an iris.", response_format=Flower).result(WAIT_S)
            if memory:
                assert chat.store.verify()
        sent = server.requests[-1].json["response_format"]
    assert reply.parsed == Flower(name="iris", petals=3, color="white")
    assert (reply.text, reply.warnings) == (IRIS, ())
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "Flower", True)
    assert sent["json_schema"]["schema"]["required"] == ["name", "petals", "color"]


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [(Size, '{"length_cm": 4.5}', Size(4.5)), (list[Size], '{"value": [{"length_cm": 1}]}', [Size(1.0)])],
)
def test_other_types_are_forms_too(kind, answer, value):
    with talking(answer) as (_, chat):
        assert chat.ask("How long?", response_format=kind).result(WAIT_S).parsed == value


def test_the_apis_own_dict_still_gives_decoded_json():
    with talking('{"a": 1}') as (_, chat):
        assert chat.ask("Hi", response_format={"type": "json_object"}).result(WAIT_S).parsed == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("An iris has three petals.", "the answer is no Flower"),
        ('{"name": "iris", "petals": "three"}', "petals: Input should be a valid integer"),
        ({"content": '{"name": "ir', "finish_reason": "length"}, "was cut off (length)"),
        ({"content": None, "refusal": "I will not."}, "the model refused (I will not.)"),
    ],
)
def test_an_answer_of_another_form_is_kept_and_the_reason_is_said(answer, words):
    with talking(in_turn(answer, "Fine.")) as (_, chat):
        turn = chat.ask("Describe an iris.", response_format=Flower)
        reply = turn.result(WAIT_S)
        assert reply.parsed is None
        assert any(words in w for w in reply.warnings)
        assert turn.state == "complete"
        assert reply.text == (answer if isinstance(answer, str) else answer["content"] or "")
        assert chat.ask("Go on.").result(WAIT_S).text == "Fine."


def test_validators_never_run_on_the_background_loop():
    from voxnb.runtime import loop

    seen = []

    class Odd(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def note(cls, n):
            seen.append(loop.on_loop())
            return n

    with talking('{"n": 1}') as (_, chat):
        assert chat.ask("Hi", response_format=Odd).result(WAIT_S).parsed == Odd(n=1)
    assert set(seen) == {False}


def test_a_repeated_run_gives_the_same_instance(tmp_path):
    given = {"store": str(tmp_path / "s.db"), "conversation": "c", "if_exists": "reuse"}
    with testing.server(in_turn(IRIS, "Never.")) as server:
        for reused in (False, True):
            with client(server, **given) as chat:
                reply = chat.ask("Describe an iris.", response_format=Flower).result(WAIT_S)
                assert (reply.reused, reply.parsed) == (reused, Flower.model_validate_json(IRIS))


def test_asking_again_gives_an_instance_too():
    with talking(in_turn(REFUSED, IRIS)) as (_, chat):
        with pytest.raises(InternalServerError):
            chat.ask("Describe an iris.", response_format=Flower).result(WAIT_S)
        assert chat.conversation.retry().result(WAIT_S).parsed == Flower.model_validate_json(IRIS)


def test_a_form_and_tools_go_together():
    def count() -> int:
        """Petals of an iris."""
        return 3

    calls = {"tool_calls": [{"name": "count", "arguments": {}}]}
    with talking(in_turn(calls, IRIS)) as (server, chat):
        reply = chat.ask("Hi", response_format=Flower, tools=[count], run_tools=True).result(WAIT_S)
        assert reply.parsed == Flower.model_validate_json(IRIS)
        assert reply.warnings == ()
        assert [r.result for r in reply.tool_runs] == ["3"]
        assert all("response_format" in r.json for r in server.requests if r.json)


def test_a_cut_reply_of_a_cancelled_turn_is_no_instance():
    with talking(testing.Hang(after_events=3, reply=IRIS)) as (_, chat):
        turn = chat.ask("Hi", response_format=Flower)
        next(iter(turn))
        turn.cancel()
        assert turn.result(WAIT_S).parsed is None


def test_the_event_carries_decoded_json_that_belongs_to_its_listeners():
    with talking(IRIS) as (_, chat):
        heard = []
        chat.on(EVENTS.ContentDone, lambda e: heard.append(e.payload.parsed))
        chat.ask("Hi", response_format=Flower).result(WAIT_S)
    assert heard == [json.loads(IRIS)]


@pytest.mark.parametrize("kind", [print, 3, lambda: 1])
def test_what_is_no_form_is_refused_before_anything_is_stored(kind):
    with talking("Hi.") as (_, chat):
        with pytest.raises(ParameterError, match="response_format is"):
            chat.ask("Hi", response_format=kind)
        assert not chat.conversation.exists
