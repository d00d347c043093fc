"""A scenario's own lines, run as they stand; what is not here says what there is."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import types

import pytest

import voxnb
from tests.voxengine import reference
from voxnb import errors, testing, voxengine
from voxnb.voxengine import Logger, Modules, OpenAI, VoxEngine, WebSocketAudioEncoding, require
from voxnb.voxengine.names import BETA_RENAMES, ELSEWHERE

WAIT_S = 10
TEXT_CLIENTS = [name for name in ("ChatCompletionsAPIClient", "ResponsesAPIClient") if hasattr(OpenAI, name)]


def made(name, server, **parameters):
    """A client from its factory, as ``await`` gives it."""
    given = {"apiKey": server.api_key, "baseUrl": server.base_url, **parameters}
    return asyncio.run(getattr(OpenAI, f"create{name}")(given))


def request(client, text="Hi"):
    if hasattr(client, "createResponses"):
        return client.createResponses({"model": "gpt-4o", "input": text})
    return client.createChatCompletions({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})


def done_event(name):
    return {
        "ChatCompletionsAPIClient": OpenAI.ChatCompletionsAPIEvents.ContentDone,
        "ResponsesAPIClient": OpenAI.ResponsesAPIEvents.ResponseCompleted,
    }[name]


@pytest.fixture
def server():
    with testing.server("Hello.") as running:
        yield running


# -- the text clients -------------------------------------------------------------------------


def test_a_multi_turn_scenario_runs_line_by_line(capsys):
    require(Modules.OpenAI)

    async def scenario(server):
        events = OpenAI.ChatCompletionsAPIEvents
        client = await OpenAI.createChatCompletionsAPIClient(
            {"apiKey": server.api_key, "baseUrl": server.base_url, "storeContext": True, "summaryModel": "gpt-4o-mini"}
        )
        ended = threading.Event()

        def done(event):
            Logger.write(event.data.payload.content)
            if event.data.payload.content == "Hello Ann.":
                client.createChatCompletions(
                    {"model": "gpt-4o", "messages": [{"role": "user", "content": "Who am I?"}]}
                )
            else:
                VoxEngine.terminate()
                ended.set()

        client.addEventListener(events.ContentDelta, lambda event: Logger.write(event.data.customEvent))
        client.addEventListener(events.ContentDone, done)
        client.createChatCompletions({"model": "gpt-4o", "messages": [{"role": "user", "content": "I am Ann."}]})
        assert await asyncio.to_thread(ended.wait, WAIT_S)
        with pytest.raises(errors.ClientClosedError):
            client.createChatCompletions({"model": "gpt-4o", "messages": [{"role": "user", "content": "More?"}]})

    with testing.server([["Hello ", "Ann."], ["Ann."]]) as server:
        asyncio.run(scenario(server))
        assert [m["content"] for m in server.requests[-1].messages] == ["I am Ann.", "Hello Ann.", "Who am I?"]
    assert capsys.readouterr().out.splitlines() == [
        *["ContentDelta"] * 2,
        "Hello Ann.",
        "ContentDelta",
        "Ann.",
    ]


@pytest.mark.parametrize("name", TEXT_CLIENTS)
def test_removing_without_a_callback_removes_every_listener_of_that_event(name, server):
    heard = []
    with made(name, server) as client:
        event = done_event(name)
        for number in (1, 2):
            client.addEventListener(event, lambda _, n=number: heard.append(n))
        client.addEventListener(event, heard.append)
        request(client).result(WAIT_S)
        assert heard[:2] == [1, 2]
        assert heard[2].client is client
        heard.clear()
        client.removeEventListener(event, heard.append)
        client.removeEventListener(event, print)  # never added
        request(client).result(WAIT_S)
        assert heard == [1, 2]
        heard.clear()
        client.removeEventListener(event)
        client.removeEventListener(event)
        request(client).result(WAIT_S)
        assert heard == []
        client.addEventListener(event.value, lambda _: heard.append("again"))
        request(client).result(WAIT_S)
        assert heard == ["again"]


@pytest.mark.parametrize("spelling", ["onWebSocketClose", "on_web_socket_close"])
@pytest.mark.parametrize("name", TEXT_CLIENTS)
def test_the_close_callback_is_called_once_with_what_voxengine_gives_it(name, spelling, server):
    closes, called = [], threading.Event()

    def closed(event):
        closes.append(event)
        called.set()

    client = made(name, server, **{spelling: closed})
    request(client).result(WAIT_S)
    assert closes == []
    client.close()
    assert called.wait(WAIT_S)
    client.close()
    (event,) = closes
    assert dict(event) == {
        "websocket": client.webSocketId(),
        "code": 1000,
        "reason": "Normal connection close",
        "wasClean": True,
    }
    assert (event.code, event.wasClean) == (1000, True)


@pytest.mark.parametrize("name", TEXT_CLIENTS)
def test_ids_stay_and_differ(name, server):
    with made(name, server) as client, made(name, server) as other:
        ids = [client.id(), client.webSocketId(), other.id(), other.webSocketId()]
        assert len(set(ids)) == 4
        assert ids == [client.id(), client.webSocketId(), other.id(), other.webSocketId()]


@pytest.mark.parametrize("name", TEXT_CLIENTS)
def test_a_factory_refuses_what_the_client_refuses(name):
    factory = getattr(OpenAI, f"create{name}")
    with pytest.raises(errors.ParameterError, match="unknown parameter 'apikey'; did you mean 'api_key'"):
        asyncio.run(factory({"apikey": "sk-x"}))
    with pytest.raises(errors.CredentialsError, match='base_url="local"'):
        asyncio.run(factory({}))


# -- VoxEngine --------------------------------------------------------------------------------


def test_terminate_closes_what_the_factories_made_and_nothing_else(server):
    clients = [made(name, server) for name in TEXT_CLIENTS * 2]
    with voxnb.chat("gpt-4o", base_url=server.base_url, api_key=server.api_key) as chat:
        VoxEngine.terminate()
        VoxEngine.terminate()
        for client in clients:
            with pytest.raises(errors.ClientClosedError):
                request(client)
        assert str(chat.ask("Still there?").result(WAIT_S)) == "Hello."
    with made(TEXT_CLIENTS[0], server) as client:
        assert str(request(client).result(WAIT_S)) == "Hello."


def test_terminate_keeps_the_part_of_a_reply_that_had_come():
    with testing.server(testing.Paced(["word "] * 1000, chunk_delay_s=0.02)) as server:
        client = made("ChatCompletionsAPIClient", server, storeContext=True)
        turn = request(client)
        next(iter(turn))
        store = client.store
        VoxEngine.terminate()
        (row,) = store.turns().to_dict("records")
        assert row["state"] == "partial"
        assert row["reply_text"].startswith("word ")


def test_media_between_what_is_no_media_unit_is_a_clear_error(server):
    with made("ChatCompletionsAPIClient", server) as client:
        with pytest.raises(errors.ParameterError, match="is no media unit"):
            VoxEngine.sendMediaBetween(object(), client)


def test_a_realtime_client_that_cannot_connect_is_an_error_of_its_factory():
    parameters = {"apiKey": "sk-secret", "baseUrl": "http://127.0.0.1:9/v1", "maxRetries": 0}
    with pytest.raises(errors.APIConnectionError, match="nothing listens") as caught:
        asyncio.run(OpenAI.createRealtimeAPIClient(parameters))
    assert "sk-secret" not in str(caught.value)
    assert OpenAI.RealtimeAPIClient.__name__ == "RealtimeAPIClient"
    assert {t.name: t.value for t in OpenAI.RealtimeAPIClientType} == {
        "REALTIME": "realtime",
        "TRANSCRIPTION": "transcription",
    }
    assert OpenAI.RealtimeAPIEvents.SessionCreated == "OpenAI.RealtimeAPI.SessionCreated"


def test_beta_has_its_constants_and_its_factory_says_what_each_name_is_called_now():
    assert OpenAI.Beta.Events.WebSocketMediaEnded == "OpenAI.Beta.Events.WebSocketMediaEnded"
    assert OpenAI.Beta.RealtimeAPIEvents.ResponseAudioDone == "OpenAI.Beta.RealtimeAPI.ResponseAudioDone"
    with pytest.raises(errors.NotSupportedError, match="service refuses the Beta interface") as caught:
        asyncio.run(OpenAI.Beta.createRealtimeAPIClient({"apiKey": "sk-secret"}))
    assert caught.value.renames == BETA_RENAMES
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(BETA_RENAMES)
    assert any(
        line.split(" → ")[0].strip() == "RealtimeAPIEvents.ConversationCreated" and "(gone)" in line for line in lines
    )
    assert "sk-secret" not in str(caught.value)


def test_audio_encodings_are_voxengines():
    assert {n: e.value for n, e in WebSocketAudioEncoding.__members__.items()} == reference.ENCODINGS
    assert WebSocketAudioEncoding.PCM8 is WebSocketAudioEncoding.PCM16_8KHZ


# -- the log ----------------------------------------------------------------------------------


class Silent:
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("a line", "a line"),
        ({"delta": "Hi"}, "{'delta': 'Hi'}"),
        (None, "None"),
        ("مرحبا 🙂", "مرحبا 🙂"),
        ("half \ud83d a pair", "half \\ud83d a pair"),
        (Silent(), "<Silent, whose str() raised ZeroDivisionError>"),
        (float("nan"), "nan"),
        ("x" * 2_000_000, "x" * 2_000_000),
    ],
    ids=["text", "dict", "none", "scripts", "surrogate", "raises", "nan", "long"],
)
def test_anything_is_logged_as_one_line(given, line, capsys):
    assert Logger.write(given) is None
    assert capsys.readouterr().out == line + "\n"


def test_a_stream_that_cannot_take_a_line_ends_nothing(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    Logger.write("é")
    assert narrow.buffer.getvalue() == b"\\xe9\n"
    narrow.close()
    Logger.write("after the end")
    monkeypatch.setattr(sys, "stdout", None)
    Logger.write("nowhere")


def test_lines_of_many_threads_stay_whole(root):
    code = (
        "import threading\nfrom voxnb.voxengine import Logger\n"
        "work = lambda n: [Logger.write(str(n) * 50) for _ in range(50)]\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]"
    )
    done = subprocess.run(
        [sys.executable, "-u", "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 400, done.stderr
    assert all(len(line) == 50 and len(set(line)) == 1 for line in lines)


# -- names that are not here ------------------------------------------------------------------


def imported(name):
    space = types.SimpleNamespace()
    exec(f"from voxnb.voxengine import {name}", vars(space))
    return getattr(space, name)


@pytest.mark.parametrize("name", [*ELSEWHERE, "Loger", "Nonsense", "RealtimeAPIClient", "Beta"])
def test_a_name_that_is_not_here_says_what_there_is_for_import_and_attribute_alike(name):
    with pytest.raises(ImportError) as at_import:
        imported(name)
    with pytest.raises(AttributeError) as at_access:
        getattr(voxengine, name)
    assert str(at_import.value) == str(at_access.value)
    assert str(at_access.value).startswith(f"voxnb.voxengine has no {name!r}: ")
    assert not hasattr(voxengine, name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CallEvents", "voxnb has no telephone calls"),
        ("Gemini", "the OpenAI module alone"),
        ("ChatCompletionsAPIEvents", "it is OpenAI.ChatCompletionsAPIEvents"),
        ("createChatCompletionsAPIClient", "it is OpenAI.createChatCompletionsAPIClient"),
        ("Loger", "did you mean 'Logger'"),
        ("Voxengine", "did you mean 'VoxEngine'"),
        ("RealtimeAPIClient", "it is OpenAI.RealtimeAPIClient"),
    ],
)
def test_the_nearest_thing_is_named(name, words):
    with pytest.raises(ImportError, match=words):
        imported(name)


def test_what_is_here_is_imported_by_name_and_by_star():
    for name in voxengine.__all__:
        assert imported(name) is getattr(voxengine, name)
    space = {}
    exec("from voxnb.voxengine import *", space)
    assert set(voxengine.__all__) <= set(space)


@pytest.mark.parametrize(
    ("namespace", "name", "words"),
    [
        (OpenAI, "createChatCompletionAPIClient", "did you mean 'createChatCompletionsAPIClient'"),
        (OpenAI.Beta, "createChatCompletionsAPIClient", r"OpenAI\.Beta has no"),
        (OpenAI.Beta, "RealtimeAPIClient", "service refuses the Beta interface; use OpenAI.RealtimeAPIClient"),
        (VoxEngine, "callPSTN", "VoxEngine has no 'callPSTN' here; there are sendMediaBetween, terminate"),
        (VoxEngine, "terminated", "did you mean 'terminate'"),
        (Logger, "log", "Logger has no 'log' here; there are write"),
        (Modules, "ASR", "Modules has no 'ASR' here; there are OpenAI"),
    ],
)
def test_a_wrong_name_in_a_namespace_says_what_is_nearest(namespace, name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(namespace, name)


@pytest.mark.parametrize("namespace", [OpenAI, OpenAI.Beta, VoxEngine, Logger, Modules])
def test_dir_of_a_namespace_lists_names_that_are_there(namespace):
    names = [n for n in dir(namespace) if not n.startswith("_")]
    assert names
    assert [n for n in names if not hasattr(namespace, n)] == []


def test_calling_a_namespace_says_what_was_meant():
    with pytest.raises(TypeError, match="from openai import OpenAI"):
        OpenAI(api_key="sk-x")
    with pytest.raises(TypeError, match="VoxEngine is a namespace; use what is in it: sendMediaBetween, terminate"):
        VoxEngine()


def test_require_does_nothing_and_refuses_other_modules():
    assert require(Modules.OpenAI) is None
    assert require("openai") is None
    for wrong in ("opnai", "asr", None, 3):
        with pytest.raises(errors.ParameterError, match=r"there is no module .* in voxnb.*; there is Modules.OpenAI"):
            require(wrong)
