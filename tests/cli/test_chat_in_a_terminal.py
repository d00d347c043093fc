"""`voxnb chat` as a person sits before it."""

import json
import re

import pytest

import voxnb
from voxnb import testing

pytestmark = pytest.mark.slow

PROMPT = r"(?m)^> ?\Z"  # a prompt that waits


def chat(terminal, server, store, *more, **environment):
    arguments = ("chat", "--base-url", server.base_url, "--model", "m", "--store", store, *more)
    return terminal(*arguments, **environment)


def asked(server):
    return [r.messages[-1]["content"] for r in server.requests if r.path.endswith("/chat/completions")]


def test_a_talk_with_every_command(terminal, server, tmp_path):
    path = tmp_path / "s.db"
    t = chat(terminal, server, path, "--instructions", "Be brief.")
    t.expect(r"chat \(new\) · m at 127\.0\.0\.1")
    t.send("I am Ann.")
    t.expect(r"You said: I am Ann\.\n")
    t.send("/fold 1")
    t.expect(r"even an empty summary takes \d+ tokens")
    t.send("/context")
    t.expect(r"\[.*\] \d+ of 8,192: instructions \d+ · tail \d+ · reserved")
    t.expect(r"item +kind +turn +role +tokens +why +content")
    t.expect(r"1 +verbatim +1 +user .*I am Ann\.")
    t.send("/contxt")
    t.expect(r"no command /contxt; did you mean '/context'\?")
    t.send("//etc is a folder" + " with folders in it" * 8)
    t.expect(r"You said: /etc is a folder")
    t.send("one \\\rtwo")
    t.expect(r"You said: one \ntwo")
    t.send("/fold 2")
    t.expect(r"· fold 1: turns 1-2, .* tokens.* by m")
    t.send("/summary")
    t.expect(r"round 1, turns 1-2 by m")
    t.expect(r"│ Ann works on irises")
    t.send("/unfold")
    t.expect(r"turns 1-2 sent verbatim again")
    t.send("/pin 1")
    t.expect(r"turn 1 stays verbatim")
    t.send("/unpin 1")
    t.expect(r"turn 1 is no longer pinned")
    t.send("/pin one")
    t.expect(r"! /pin takes a number, not 'one'")
    t.send("/undo")
    t.expect(r"turn 3 taken out of the context")
    t.send("/retry")
    t.expect(r"You said: /etc is a folder")
    t.send("/search folder")
    t.expect(r"user +/etc is a \[folder\]")
    t.send("/fork other, at 1")
    t.expect(r"now in 'other,', which shares turn 1 with 'chat'")
    t.send("/export " + str(tmp_path / "out.jsonl"))
    t.expect(r"out\.jsonl")
    t.send("/help")
    t.expect(r"/fork \[NAME\] \[at N\]")
    t.send("/undo 7")
    t.expect(r"! cannot undo 7 of 1 turn")
    t.send("/exit")
    assert t.end() == 0
    assert "Traceback" not in t.text
    assert "one \ntwo" in asked(server)
    with voxnb.ContextStore(path) as store:
        assert store.verify()
        assert list(store) == ["chat", "other,"]
        assert [len(store[name]) for name in store] == [2, 1]
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first["name"] == "other,"


def test_ctrl_c_stops_the_reply_and_keeps_it_then_clears_the_line_and_ctrl_d_leaves(terminal, server, tmp_path):
    t = chat(terminal, server, tmp_path / "s.db")
    t.send("slow one")
    t.expect(r"one two three")
    t.type("\x03")
    t.expect(r"· stopped; what had come is kept as turn 1")
    t.expect(PROMPT)
    t.type("half a line")
    t.expect(r"half a line")
    t.type("\x03")
    t.send("after")
    t.expect(r"You said: after")
    assert t.leave() == 0
    assert asked(server) == ["slow one", "after"]
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        turns = store.turns("chat")
        assert turns["state"].tolist() == ["partial", "complete"]
        assert turns["reply_text"][0].startswith("one two three")
        assert store.verify()


def test_a_reply_that_was_stopped_before_it_came_is_asked_again_by_retry(terminal, tmp_path):
    replies = [testing.Hang(), "", "Here it is."]
    with testing.server(replies) as server:
        t = chat(terminal, server, tmp_path / "s.db")
        t.send("Well?")
        arrived = 0
        while not asked(server):
            server.wait_for(arrived := arrived + 1, timeout_s=60)
        t.type("\x03")
        t.expect(r"· stopped before anything had come; the question is kept, /retry")
        t.send("/retry")
        t.expect(r"· the reply is empty")
        t.send("/retry")
        t.expect(r"Here it is\.")
        assert t.leave() == 0
        assert asked(server) == ["Well?"] * 3
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        assert store["chat"].turns()["reply_text"].tolist() == ["Here it is."]
        assert store.verify()


def test_what_a_model_says_does_not_act_on_the_terminal(terminal, server, tmp_path):
    t = chat(terminal, server, tmp_path / "s.db")
    t.send("hostile")
    t.expect(r"red \\x1b\[31mRED\\x1b\]52;c;cm0gLXJm\\x07 .*over\\rwritten \\x08\\x08\\u202egnirts 北京 \\x9b31m")
    t.send("/context")
    t.expect(r"assistant +\d+ .*\\x1b\[31mRED")
    t.send("/quit")
    assert t.end() == 0
    assert not {"\x1b]", "\x07", "\u202e", "\x9b", "\x1b[31m"} & set(t.raw)
    assert "\x1b]52" not in t.raw
    assert "\x1b[31m" not in t.raw


def test_folds_in_the_background_are_told_in_one_line(terminal, server, tmp_path):
    t = chat(terminal, server, tmp_path / "s.db", "--fold-at-tokens", 200, "--keep-last-turns", 1)
    for n in range(4):
        t.send(f"{n} " + "petals and sepals " * 12)
        t.expect(rf"You said: {n} petals")
    assert t.leave() == 0
    (line,) = re.findall(r"· fold 1: .*", t.text)
    assert re.search(r"turns? 1.* tokens, .* by m", line)


def test_a_pasted_text_is_one_message_and_what_was_said_comes_back(terminal, server, tmp_path):
    t = chat(terminal, server, tmp_path / "s.db")
    t.expect(PROMPT)
    t.type("\x1b[200~first\nsecond\x1b[201~\r")
    t.expect(r"You said: first\nsecond")
    t.send("/quit")
    assert t.end() == 0
    t = chat(terminal, server, tmp_path / "s.db")
    t.expect(r"goes on after turn 1")
    t.expect(PROMPT)
    t.type("\x1b[A\r")
    t.expect(r"You said: first\nsecond")
    assert t.leave() == 0
    assert asked(server) == ["first\nsecond"] * 2


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(terminal, server, tmp_path, setting):
    t = chat(terminal, server, tmp_path / "s.db", **setting)
    t.expect(r"Ctrl-D leaves")
    t.send("Hi")
    t.expect(r"You said: Hi")
    t.send("/context")
    t.expect(r"tail \d+")
    t.send("/quit")
    assert t.end() == 0
    for colour in ("\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[7;32m", "\x1b[0;32"):
        assert colour not in t.raw


def test_an_error_is_told_and_the_chat_goes_on(terminal, server, tmp_path):
    t = chat(terminal, server, tmp_path / "s.db", "--window-tokens", 300)
    t.send("words " * 330)
    t.expect(r"! .*(does not fit|do not fit|tokens)")
    t.send("short")
    t.expect(r"You said: short")
    assert t.leave() == 0
    assert "Traceback" not in t.text


def test_a_new_conversation_is_asked_for_by_new(terminal, server, store):
    t = chat(terminal, server, store, "--conversation", "iris", "--new")
    assert t.end() == 1
    assert "exists" in t.text
    assert "leave --new out" in t.text
    t = chat(terminal, server, store, "--new")
    t.expect(r"\(new\)")
    assert t.leave() == 0
