"""Listeners that wait for turns, with real clients, a real server and a store: nothing waits for ever."""

import threading

import pytest

import voxnb
from voxnb import testing

WAIT_S = 10
DONE = voxnb.OpenAI.ChatCompletionsAPIEvents.ContentDone


def echo(request):
    return f"{request.text}!"


@pytest.fixture
def server():
    with testing.server(echo) as running:
        yield running


@pytest.fixture
def client(server, tmp_path):
    """Makes clients of one store; they are closed at the end."""
    made = []

    def make(conversation):
        chat = voxnb.chat(
            "gpt-4o-mini",
            base_url=server.base_url,
            api_key=server.api_key,
            store=tmp_path / "store.db",
            conversation=conversation,
        )
        made.append(chat)
        return chat

    yield make
    for chat in made:
        chat.close()


def said(chat):
    """What a conversation holds, turn by turn."""
    turns = chat.conversation.turns(columns=["state", "user_text", "reply_text"])
    assert chat.store.verify()
    return list(turns.itertuples(index=False, name=None))


def test_a_listener_blocks_on_a_chained_turn_of_the_same_client(client):
    chat, got = client("one"), []

    def chain(event):
        if event.payload.content == "first!":
            got.append(chat.ask("second").result(WAIT_S).text)

    chat.on(DONE, chain)
    assert chat.ask("first").result(WAIT_S).text == "first!"
    assert got == ["second!"]
    assert said(chat) == [("complete", "first", "first!"), ("complete", "second", "second!")]


def test_a_listener_blocks_on_its_own_turn(client):
    chat, got = client("one"), []
    chat.on(DONE, lambda event: got.append(event.turn.result(WAIT_S).text))
    chat.on(DONE, lambda event: got.append("".join(event.turn)))
    chat.ask("first").result(WAIT_S)
    assert got == ["first!", "first!"]
    assert said(chat) == [("complete", "first", "first!")]


def test_an_async_listener_awaits_a_chained_turn(client):
    chat, got = client("one"), []

    @chat.on(DONE)
    async def chain(event):
        if event.payload.content == "first!":
            got.append((await chat.ask("second")).text)
            got.append((await event.turn).text)
            got.append("".join([delta async for delta in event.turn]))

    chat.ask("first").result(WAIT_S)
    assert got == ["second!", "first!", "first!"]
    assert said(chat) == [("complete", "first", "first!"), ("complete", "second", "second!")]


def test_two_clients_wait_on_each_others_turns(client):
    one, two, got, turns = client("one"), client("two"), [], {}
    both_asked = threading.Event()

    def cross(other):
        def listener(event):
            both_asked.wait(WAIT_S)
            got.append(turns[other].result(WAIT_S).text)

        return listener

    one.on(DONE, cross("two"))
    two.on(DONE, cross("one"))
    turns["one"], turns["two"] = one.ask("a"), two.ask("b")
    both_asked.set()
    assert [turn.result(WAIT_S).text for turn in turns.values()] == ["a!", "b!"]
    assert sorted(got) == ["a!", "b!"]
    assert said(one) + said(two) == [("complete", "a", "a!"), ("complete", "b", "b!")]


def test_a_listener_chains_through_another_client_in_the_same_conversation(client):
    one, two, got = client("one"), client("one"), []
    one.on(DONE, lambda event: got.append(two.ask("second").result(WAIT_S).text))
    one.ask("first").result(WAIT_S)
    assert got == ["second!"]
    assert said(one) == said(two) == [("complete", "first", "first!"), ("complete", "second", "second!")]


def test_a_chained_turn_is_sent_with_the_turn_that_it_follows(client, server):
    chat = client("one")
    chat.on(DONE, lambda event: chat.ask("second").result(WAIT_S) if event.payload.content == "first!" else None)
    chat.ask("first").result(WAIT_S)
    asked = [request for request in server.requests if request.method == "POST"]
    assert [m["content"] for m in asked[1].messages] == ["first", "first!", "second"]


def test_a_conversation_that_another_client_begins_is_the_same_at_once(client):
    first, second = client("talk"), client("talk")
    first.ask("one").result(WAIT_S)
    assert (second.conversation.id, len(second.conversation)) == (first.conversation.id, 1)
    second.ask("two").result(WAIT_S)
    assert first.conversation.turns()["user_text"].tolist() == ["one", "two"]
