"""The WebSocket of a realtime session: opened with the right key, read as text, closed in bounded time.

- Compression is off: base64 of audio hardly shrinks, and it costs a quarter of a millisecond per message.
- A message may be 16 MiB: an item with its audio is larger than the library's limit.
- Redirects are not followed: a key goes where it was meant for.
- The library's log says nothing: at its debug level it would print the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from voxnb.clients.address import Endpoint
from voxnb.clients.failure import clean_cause, connection_error, timeout_error
from voxnb.clients.refusal import refusal
from voxnb.errors import APIError, APIResponseValidationError, NotSupportedError
from voxnb.params import RealtimeAPIClientType

if TYPE_CHECKING:
    from voxnb.clients.sdk import Transport

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
OPEN_S: Final = 10.0
PING_S: Final = 20.0
PONG_S: Final = 60.0
"""A busy cell may hold the interpreter for long; a healthy peer is not given up for that."""

CLOSE_S: Final = 0.15
"""How long the peer may take to answer a close."""

_INSTALL: Final = "realtime needs the websockets package; install it with: pip install 'voxnb[realtime]'"

_SILENT: Final = logging.Logger("voxnb.websocket")  # noqa: LOG001 - nobody may turn this one on
_SILENT.disabled = True


def realtime_url(endpoint: Endpoint, *, kind: RealtimeAPIClientType, model: str | None) -> str:
    """The address of a session.

    A transcription session names no model there. Azure's older interface (with an ``api_version``) names a deployment.

    >>> from voxnb.clients.address import Endpoint
    >>> realtime_url(Endpoint("https://api.openai.com/v1", "api.openai.com"), kind=RealtimeAPIClientType.REALTIME, model="m")
    'wss://api.openai.com/v1/realtime?model=m'
    """
    query = dict(endpoint.query)
    if kind is RealtimeAPIClientType.TRANSCRIPTION:
        query["intent"] = "transcription"
    elif model:
        query["deployment" if endpoint.api_version else "model"] = model
    if endpoint.api_version:
        query["api-version"] = endpoint.api_version
    scheme, _, rest = endpoint.base_url.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/realtime?{urlencode(query)}"


def realtime_headers(endpoint: Endpoint, *, key: str) -> dict[str, str]:
    """What is sent with the handshake."""
    headers = dict(endpoint.headers)
    if key and endpoint.api_version and not endpoint.bearer:
        headers["api-key"] = key
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    if endpoint.organization:
        headers["OpenAI-Organization"] = endpoint.organization
    if endpoint.project:
        headers["OpenAI-Project"] = endpoint.project
    return headers


class Socket:
    """An open WebSocket.

    Args:
        connection: the library's.

    Attributes:
        connection: the library's.
        bytes_sent, bytes_received: of messages.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.bytes_sent = 0
        self.bytes_received = 0

    @classmethod
    async def open(
        cls, url: str, *, headers: Mapping[str, str], endpoint: Endpoint, model: str | None, timeout_s: float
    ) -> Socket:
        """Connect.

        Args:
            url: from `realtime_url`.
            headers: from `realtime_headers`.
            endpoint: who is asked, for messages.
            model: likewise.
            timeout_s: how long it may take.

        Raises:
            APIError: nothing listens, no answer in time, or the server refused; without keys in it.
            NotSupportedError: the websockets package is missing.
        """
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

            from voxnb.media.express import ExpressClient
        except ImportError as error:
            raise NotSupportedError(_INSTALL, name="realtime", instead="pip install 'voxnb[realtime]'") from error

        class Straight(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        secrets = [v.removeprefix("Bearer ") for n, v in headers.items() if n in ("Authorization", "api-key")]
        try:
            connection = await Straight(
                url,
                additional_headers=dict(headers),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=timeout_s,
                ping_interval=PING_S,
                ping_timeout=PONG_S,
                close_timeout=CLOSE_S,
                proxy=None if endpoint.is_loopback else True,
                logger=_SILENT,
                create_connection=ExpressClient,
            )
        except InvalidStatus as error:
            raise _refused(error, endpoint=endpoint, url=url, model=model, secrets=secrets) from clean_cause(
                error, secrets
            )
        except TimeoutError as error:
            raise timeout_error(error, endpoint, connect_s=timeout_s, read_s=timeout_s) from clean_cause(error, secrets)
        except (InvalidHandshake, InvalidURI) as error:
            raise _no_websocket(endpoint, url, str(error)) from clean_cause(error, secrets)
        except OSError as error:
            raise connection_error(error, endpoint) from clean_cause(error, secrets)
        except EOFError as error:
            raise connection_error(error, endpoint) from clean_cause(error, secrets)
        return cls(connection)

    async def send(self, text: str) -> None:
        """Send a message; waits while the peer takes nothing. After the end it is dropped: the reader tells of it."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(text)
            self.bytes_sent += len(text)

    def send_now(self, text: str) -> bool:
        """Send a message at once, if nothing that was sent before still waits here; whether it was sent."""
        if self.connection.transport.get_write_buffer_size():
            return False
        self.connection.say(text)
        self.bytes_sent += len(text)
        return True

    async def each(self, take: Callable[[str | bytes], object]) -> None:
        """Have every message taken as it comes, until the connection ends, however it does."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            await self.connection.each(take)

    @property
    def close_code(self) -> int:
        """How it ended: the peer's code, else the library's own (1009: a message is too long), else 1006."""
        protocol = self.connection.protocol
        close = protocol.close_rcvd or protocol.close_sent
        return 1006 if close is None else int(close.code)

    @property
    def close_reason(self) -> str:
        """The reason that came with the close."""
        return self.connection.close_reason or ""

    @property
    def was_clean(self) -> bool:
        """Whether the peer said a close."""
        return self.connection.protocol.close_rcvd is not None

    async def close(self, *, within_s: float = CLOSE_S) -> None:
        """Close; a peer that does not answer in time is left."""
        try:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(within_s):
                    await self.connection.close()
        finally:
            transport = getattr(self.connection, "transport", None)
            if transport is not None:
                transport.abort()


async def dial(transport: Transport, *, kind: RealtimeAPIClientType, model: str | None, timeout_s: float) -> Socket:
    """Open the socket of a session, with the key of this moment.

    Args:
        transport: knows where to, and the key.
        kind: see `realtime_url`.
        model: see `realtime_url`.
        timeout_s: how long it may take.

    Raises:
        CredentialsError: there is no key, or its function did not return one.
        APIError: see `Socket.open`.
    """
    endpoint = transport.endpoint if transport.later is None else await asyncio.to_thread(transport.settle)
    key = await transport.key() if endpoint.api_key is not None else ""
    return await Socket.open(
        realtime_url(endpoint, kind=kind, model=model),
        headers=realtime_headers(endpoint, key=key),
        endpoint=endpoint,
        model=model,
        timeout_s=timeout_s,
    )


def _no_websocket(endpoint: Endpoint, url: str, said: str) -> APIResponseValidationError:
    return APIResponseValidationError(
        f"{endpoint.host} answered no WebSocket at {url.partition('?')[0]} ({said}); check base_url",
        host=endpoint.host,
        first_line=said[:200],
    )


def _refused(error: Any, *, endpoint: Endpoint, url: str, model: str | None, secrets: list[str]) -> APIError:
    response = error.response
    if response.status_code < 300:
        return _no_websocket(endpoint, url, f"HTTP {response.status_code}")
    text = bytes(response.body or b"").decode("utf-8", "replace")
    body: Any = text
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(text)
    error.args, response.body = (str(error),), b""  # servers quote the key; what may be shown of it is in `body`
    return refusal(
        response.status_code,
        body=body,
        headers={k.lower(): v for k, v in response.headers.raw_items()},
        endpoint=endpoint,
        url=url.partition("?")[0],
        model=model,
        secrets=secrets,
    )
