"""A page played by hand: what a browser would say to a widget, and what it would get."""

import itertools
import queue

LIMIT_S = 60


class Page:
    """One page that shows a widget."""

    def __init__(self, widget):
        self.widget, self.got, self._ids = widget, queue.Queue(), itertools.count()
        self.sections, self.answers, self.turns = {"head": {}}, {}, {}
        widget.send = lambda message, buffers=None: self.got.put(message)
        widget._channel._send = widget.send
        self.say(t="hello")

    def say(self, *buffers, **content):
        self.widget._on_message(self.widget, content, list(buffers))

    def take(self):
        """The next message, confirmed and noted."""
        message = self.got.get(timeout=LIMIT_S)
        if message["t"] == "patch":
            self.say(t="ack", n=message["n"])
            for name, section in message.items():
                if isinstance(section, dict):
                    self.sections[name] = {**self.sections.get(name, {}), **section}
            self.turns.update(message.get("chat", {}).get("put", {}))
        elif message["t"] == "answer":
            self.answers[message["id"]] = message
        return message

    def until(self, condition):
        """Take messages until something holds."""
        while not condition(self):
            self.take()
        return self

    def shown(self, condition):
        """Take messages until the turns that the page shows are as they should be; returns them."""
        while True:
            order = self.sections.get("chat", {}).get("order")
            if order is not None and condition([self.turns[key] for key in order]):
                return [self.turns[key] for key in order]
            self.take()

    def ask(self, verb, *buffers, **args):
        """Wish for something, and take the answer."""
        key = str(next(self._ids))
        self.say(*buffers, t="do", id=key, verb=verb, **args)
        self.until(lambda page: key in page.answers)
        return self.answers[key]
