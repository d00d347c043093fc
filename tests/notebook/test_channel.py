"""The channel between a widget and its pages, with pages played by hand."""

import contextvars
import queue
import threading

import pytest

from voxnb.notebook.channel import AHEAD, Channel

LIMIT_S = 30
WHERE = contextvars.ContextVar("where", default="nowhere")


class Widget:
    """Counts what it shows; what it sends lies in `sent`."""

    def __init__(self, **more):
        self.sent, self.wishes, self.shown, self.composed = queue.Queue(), queue.Queue(), 0, 0
        self.channel = Channel(
            **{
                "send": lambda message: self.sent.put((WHERE.get(), dict(message))),
                "compose": self.compose,
                "perform": lambda message, buffers: self.wishes.put((dict(message), list(buffers))),
                "name": "test-channel",
                **more,
            }
        )

    def compose(self, *, full):
        self.composed += 1
        return {"shown": self.shown}

    def say(self, where="handler", **content):
        context = contextvars.copy_context()
        context.run(WHERE.set, where)
        context.run(self.channel.receive, content)

    def next(self):
        return self.sent.get(timeout=LIMIT_S)[1]


@pytest.fixture
def widget():
    made = []

    def make(**more):
        made.append(Widget(**more))
        return made[-1]

    yield make
    for one in made:
        one.channel.close()


def test_nothing_is_sent_before_a_page_says_hello(widget):
    w = widget()
    w.channel.poke()
    w.channel.tell({"t": "answer"})
    w.say(t="hello")
    assert w.next() == {"t": "patch", "n": 1, "full": True, "shown": 0}


def test_everything_is_sent_in_the_context_of_the_last_hello(widget):
    w = widget()
    w.say("first", t="hello")
    assert w.sent.get(timeout=LIMIT_S)[0] == "first"
    w.say("second", t="hello")
    assert w.sent.get(timeout=LIMIT_S)[0] == "second"
    w.channel.tell({"t": "answer"})  # from this thread, whose context is another
    assert w.sent.get(timeout=LIMIT_S)[0] == "second"


def test_a_page_that_confirms_nothing_gets_no_more_than_a_few_patches_and_then_the_newest(widget):
    w = widget()
    w.say(t="hello")
    seen = [w.next()]
    while seen[-1]["n"] < AHEAD:
        w.shown += 1
        w.channel.poke()
        seen.append(w.next())
    composed = w.composed
    for _ in range(50):
        w.shown += 1
        w.channel.poke()
    w.say(t="do", verb="mark")  # the thread is at work again: what it could have sent, it has sent
    w.wishes.get(timeout=LIMIT_S)
    assert w.composed == composed
    assert w.sent.empty()
    w.say(t="ack", n=seen[-1]["n"])
    assert w.next()["shown"] == w.shown


def test_a_page_that_comes_back_gets_all_of_it_at_once(widget):
    w = widget()
    w.say(t="hello")
    while w.next()["n"] < AHEAD:
        w.channel.poke()
    w.say(t="hello")
    assert w.next()["full"] is True


def test_wishes_are_done_in_order_in_the_channels_thread_with_their_buffers(widget):
    w = widget(
        perform=lambda message, buffers: w.wishes.put((message["verb"], buffers, threading.current_thread().name))
    )
    w.channel.receive({"t": "do", "verb": "one"}, [memoryview(b"abc")])
    w.channel.receive({"t": "do", "verb": "two"}, None)
    assert w.wishes.get(timeout=LIMIT_S) == ("one", [b"abc"], "test-channel")
    assert w.wishes.get(timeout=LIMIT_S) == ("two", [], "test-channel")


def test_what_breaks_is_told_and_the_channel_goes_on(widget):
    def break_(message, buffers):
        raise ValueError("no such thing")

    w = widget(perform=break_)
    w.say(t="hello")
    w.next()
    w.say(t="do", verb="x")
    assert w.next() == {"t": "trouble", "text": "ValueError: no such thing"}
    w.say(t="hello")
    assert w.next()["t"] == "patch"


def test_after_a_patch_that_broke_the_next_one_is_whole(widget):
    def compose(*, full):
        if failing.pop():
            raise ValueError("a busy store")
        return {"shown": "all" if full else "news"}

    w, failing = widget(compose=compose), [False, False, True, False, True]
    w.say(t="hello")
    assert w.next()["t"] == "trouble"
    for shown in ("all", "trouble", "all", "news"):
        w.say(t="ack", n=100)
        w.channel.poke()
        assert shown in w.next().values()


@pytest.mark.parametrize("content", [None, "hello", 7, [], {"t": "ack", "n": "x"}, {"t": "ack"}])
def test_nonsense_is_ignored_or_left_to_the_widget(widget, content):
    w = widget()
    w.channel.receive(content)
    w.say(t="hello")
    assert w.next()["n"] == 1


def test_a_channel_with_a_page_looks_around_and_shows_what_it_finds(widget):
    found = iter([True])
    w = widget(look=lambda: next(found, False))
    w.say(t="hello")
    w.next()
    assert w.next()["full"] is False


def test_after_its_end_nothing_is_sent_and_the_thread_is_gone(widget):
    w = widget()
    w.say(t="hello")
    w.next()
    thread = w.channel._thread
    w.channel.close()
    w.channel.close()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    w.say(t="hello")
    w.channel.tell({})
    assert w.sent.empty()
