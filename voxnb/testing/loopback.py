"""The server: sockets, connections and the order of requests."""

from __future__ import annotations

import atexit
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from voxnb.testing import input as asking
from voxnb.testing import response, service
from voxnb.testing.completion import Usage
from voxnb.testing.connection import Connection
from voxnb.testing.realtime import FarEnd, Realtime, is_upgrade
from voxnb.testing.rendering import Answer, Manner, render, status_answer
from voxnb.testing.replies import Replies, Reply, Status
from voxnb.testing.request import Request
from voxnb.testing.shelf import Shelf

if TYPE_CHECKING:
    from voxnb.local.realtime.recording import Recording

_DEFAULT_MODELS: Final = ("gpt-4o", "gpt-4o-mini")


def server(replies: Replies = "Hello.", realtime: bool | Realtime = False, **settings: Any) -> Server:  # noqa: FBT001, FBT002 - the documented signature
    """Start a loopback server that answers chat completions and Responses from a script, and Realtime sessions too.

    It runs in daemon threads until `Server.close()`, the end of the ``with`` block, or the end of the process.

    Args:
        replies: one reply, an iterable of them (the last repeats), or a function of the `Request`; the module's
            docstring lists what a reply can be.
        realtime: speak the Realtime protocol as well, at ``/v1/realtime`` of the same port; a `Realtime` says how.
        **settings: keywords of `Server`: pacing, usage, models, window, keys.

    Returns:
        The running server.

    Raises:
        NotSupportedError: `realtime` is asked for and the package ``websockets`` is missing.
        ValueError: `replies` is an empty list.

    Example:
        >>> with server(["One.", 429, "Two."], chunk_delay_s=0.001) as running:
        ...     running.base_url.startswith("http://127.0.0.1:")
        True
    """
    return Server(replies, realtime=realtime, **settings)


class Server:
    """A running loopback server; a context manager.

    Attributes:
        base_url: what a client takes, such as ``http://127.0.0.1:40000/v1``. The same paths answer without
            ``/v1``, and those of Azure under ``origin`` (``/openai/deployments/<name>/chat/completions``).
        origin: the same without a path.
        api_key: a key to give the client; any other is taken too unless `require_key`.
        requests: the recorded requests, in order of arrival.
        errors: exceptions of reply functions; the client got a 500. The ``with`` block raises the first one.
        sessions: recordings of the Realtime sessions, in order. The ``with`` block raises an `AssertionError` if the
            server's own events broke the protocol's order.
    """

    def __init__(
        self,
        replies: Replies = "Hello.",
        *,
        usage: Usage = True,
        delay_s: float = 0.0,
        chunk_delay_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
        models: Sequence[str] | None = None,
        window_tokens: int | None = None,
        api_key: str = "sk-voxnb-testing",
        require_key: bool = False,
        realtime: bool | Realtime = False,
    ) -> None:
        """Start the server.

        Args:
            replies: as in `server`.
            usage: True counts tokens as the service does; False never reports any; a dict, or a function of the
                request, is reported as it is.
            delay_s: pause before every answer, in seconds.
            chunk_delay_s: pause between the events of a stream, in seconds.
            headers: added to every answer.
            models: what ``GET /v1/models`` lists; other models are then refused. None takes any.
            window_tokens: longer requests are refused as the service does, and the model list tells this number.
            api_key: the key.
            require_key: refuse requests without this key.
            realtime: as in `server`.
        """
        self._script = _script(replies)
        self._manner = Manner(usage, delay_s, chunk_delay_s, dict(headers or {}))
        self._shelf = Shelf()
        self._models = models
        self._window_tokens = window_tokens
        self._require_key = require_key
        self.api_key = api_key
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self._arrival = threading.Condition()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._far = None
        if realtime:
            self._far = FarEnd(
                self._next,
                realtime if isinstance(realtime, Realtime) else Realtime(),
                record=self._record,
                api_key=api_key,
                require_key=require_key,
                models=models,
                errors=self.errors,
                is_quick=not _has_functions(replies),
            )
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        port = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/v1"
        self._accepting = threading.Thread(target=self._accept, name=f"voxnb-testing-{port}", daemon=True)
        self._accepting.start()
        atexit.register(self.close)

    def wait_for(self, count: int, *, timeout_s: float = 10.0) -> list[Request]:
        """Wait until that many requests have arrived.

        Args:
            count: how many, from the start of the server.
            timeout_s: the longest wait, in seconds.

        Returns:
            The requests so far.

        Raises:
            TimeoutError: fewer came.
        """
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came in {timeout_s} s")
            return list(self.requests)

    def close(self) -> None:
        """Close the listener and every connection at once; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        atexit.unregister(self.close)
        # Closing a socket does not wake a thread that is in accept(); a connection does, everywhere.
        with contextlib.suppress(OSError), socket.create_connection(self._listener.getsockname(), timeout=1):
            self._accepting.join(2)
        self._listener.close()
        with self._arrival:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._far is not None:
            self._far.close()

    @property
    def sessions(self) -> list[Recording]:
        """See the class."""
        return self._far.sessions if self._far is not None else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.errors:
            raise self.errors[0]
        wrong = [problem for session in self.sessions for problem in session.problems]
        if error is None and wrong:
            raise AssertionError(f"the server broke the protocol's order: {wrong}")

    def __repr__(self) -> str:
        state = "closed" if self._closing.is_set() else "running"
        return f"<voxnb.testing server {self.base_url} {state}, {len(self.requests)} requests>"

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            if self._closing.is_set():
                connection.close()
                return
            with self._arrival:
                self._connections.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, address), name="voxnb-testing-connection", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        if self._far is not None and is_upgrade(connection):
            with self._arrival:
                self._connections.discard(connection)
            self._far.adopt(connection)
            return
        try:
            Connection(
                connection,
                address,
                record=self._record,
                answer=self._answer,
                closing=self._closing,
                failed=self._failed,
            )
        except (OSError, ValueError):
            return  # the other side went, or the server was closed; the request's outcome says so
        finally:
            with self._arrival:
                self._connections.discard(connection)
            connection.close()

    def _record(self, method: str, target: str, *, headers: Mapping[str, str], body: bytes) -> Request:
        parts = urlsplit(target)
        try:
            decoded = json.loads(body, parse_constant=_no_constant) if body else None
        except ValueError:
            decoded = None
        with self._arrival:
            request = Request(
                number=len(self.requests) + 1,
                method=method,
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                headers=headers,
                body=body,
                json=decoded,
                arrived_s=time.monotonic(),
                has_key="authorization" in headers or "api-key" in headers,
            )
            self.requests.append(request)
            self._arrival.notify_all()
        return request

    def _answer(self, request: Request) -> Answer:
        try:
            where = service.route(request)
            refusal = where if isinstance(where, Status) else None
            if refusal is None and self._require_key:
                refusal = service.wrong_key(request, self.api_key)
            if refusal is None and where not in ("completions", "responses"):
                return status_answer(self._page(str(where)))
            refusal = refusal or self._objection(request, str(where))
            if refusal is not None:
                return status_answer(refusal)
            body = partial(response.body, shelf=self._shelf) if where == "responses" else None
            return render(self._reply(request), request, self._manner, body=body)
        except Exception as error:  # noqa: BLE001 - a test's own function failed: the test is told, the client gets a 500
            return self._failed(error)

    def _failed(self, error: BaseException) -> Answer:
        self.errors.append(error)
        words = f"the scripted reply failed: {type(error).__name__}: {error}"
        return status_answer(service.refuse(words, status=500))

    def _next(self) -> Reply:
        with self._turn:
            return next(self._script)

    def _reply(self, request: Request) -> Reply:
        reply = self._next()
        return reply(request) if callable(reply) else reply

    def _objection(self, request: Request, where: str) -> Status | None:
        window = self._window_tokens
        if where == "responses":
            refusal = asking.objection(request, self._models, self._shelf)
            if refusal is not None or window is None:
                return refusal
            history = self._shelf.history(request.json)
            held = [] if isinstance(history, Status) else history
            return asking.too_long() if response.input_tokens(request, held) > window else None
        refusal = service.objection(request, self._models)
        if refusal is not None or window is None:
            return refusal
        tokens = service.prompt_tokens(request)
        return service.too_long(tokens, window) if tokens > window else None

    def _page(self, where: str) -> Status:
        """What is answered without the script."""
        kind, _, rest = where.partition("/")
        if kind == "conversations":
            return Status(200, body=self._shelf.begin())
        if kind != "responses":
            return self._model_page(where)
        name, _, verb = rest.partition("/")
        return {"cancel": self._shelf.cancel, "delete": self._shelf.delete}.get(verb, self._shelf.look)(name)

    def _model_page(self, where: str) -> Status:
        models = self._models if self._models is not None else _DEFAULT_MODELS
        _, _, name = where.partition("/")
        if not name:
            return Status(200, body=service.model_list(models, self._window_tokens))
        if name in models:
            return Status(200, body=service.model_entry(name, self._window_tokens))
        return service.refuse(f"The model '{name}' does not exist", status=404, code="model_not_found")


def _has_functions(replies: Replies) -> bool:
    """Whether a reply may have to be waited for; of an iterator nobody knows."""
    if callable(replies):
        return True
    if isinstance(replies, str | bytes | Mapping):
        return False
    return any(map(callable, replies)) if isinstance(replies, Sequence) else isinstance(replies, Iterable)


def _script(replies: Replies) -> Iterator[Reply]:
    if isinstance(replies, str | bytes | Mapping | int) or callable(replies) or not isinstance(replies, Iterable):
        return _in_order([replies])
    if isinstance(replies, Sequence) and not replies:
        raise ValueError("replies is empty; give at least one reply")
    return _in_order(replies)


def _in_order(replies: Iterable[Reply]) -> Iterator[Reply]:
    last: Reply = Status(500, body=service.error_body("the script had no reply", status=500))
    for last in replies:
        yield last
    while True:
        yield last


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
