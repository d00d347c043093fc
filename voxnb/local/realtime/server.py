"""The local Realtime server: a listener, its thread, and what all its sessions share."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from voxnb.errors import NotSupportedError
from voxnb.local.realtime.answer import Ended
from voxnb.local.realtime.brain import Brain, Echo
from voxnb.local.realtime.config import REALTIME, TRANSCRIPTION
from voxnb.local.realtime.manner import Manner
from voxnb.local.realtime.recording import MOST_EVENTS, Recording
from voxnb.local.realtime.refusal import Refusal
from voxnb.local.realtime.secret import ClientSecret, ClientSecrets
from voxnb.local.realtime.session import Session

Refused: TypeAlias = "int | tuple[int, Mapping[str, str], str] | None"
"""What a handshake is answered with: a status, one with headers and a body, or None to let it in."""

_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CLOSE_S: Final = 2.0
_JSON: Final = {"Content-Type": "application/json"}


class RealtimeServer:
    """A server of the Realtime API on a loopback port, in a thread of its own; a context manager.

    It checks its own events against the protocol's order as it sends them: see `Recording.problems`.

    Args:
        brain: who answers; default `Echo`.
        manner: how fast it speaks, how long a session lasts.
        api_key: a key to give the client.
        require_key: refuse connections without this key.
        models: the models there are; None takes any name.
        handshakes: what the first connections are answered with, one after the other.
        seed: of the ids and of chance, so that two runs have the same.
        listen: False for a server that only gets its connections by `adopt`.
        port: of 127.0.0.1; default a free one.
        most_sessions: more at once are refused with 429; None for any number.
        keeps: False for a server that lives long: recordings are then empty and not kept.

    Attributes:
        api_key: as given.
        secrets: the keys for a while that clients have asked for, at ``/v1/realtime/client_secrets``.
        port: where it listens; 0 where it does not.
        sessions: the recordings of all connections, in order.
        errors: exceptions of the brain; the client got a failed response.

    Raises:
        NotSupportedError: the package ``websockets`` is missing.

    Example:
        >>> with RealtimeServer() as server:
        ...     server.base_url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        brain: Brain | None = None,
        *,
        manner: Manner | None = None,
        api_key: str = "sk-voxnb-local",
        require_key: bool = False,
        models: Iterable[str] | None = None,
        handshakes: Iterable[Refused] = (),
        seed: int | None = None,
        listen: bool = True,
        port: int = 0,
        most_sessions: int | None = None,
        keeps: bool = True,
    ) -> None:
        self._new_connection = _connection_class()
        self.brain: Brain = brain or Echo()
        self.manner = manner or Manner()
        self.api_key = api_key
        self._require_key = require_key
        self._models = None if models is None else tuple(models)
        self._handshakes: Iterator[Refused] = iter(handshakes)
        self._random = random.Random(seed)  # noqa: S311 - ids, not secrets
        self.secrets = ClientSecrets(self.new_id)
        self._lock = threading.Lock()
        self.sessions: list[Recording] = []
        self.errors: list[BaseException] = []
        self._most_sessions = most_sessions
        self._keeps = keeps
        self._open: set[Any] = set()
        self._all_left = asyncio.Event()
        self._all_left.set()
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._is_serving = threading.Event()
        self.loop = asyncio.SelectorEventLoop()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024) if listen else None
        self.port = self._listener.getsockname()[1] if self._listener is not None else 0
        self._origin = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, name=f"voxnb-realtime-{self.port}", daemon=True)
        self._thread.start()
        self._is_serving.wait()
        atexit.register(self.close)

    @property
    def base_url(self) -> str:
        """What a client takes, such as ``http://127.0.0.1:40000/v1``."""
        return f"{self._origin}/v1"

    def clock(self) -> float:
        """The clock of the sessions, in seconds."""
        return self.loop.time()

    # -- connections ------------------------------------------------------------------------------

    def adopt(self, connection: socket.socket, /) -> None:
        """Serve a connection that somebody else accepted, of which nothing was read yet.

        Args:
            connection: the socket; it is this server's from now on.
        """

        async def serve() -> None:
            await self.loop.connect_accepted_socket(lambda: self._new_connection(self), connection)

        def start() -> None:
            if self._is_closed:
                connection.close()
            else:
                self._tasks.add(task := self.loop.create_task(serve()))
                task.add_done_callback(self._tasks.discard)

        try:
            self.loop.call_soon_threadsafe(start)
        except RuntimeError:  # it is closed
            connection.close()

    def objection(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], str] | None:
        """What a handshake is refused with: status, headers, body; None to let it in.

        Args:
            path: of the address.
            query: of the address.
            headers: under lower-case names.
        """
        scripted = next(self._handshakes, None)
        if scripted is not None:
            return _refusal(scripted) if isinstance(scripted, int) else scripted
        if not path.rstrip("/").endswith("/realtime"):
            return _refusal(404, f"Invalid URL (GET {path})")
        key = _key(headers, query)
        secret = self.secrets.find(key, epoch_s=time.time())
        if self._require_key and secret is None and key != self.api_key:
            return _refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        if self._most_sessions is not None and len(self._open) > self._most_sessions:
            return _refusal(429, f"Only {self._most_sessions} sessions can be open at once.")
        model = query.get("model") or (secret.model if secret is not None else "")
        if not model and _kind(query, secret) != TRANSCRIPTION:
            return _refusal(400, "You must provide a model parameter.", code="missing_model")
        if model and self._models is not None and model not in self._models:
            return _refusal(404, f"The model '{model}' does not exist", code="model_not_found")
        if "realtime=v1" in headers.get("openai-beta", ""):
            return _refusal(
                400, "The Realtime Beta API is no longer supported; use the GA API.", code="beta_api_shape_disabled"
            )
        return None

    def posted(self, path: str, *, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], str]:
        """The answer to a POST: status, headers, body.

        Args:
            path: of the address.
            headers: under lower-case names.
            body: as it came.
        """
        if not path.rstrip("/").endswith("/realtime/client_secrets"):
            return _refusal(404, f"Invalid URL (POST {path})")
        if self._require_key and _key(headers, {}) != self.api_key:
            return _refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        try:
            made = self.secrets.make(body, epoch_s=time.time())
        except Refusal as refusal:
            return 400, _JSON, json.dumps({"error": refusal.body()})
        return 200, _JSON, json.dumps(made)

    def new_session(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Session:
        """A session for a connection that was let in, with the settings of its client secret."""
        now_s, epoch_s = self.clock(), time.time()
        secret = self.secrets.find(_key(headers, query), epoch_s=epoch_s)
        return Session(
            kind=_kind(query, secret),
            model=query.get("model") or (secret.model if secret is not None else ""),
            new_id=self.new_id,
            now_s=now_s,
            epoch_s=epoch_s,
            manner=self.manner,
            settings=None if secret is None else secret.settings,
        )

    def record(self, kind: str, query: Mapping[str, str]) -> Recording:
        """A new recording."""
        recording = Recording(kind, query, most_events=MOST_EVENTS if self._keeps else 0)
        if self._keeps:
            with self._lock:
                self.sessions.append(recording)
        return recording

    def new_id(self, prefix: str, /) -> str:
        """A new id, such as ``item_4f…``."""
        return f"{prefix}_{''.join(self._random.choices(_LETTERS, k=21))}"

    def chance(self) -> float:
        """A number from 0 to 1, the same in every run with one seed."""
        return self._random.random()

    def failed(self, error: BaseException) -> Ended:
        """Note that a brain raised.

        Returns:
            What the client gets to see.
        """
        if self._keeps:
            self.errors.append(error)
        return Ended(message=f"the scripted reply failed: {type(error).__name__}: {error}")

    def arrived(self, connection: Any) -> None:
        """A connection stands."""
        self._open.add(connection)
        self._all_left.clear()

    def left(self, connection: Any) -> None:
        """It does no more."""
        self._open.discard(connection)
        if not self._open:
            self._all_left.set()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function on the server's loop; nothing where it is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    # -- its life ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            if self._listener is not None:
                starting = self.loop.create_server(lambda: self._new_connection(self), sock=self._listener)
                self._server = self.loop.run_until_complete(starting)
            self._is_serving.set()
            self.loop.run_forever()
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(asyncio.sleep(0))  # what the transports still have to say
            self.loop.close()

    def close(self) -> None:
        """End every session with a close frame (1001), then the server, within 2 s; idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        atexit.unregister(self.close)
        with contextlib.suppress(concurrent.futures.TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(_CLOSE_S + 1)
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_S)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._all_left.wait()
        for connection in list(self._open):
            connection.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.errors:
            raise self.errors[0]

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "running"
        return f"<RealtimeServer {self.base_url} {state}, {len(self.sessions)} sessions>"


def _connection_class() -> Any:
    try:
        from voxnb.local.realtime.connection import Connection
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "websockets":
            raise
        raise NotSupportedError(
            "the Realtime server needs the package websockets; install 'voxnb[realtime]'", name="websockets"
        ) from error
    return Connection


def _kind(query: Mapping[str, str], secret: ClientSecret | None) -> str:
    if secret is not None:
        return secret.kind
    return TRANSCRIPTION if query.get("intent") == "transcription" else REALTIME


def _key(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    bearer = headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for name in headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith("openai-insecure-api-key."):
            return name.strip().removeprefix("openai-insecure-api-key.")
    return headers.get("api-key") or query.get("api-key")


def _refusal(status: int, message: str = "", *, code: str | None = None) -> tuple[int, Mapping[str, str], str]:
    known = {
        401: ("Incorrect API key provided.", "invalid_api_key"),
        429: ("Rate limit reached. Please try again later.", "rate_limit_exceeded"),
        503: ("The server is overloaded. Please try again later.", "server_overloaded"),
    }
    words, name = known.get(status, ("The server refused the connection.", None))
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message or words, "type": kind, "param": None, "code": code or name}}
    return status, _JSON, json.dumps(body)
