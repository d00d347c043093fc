"""Pages of a conversation, the stamp of a store, and saying something in a conversation that is not the client's own."""

import threading

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import ConversationError


@pytest.fixture
def store():
    with voxnb.ContextStore(":memory:") as made:
        yield made


def said(store, turns, name="iris"):
    for n in range(1, turns + 1):
        store.append(name, [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}])
    return store[name]


def test_the_newest_turns_come_first_and_the_pages_join(store):
    talk = said(store, 7)
    newest = talk.page(limit=3)
    assert ([t.seq for t in newest.turns], newest.turn_count) == ([5, 6, 7], 7)
    before = talk.page(before=5, limit=3)
    assert [t.seq for t in before.turns] == [2, 3, 4]
    assert [t.seq for t in talk.page(before=2, limit=3).turns] == [1]
    assert [m["content"] for m in before.turns[0].messages] == ["q2", "a2"]


def test_a_conversation_in_which_nothing_was_said_has_an_empty_page():
    with testing.server(["x"]) as server, voxnb.chat("m", base_url=server.base_url, store=":memory:") as chat:
        assert chat.conversation.page() == voxnb.store.pages.EMPTY


def test_pins_and_the_summary_that_covers_a_turn_are_told(store):
    with testing.server(["a", "b", "c", "Sum one.", "d", "Sum two."]) as server:
        with voxnb.chat("m", base_url=server.base_url, store=store, conversation="x") as chat:
            talk = chat.conversation
            for n in range(3):
                chat.ask(
                    f"question {n} with some more words, so that there is something to fold " + "and more " * 60
                ).result()
            talk.fold(1).result()
            chat.ask("and another question, also with some more words in it").result()
            talk.fold(3).result()
            talk.pin(2)
            page = talk.page()
    assert [t.summary_round for t in page.turns] == [1, 2, 2, None]
    assert [t.pinned for t in page.turns] == [False, True, False, False]
    assert (page.folded_to, page.rounds) == (3, 2)
    assert {t.model for t in page.turns} == {"m"}


@pytest.mark.parametrize("memory", [True, False])
def test_the_stamp_changes_with_every_change_and_only_then(memory, tmp_path):
    with voxnb.ContextStore(":memory:" if memory else tmp_path / "s.db") as store:
        talk = said(store, 2)
        before = store.stamp()
        assert store.stamp() == before
        thread = threading.Thread(target=talk.pin, args=(1,))
        thread.start()
        thread.join()
        after = store.stamp()
        assert after != before
        assert store.stamp() == after


def test_a_question_in_a_fork_stays_in_the_fork():
    with testing.server(["one", "two", "three"]) as server:
        with voxnb.chat("m", base_url=server.base_url, store=":memory:", conversation="x") as chat:
            chat.ask("first").result()
            chat.ask("second").result()
            fork = chat.conversation.fork(at=1)
            with pytest.raises(ConversationError, match=r"ask\(\) calls a model"):
                fork.ask("else")
            assert str(fork.ask("else", client=chat).result()) == "three"
            assert [m["content"] for m in server.requests[-1].messages] == ["first", "one", "else"]
            assert [len(chat.conversation), len(fork)] == [2, 2]
            assert chat.conversation.page().turns[-1].messages[0]["content"] == "second"
