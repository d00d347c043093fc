"""A call: one tagged stream of a media socket, as a media unit, wherever its socket is."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from voxnb.audio.formats import AudioFormat
from voxnb.errors import ClientClosedError, ParameterError
from voxnb.events import WebSocketEvents
from voxnb.media.clock import Clock
from voxnb.media.stream import Sink
from voxnb.media.unit import MediaUnit
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher, EventWait


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What is known of a call from its start; the attributes of `Call` of the same names."""

    id: str
    tag: str
    custom_parameters: dict[str, Any]
    form: AudioFormat
    shape: str
    remote: str
    sink: Sink
    facts: dict[str, Any] = field(default_factory=dict)


class Call(MediaUnit):
    """One stream of a telephone service or of any program that speaks its messages.

    Attributes:
        id: ours.
        tag: its name among several of the socket, or "".
        custom_parameters: what the sender said of it.
        form: how the sender writes its sound.
        shape: ``voximplant`` or ``twilio``.
        facts: what else its start message said (Twilio's ``callSid`` …).
        remote: who is connected: host and port.

    Listeners get VoxEngine's socket events (`voxnb.events.WebSocketEvents`): ``MediaStarted`` and ``MediaEnded``
    of what the caller says, ``Message`` (``text``, and ``dtmf`` or ``mark`` where it is one), ``Close``. Who listens
    later is told of a ``MediaStarted`` that has not ended yet, and of the ``Close``.
    """

    def __init__(self, known: CallFacts, /, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.known = known
        self.id, self.tag, self.form, self.facts = known.id, known.tag, known.form, known.facts
        self.custom_parameters = known.custom_parameters
        self.shape, self.remote, self.sink = known.shape, known.remote, known.sink
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._over.set_running_or_notify_cancel()
        self._dispatcher = Dispatcher(
            client=self,
            client_id=known.id,
            known=[WebSocketEvents],
            sticky=frozenset({WebSocketEvents.MediaStarted.value, WebSocketEvents.Close.value}),
            ends={WebSocketEvents.MediaEnded.value: WebSocketEvents.MediaStarted.value},
        )

    def __repr__(self) -> str:
        tag = f" {self.tag!r}" if self.tag else ""
        return f"<Call{tag} {self.id}, {self.shape}, {self.form}{', closed' if self.closed else ''}>"

    def told_by(self, teller: Any) -> None:
        """Have events told by another dispatcher than its own."""
        self._dispatcher.close()
        self._dispatcher = teller

    @property
    def _kind_of_unit(self) -> str:
        return "Call"

    # -- verbs --------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the stream has ended."""
        return self._over.done()

    def wait_closed(self, timeout_s: float | None = None) -> None:
        """Block until the caller, the service or `close` has ended the stream; ``await call`` waits likewise.

        Raises:
            TimeoutError: it goes on.
        """
        loop.wait(self._over, timeout_s=timeout_s)

    def __await__(self) -> Generator[Any, None, None]:
        return loop.wait_async(self._over).__await__()

    def close(self) -> None:
        """Hang up: end this stream, and the socket with its last one; closing twice does no harm."""
        self._clock.call_soon(self._hang_up)

    def send(self, message: Mapping[str, Any], /) -> None:
        """Send a message of the application's own on the call's socket.

        Args:
            message: what JSON can say; ``event`` is the system's word.

        Raises:
            ClientClosedError: the call has ended.
            ParameterError: it holds ``event``, or what JSON cannot say.
        """
        if not isinstance(message, Mapping) or "event" in message:
            raise ParameterError(
                f"a message is a mapping without 'event', which is the system's; use 'customEvent': {message!r}",
                name="message",
            )
        try:
            text = json.dumps(dict(message))
        except (TypeError, ValueError) as error:
            raise ParameterError(f"the message is no JSON: {error}", name="message") from error
        if self.closed:
            raise ClientClosedError(f"{self!r} has ended; who called hears nothing more on it")
        self._clock.call_soon(self._send, text)

    def add_event_listener(self, event: str, callback: Callable[[Any], Any], /) -> None:
        """Call a function on each event of a name; see `voxnb.events.WebSocketEvents`."""
        self._dispatcher.add(event, callback)

    def remove_event_listener(self, event: str, callback: Callable[[Any], Any] | None = None, /) -> None:
        """Call it no more; without a function, none of this event's."""
        self._dispatcher.remove(event, callback)

    def on(self, event: str, callback: Any = None, /) -> Any:
        """``call.on(event, function)``, or ``@call.on(event)`` above a function."""
        return self._dispatcher.on(event, callback)

    def wait_for(self, event: str, /, *, timeout_s: float | None = None) -> EventWait:
        """A handle of the next event of a name."""
        return self._dispatcher.wait_for(event, timeout_s=timeout_s)

    addEventListener = add_event_listener  # noqa: N815 - VoxEngine's spelling
    removeEventListener = remove_event_listener  # noqa: N815 - as above

    def statistics(self) -> dict[str, Any]:
        """What came, and what became of it: counts of packets and of their faults."""
        raise NotImplementedError

    # -- where its socket is ------------------------------------------------------------------

    def _hang_up(self) -> None:
        raise NotImplementedError

    def _send(self, text: str) -> None:
        raise NotImplementedError
