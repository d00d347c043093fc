"""A client that speaks slowly, for tests that run in a real kernel: the steps of a real one, no network."""

import asyncio

from voxnb.clients.turn import Reply, Turn
from voxnb.errors import RateLimitError, TurnCancelledError
from voxnb.events import ChatCompletionsAPIEvents as Events
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher


class SlowClient:
    """Says the words of a question back, one per pause."""

    def __init__(self, *, pause_s=0.05, error=None):
        self.pause_s, self.error = pause_s, error
        self.stored = []
        self.dispatcher = Dispatcher(client=self, client_id="slow", known=[Events], sticky=frozenset())
        self.on = self.dispatcher.on

    def ask(self, text="word " * 1000):
        turn = Turn(client=self)
        loop.submit(self._serve(turn, text))
        return turn

    async def _serve(self, turn, text):
        turn._start(asyncio.current_task())
        try:
            for word in text.split(" "):
                await asyncio.sleep(self.pause_s)
                turn._push(word + " ")
                self.dispatcher.emit(Events.ContentDelta.value, {"delta": word}, context=turn.context, turn=turn)
            if self.error:
                turn._store(error=RateLimitError(self.error))
            else:
                self.dispatcher.emit(Events.ContentDone.value, {"content": text}, context=turn.context, turn=turn)
                self._store(turn, "stop")
        except asyncio.CancelledError:
            self.dispatcher.discard(turn)
            self._store(turn, "cancelled")
        self.dispatcher.barrier(turn._deliver, turn=turn)

    def _store(self, turn, finish_reason):
        self.stored.append((turn.partial, finish_reason))
        if turn.partial:
            turn._store(Reply(text=turn.partial, finish_reason=finish_reason))
        else:
            turn._store(error=TurnCancelledError("cancelled before anything had come"))
