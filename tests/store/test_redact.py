"""redact(): the words are gone from everything that held them, and everything else still adds up."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import (
    WAIT_S,
    chats,
    client,
    folds,
    in_turn,
    say,
    scripted,
    shown,
    summary_of,
    talking,
    told,
)
from voxnb import errors
from voxnb.testing import Status

SECRET = "xylophonemarmalade"


def holds(path, word=SECRET):
    return sorted(
        f.name for f in Path(path).parent.iterdir() if f.is_file() and word.lower().encode() in f.read_bytes().lower()
    )


def repeat(request):
    """A summary that quotes whatever it was shown of the secret, and tells the tags."""
    tags = " ".join(f"#{n}" for n in sorted(told(shown(request))))
    return f"They said {SECRET if SECRET in shown(request) else 'nothing odd'}. {tags}"


def test_a_turn_is_blank_and_keeps_its_place():
    with talking() as (_, chat):
        say(chat, 1)
        chat.ask(f"My name is {SECRET} #2").result(WAIT_S)
        say(chat, 3)
        before = chat.conversation.turns(), chat.conversation.messages()
        redaction = chat.conversation.redact(2)
        after = chat.conversation.turns(), chat.conversation.messages()
        same = ["turn_id", "seq", "state", "tokens", "model", "finish_reason", "created_at"]
        assert after[0][same].equals(before[0][same])
        same = ["message_id", "role", "tokens", "encoding", "content_hash", "created_at"]
        assert after[1][same].equals(before[1][same])
        assert after[0]["redacted_at"].notna().tolist() == [False, True, False]
        assert after[1]["content"].tolist()[2:4] == ["[redacted]"] * 2
        assert redaction.turns == (before[0]["turn_id"][1],)
        assert redaction.messages == 2
        assert redaction.summaries == redaction.elsewhere == ()
        assert repr(redaction) == "<Redaction: 1 turn with 2 messages made blank>"
        assert len(chat.store.search(SECRET)) == 0
        assert chat.store.verify()


def test_it_is_not_sent_and_says_so():
    with talking() as (server, chat):
        say(chat, 1)
        chat.ask(f"My name is {SECRET} #2").result(WAIT_S)
        say(chat, 3)
        chat.conversation.redact(2)
        plan = chat.conversation.plan("What now?")
        assert plan.dropped == [(2, "redacted")]
        assert {i.seq for i in plan.layout.items} == {1, 3, 4}
        assert [m["content"] for m in plan.messages if "redacted" in str(m["content"])] == []
        say(chat, 4)
        assert told(shown(chats(server)[-1])) == {1, 3, 4}
        assert chat.conversation.explain(4).exact
        assert chat.conversation.explain(4).dropped == [(2, "redacted")]
        verdict = chat.store.verify()
        assert verdict
        assert verdict.redacted == 2  # its own request, and that of turn 3
        assert "4 requests rebuilt" not in str(verdict)
        assert "2 requests rebuilt, 2 not: redacted since" in str(verdict)


def test_a_request_that_carried_it_says_why_it_cannot_be_rebuilt():
    with talking() as (_, chat):
        chat.ask(f"My name is {SECRET} #1").result(WAIT_S)
        say(chat, 2)
        assert chat.conversation.explain(2).exact
        chat.conversation.redact(1)
        for seq in (1, 2):
            plan = chat.conversation.explain(seq)
            assert plan.redacted
            assert not plan.exact
            assert "redacted since" in repr(plan)
            assert SECRET not in repr(plan)
        chat.store.database.write(
            lambda c: c.execute("UPDATE message SET text = 'x' WHERE turn = 2 AND position = 0")
        ).result()
        assert not chat.store.verify()


def test_what_is_damaged_is_not_excused_by_an_earlier_redaction():
    with talking() as (_, chat):
        say(chat, 1, 2)
        chat.conversation.redact(1)
        say(chat, 3)
        chat.store.database.write(
            lambda c: c.execute("UPDATE call SET plan = json_set(plan, '$.hash', 'x') WHERE turn = 3")
        ).result()
        problems = chat.store.verify().problems
        assert len(problems) == 1
        assert "(turn 3): what is stored does not give the request that was sent" in problems[0]


def test_words_that_come_back_are_a_problem():
    with talking() as (_, chat):
        say(chat, 1)
        chat.conversation.redact(1)
        chat.store.database.write(lambda c: c.execute("UPDATE message SET text = 'back' WHERE position = 0")).result()
        assert "still says something" in chat.store.verify().problems[0]


def test_summaries_that_saw_it_are_blank_and_what_they_covered_is_folded_again(tmp_path):
    path = tmp_path / "store.db"
    with talking(scripted(fold=repeat), store=str(path)) as (server, chat):
        say(chat, 1, 2, 3, 4)
        chat.ask(f"My name is {SECRET} #5, " + "please " * 12).result(WAIT_S)
        chat.idle().result(WAIT_S)
        say(chat, *range(6, 14))
        summaries = chat.conversation.summaries()
        first_bad = summaries[summaries["last_seq"] >= 5]["summary_id"].tolist()
        kept = summaries[summaries["last_seq"] < 5]
        assert len(first_bad) >= 2
        assert SECRET in chat.conversation.summary().text
        redaction = chat.conversation.redact(5)
        assert set(redaction.summaries) == set(first_bad)
        assert redaction.unfolded == (chat.conversation.name,)
        assert "made stale and blank" in str(redaction)
        assert holds(path) == []
        frame = chat.store.summaries().set_index("summary_id")
        assert set(frame.loc[first_bad, "state"]) == {"stale"}
        assert set(frame.loc[first_bad, "text"]) == {"[redacted]"}
        head = chat.conversation.summary()
        assert (head.id if head else None) == (kept["summary_id"].iloc[-1] if len(kept) else None)
        count = len(folds(server))
        say(chat, *range(14, 20))
        assert len(folds(server)) > count
        assert SECRET not in "".join(shown(r) for r in server.requests[-6:])
        assert (
            5 not in chat.store.coverage(chat.conversation)[lambda f: ~f["summary_id"].isin(first_bad)]["seq"].tolist()
        )
        assert "nothing odd" in chat.conversation.summary().text
        verdict = chat.store.verify()
        assert verdict, verdict
        assert verdict.redacted > 0
        assert holds(path) == []
        chat.store.close()


def test_every_fork_loses_it_and_its_summary(tmp_path):
    path = tmp_path / "store.db"
    with talking(scripted(fold=repeat), store=str(path)) as (server, chat):
        chat.ask(f"My name is {SECRET} #1, " + "please " * 12).result(WAIT_S)
        say(chat, *range(2, 12))
        assert SECRET in chat.conversation.summary().text
        fork = chat.conversation.fork(name="fork")
        early = chat.conversation.fork(1, name="early")
        apart = chat.conversation.fork(0, name="apart")
        with client(server, store=str(path), conversation="fork", policy=chat.policy) as other:
            say(other, *range(20, 26))
        redaction = early.redact(1)
        assert set(redaction.unfolded) >= {chat.conversation.name, "fork"}
        for one in (chat.conversation, fork, early):
            assert one.messages()["content"].tolist()[:2] == ["[redacted]"] * 2
        assert len(apart) == 0
        assert holds(path) == []
        verdict = chat.store.verify()
        assert verdict, verdict
        chat.store.close()


def test_what_was_asked_again_in_its_place_goes_with_it(tmp_path):
    path = tmp_path / "store.db"
    replies = in_turn("Well.", f"So you are {SECRET}.", "I see.")
    with talking(scripted(replies), store=str(path)) as (_, chat):
        chat.ask("Hello").result(WAIT_S)
        chat.ask(f"My name is {SECRET}").result(WAIT_S)
        chat.conversation.retry().result(WAIT_S)
        redaction = chat.conversation.redact(-1)
        assert len(redaction.turns) == 2
        assert holds(path) == []
        assert chat.store.verify()
        chat.store.close()


def test_an_undone_turn_is_redacted_by_its_id(tmp_path):
    path = tmp_path / "store.db"
    with talking(store=str(path)) as (_, chat):
        say(chat, 1)
        reply = chat.ask(f"My name is {SECRET}").result(WAIT_S)
        chat.conversation.undo()
        with pytest.raises(errors.ConversationError, match="there is no turn 2"):
            chat.conversation.redact(2)
        chat.conversation.redact(reply)
        assert holds(path) == []
        assert chat.store.verify()
        chat.store.close()


def test_a_tool_loop_is_one_turn(tmp_path):
    path = tmp_path / "store.db"
    calls = {"tool_calls": [{"id": "a", "name": "look", "arguments": {"who": SECRET}}]}
    with talking(scripted(in_turn("Well.", calls, "Found.", "So.")), store=str(path)) as (server, chat):
        chat.ask("Hello").result(WAIT_S)
        reply = chat.ask("Look").result(WAIT_S)
        result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": f"{SECRET} is here"}
        chat.create_chat_completions(messages=[result]).result(WAIT_S)
        redaction = chat.conversation.redact(-1)
        assert redaction.messages == 4
        assert holds(path) == []
        chat.ask("And?").result(WAIT_S)
        assert [m["role"] for m in chats(server)[-1].messages] == ["user", "assistant", "user"]
        assert chat.store.verify()
        chat.store.close()


def test_tool_results_cannot_answer_a_redacted_call():
    calls = {"tool_calls": [{"id": "a", "name": "look", "arguments": {}}]}
    with talking(scripted(in_turn(calls, "Found."))) as (_, chat):
        reply = chat.ask("Look").result(WAIT_S)
        chat.conversation.redact(1)
        with pytest.raises(errors.MessageError, match="which no assistant message called"):
            result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "here"}
            chat.create_chat_completions(messages=[result]).result(WAIT_S)


def test_errors_events_notes_titles_parameters_and_drafts_are_blank(tmp_path):
    path = tmp_path / "store.db"
    refusal = Status(400, {}, {"error": {"message": f"we do not like {SECRET} here", "type": "invalid_request_error"}})
    with talking(scripted(in_turn("Well.", refusal, "Fine.")), store=str(path)) as (_, chat):
        chat.ask(f"I am {SECRET}", user=f"user-{SECRET}").result(WAIT_S)
        with pytest.raises(errors.VoxnbError):
            chat.ask("Go on").result(WAIT_S)
        chat.ask("Go on then").result(WAIT_S)
        note = chat.store.note(chat.conversation.turns()["turn_id"][0], f"this is {SECRET}")
        assert note is None
        chat.store.note(chat.conversation.turns()["turn_id"][2], "kept")

        def rows(c):
            c.execute("UPDATE conversation SET title = ?", (f"About {SECRET}",))
            c.execute("INSERT INTO draft VALUES (1, ?)", (f'{{"content": "{SECRET}"}}',))
            insert = "INSERT INTO event (uid, conversation, turn, seq, name, payload, created_at) VALUES (?, 1, ?, 1, 'E', ?, 9e9)"
            c.execute(insert, ("e1", 1, f'{{"a": "{SECRET}"}}'))
            c.execute(insert, ("e2", None, f'{{"b": "{SECRET}"}}'))
            c.execute(insert, ("e3", None, '{"n": 1}'))

        chat.store.database.write(rows).result()
        redaction = chat.conversation.redact(1)
        assert redaction.notes == 1
        assert holds(path) == []
        assert chat.store.notes()["text"].tolist() == ["[redacted]", "kept"]
        assert '{"n": 1}' in chat.store.events()["payload"].tolist()
        assert chat.store.conversations()["title"].isna().all()
        assert chat.store.calls()["error"].tolist()[1] == "[redacted]"
        assert chat.store.verify()
        chat.store.close()


def test_recordings_copies_and_names_are_told():
    with talking(conversation=f"{SECRET} and I") as (_, chat):
        chat.ask(f"My name is {SECRET}").result(WAIT_S)
        insert = "INSERT INTO media (uid, conversation, turn, direction, path, created_at) VALUES ('m', 1, 1, 'in', '/tmp/a.wav', 1)"
        chat.store.database.write(lambda c: c.execute(insert)).result()
        told_of = str(chat.conversation.redact(1))
        assert "not covered: the recording '/tmp/a.wav'" in told_of
        assert "the name 'xylophonemarmalade and I' shares a word with it; rename()" in told_of


def test_instructions_that_hold_a_word_of_it_are_told_also_where_others_were_given_since():
    with talking(conversation="here") as (_, chat):
        for instructions in (f"You talk with {SECRET}.", "Be brief."):
            messages = [{"role": "system", "content": instructions}, {"role": "user", "content": f"I am {SECRET}"}]
            chat.create_chat_completions(messages=messages).result(WAIT_S)
        told_of = "instructions of 'here' share a word with it; give others if they should not"
        assert chat.conversation.redact(1).elsewhere == (told_of,)


def test_traces_that_hold_the_words_are_told(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with talking(trace=True) as (_, chat), talking(trace=True) as (_, other):
        chat.ask(f"My name is {SECRET}\nand Ünal").result(WAIT_S)
        other.ask("Who am I?").result(WAIT_S)
        assert SECRET in Path(chat.trace).read_text()
        aside = Path(f"{chat.trace}.1")
        aside.write_bytes(Path(chat.trace).read_bytes())
        (gone := Path(f"{chat.trace}.2")).write_bytes(aside.read_bytes())
        os.utime(gone, (1, 1))  # it ended long before the turn
        (cut := Path(f"{other.trace}.1")).write_text('{"cut_to_bytes":7,"text":"My"}')
        redaction = chat.conversation.redact(1)
        assert redaction.elsewhere == tuple(
            f"the trace {str(path)!r}" for path in sorted([Path(chat.trace), aside, cut])
        )
        assert f"not covered: the trace {str(chat.trace)!r}" in str(redaction)


@pytest.mark.parametrize(
    "text", ["My keys:\nsk-abcdefgh, keep them", "Authorize with Bearer abcdefgh and go on", "sk-abcdefgh"]
)
def test_a_trace_that_has_a_key_of_the_words_hidden_is_told_too(tmp_path, monkeypatch, text):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with talking(trace=True) as (_, chat):
        chat.ask(text).result(WAIT_S)
        assert "abcdefgh" not in Path(chat.trace).read_text()
        assert [str(chat.trace) in place for place in chat.conversation.redact(1).elsewhere] == [True]


def test_a_short_text_is_found_in_a_trace_where_it_was_all_that_was_said(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with talking(trace=True) as (_, chat), talking(trace=True) as (_, other):
        chat.ask("4711").result(WAIT_S)
        other.ask("Is it 47110?").result(WAIT_S)
        assert [str(chat.trace) in place for place in chat.conversation.redact(1).elsewhere] == [True]


def test_copies_from_before_a_change_of_schema_are_told(tmp_path):
    with voxnb.ContextStore(tmp_path / "my[1]*.db") as store:
        (tmp_path / "my[1]*.v1.backup.db").touch()
        (tmp_path / "other.v1.backup.db").touch()
        talk = store.append("a", [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "ok"}])
        assert talk.redact(1).elsewhere == (f"the copy {str(tmp_path / 'my[1]*.v1.backup.db')!r}",)


def test_a_running_turn_is_refused():
    began, release = threading.Event(), threading.Event()

    def slowly(request):
        began.set()
        release.wait(WAIT_S)
        return "There."

    with talking(scripted(in_turn("Well.", slowly))) as (_, chat):
        chat.ask("One").result(WAIT_S)
        running = chat.ask("Two")
        assert began.wait(WAIT_S)
        with pytest.raises(
            errors.ConversationError, match=r"turn 2 \(t-\w+\) is still running; wait for it or cancel\(\)"
        ):
            chat.conversation.redact(2)
        chat.conversation.redact(1)
        release.set()
        assert running.result(WAIT_S).text == "There."
        chat.conversation.redact(2)
        assert set(chat.conversation.messages()["content"]) == {"[redacted]"}
        assert chat.store.verify()


def test_a_fold_that_was_shown_the_words_is_not_taken():
    began, release = threading.Event(), threading.Event()

    def fold(request):
        began.set()
        release.wait(WAIT_S)
        return repeat(request)

    with talking(scripted(fold=fold)) as (_, chat):
        chat.ask(f"My name is {SECRET} #1, " + "please " * 40).result(WAIT_S)
        for n in range(2, 4):
            chat.ask(f"Tell me of #{n}, " + "please " * 40).result(WAIT_S)
        folding = chat.conversation.fold(2)
        assert began.wait(WAIT_S)
        chat.conversation.redact(1)
        release.set()
        folding.result(WAIT_S)
        chat.idle().result(WAIT_S)
        assert SECRET not in "".join(chat.store.summaries()["text"])
        assert chat.store.verify()


@pytest.mark.parametrize("which", [0, 9, -9, "t-none", None, 1.5])
def test_what_is_no_turn_is_refused(which):
    with talking() as (_, chat):
        say(chat, 1)
        with pytest.raises(errors.ConversationError):
            chat.conversation.redact(which)


def test_twice_is_once_and_retry_says_that_the_words_are_gone():
    with talking() as (_, chat):
        say(chat, 1)
        first = chat.conversation.redact(1)
        at = chat.conversation.turns()["redacted_at"][0]
        assert chat.conversation.redact(1) == first
        assert chat.conversation.turns()["redacted_at"][0] == at
        with pytest.raises(errors.ConversationError, match="was redacted: its words are gone"):
            chat.conversation.retry().result(WAIT_S)
        chat.conversation.undo()
        say(chat, 2)
        assert chat.store.verify()


def test_a_repeated_run_is_not_answered_with_a_blank():
    with talking() as (server, chat):
        say(chat, 1, 2)
        chat.conversation.redact(1)
        with client(server, store=chat.store, conversation=chat.conversation.name, if_exists="reuse") as again:
            reply = again.ask("Tell me of #1, " + "please " * 12).result(WAIT_S)
        assert not reply.reused
        assert "[redacted]" not in reply.text


def test_a_read_only_store_refuses(tmp_path):
    path = tmp_path / "store.db"
    with voxnb.ContextStore(path) as store:
        store.append("a", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}])
    with voxnb.ContextStore(path, read_only=True) as store, pytest.raises(errors.StoreReadOnlyError):
        store["a"].redact(1)


@pytest.mark.parametrize("form", ["jsonl", "csv", "md", "html"])
def test_an_export_shows_that_something_was_redacted(tmp_path, form):
    with talking() as (_, chat):
        chat.ask(f"My name is {SECRET}").result(WAIT_S)
        say(chat, 2)
        chat.conversation.redact(1)
        file = tmp_path / f"talk.{form}"
        chat.conversation.export(file)
        text = file.read_text()
        assert "redacted" in text
        assert SECRET not in text


def test_an_export_of_ours_brings_it_back_redacted(tmp_path):
    with talking() as (_, chat):
        chat.ask(f"My name is {SECRET}").result(WAIT_S)
        say(chat, *range(2, 12))
        chat.conversation.redact(1)
        chat.conversation.export(tmp_path / "talk.jsonl")
        with voxnb.ContextStore(":memory:") as other:
            report = other.import_conversations(tmp_path / "talk.jsonl")
            assert not report.skipped
            same = ["turn_id", "tokens", "redacted_at"]
            assert other.turns()[same].equals(chat.conversation.turns()[same])
            assert other.verify()
            assert other[chat.conversation.name].plan("x").dropped == chat.conversation.plan("x").dropped


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_done_before_and_after_everything_adds_up(data):
    with talking(scripted(fold=repeat)) as (server, chat):
        conversation, tag = chat.conversation, 0
        secrets = []
        for _ in range(data.draw(st.integers(4, 14))):
            verb = data.draw(
                st.sampled_from(
                    ["say", "say", "say", "secret", "undo", "retry", "pin", "fold", "unfold", "redact", "fork"]
                )
            )
            length = len(conversation)
            if verb in ("say", "secret"):
                tag += 1
                text = f"#{tag} {SECRET + str(tag) if verb == 'secret' else ''} " + "please " * 12
                reply = chat.ask(text).result(WAIT_S)
                if verb == "secret":
                    secrets.append((reply, f"{SECRET}{tag}"))
            elif length and verb == "fork":
                conversation.fork(data.draw(st.integers(1, length)))
            elif length and verb in ("pin", "redact"):
                getattr(conversation, verb)(data.draw(st.integers(1, length)))
            elif length and verb == "undo":
                conversation.undo()
            elif length and verb == "retry" and not conversation.turns()["redacted_at"].notna().iloc[-1]:
                conversation.retry().result(WAIT_S)
            elif length and verb == "fold":
                try:
                    conversation.fold().result(WAIT_S)
                except voxnb.errors.SummaryError as error:  # a turn so short that no summary is shorter
                    assert error.reason == "growing", error
            elif length and verb == "unfold":
                conversation.unfold()
            chat.idle().result(WAIT_S)
        for reply, word in secrets:
            conversation.redact(reply)
            assert word not in "".join(chat.store.database.read("SELECT group_concat(text) FROM message")[0][0])
        everything = "".join(chat.store.database.perform(lambda c: list(c.iterdump())).result()) if secrets else ""
        for _, word in secrets:
            assert word not in everything
        verdict = chat.store.verify()
        assert verdict, verdict
        if len(conversation):
            say(chat, 90)
            assert 90 in told(shown(chats(server)[-1]))
            assert summary_of(chats(server)[-1]) is None or "[redacted]" not in summary_of(chats(server)[-1])
        assert chat.store.verify()
