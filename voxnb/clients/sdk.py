"""The one door to the openai package: requests go out, bytes and typed errors come back.

The SDK keeps addresses, authentication, connections and their limits. What is done here:

- Answers are handed up as bytes, untouched, after their content type was checked.
- Retries, so that they also cover an answer that ends before its first byte, are told to the caller, and never
  happen after that byte.
- Time limits count silence: the SDK's read limit until the first byte, `SILENCE_S` after it.
- Every exception becomes one of `voxnb.errors`, with a cause that holds no key.

openai is imported on first use, in a thread beside the loop (it takes most of a second).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from voxnb.clients.address import Endpoint
from voxnb.clients.bytestream import ByteStream
from voxnb.clients.endpoint import PLACEHOLDERS, current_key, own_headers_only, resolve_endpoint
from voxnb.clients.failure import (
    clean_cause,
    connection_error,
    counted,
    names_a_key,
    silence,
    timeout_error,
    trace_failure,
    words_of,
)
from voxnb.clients.refusal import overflow_of, payload_refusal, refusal, wait_before_retry
from voxnb.clients.taped import through_tape
from voxnb.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    ClientClosedError,
    ParameterError,
    StreamBrokenError,
    VoxnbError,
)
from voxnb.params import ChatParameters
from voxnb.runtime.hiding import credentials_in, hide_in_text
from voxnb.runtime.quiet import quiet
from voxnb.runtime.trace import Trace
from voxnb.taping.tape import running

__all__ = ["ByteStream", "Transport", "overflow_of"]

FIRST_BYTE_S: Final = 600.0
SILENCE_S: Final = 60.0
CONNECT_S: Final = 10.0
KEPT_SECRETS: Final = 32
_NOT_THERE: Final = frozenset({404, 405, 501})
_NO_KEY: Final = "none-is-sent"
"""The SDK insists on a key; where there is none, the headers that would carry this one are left out."""

OnRetry = Callable[[int, APIError, float], object]


class Transport:
    """Requests to one endpoint; usable on one event loop at a time, made anew after a fork.

    Args:
        endpoint: where to; None with `openai_client`.
        timeout_s: longest silence; None is `FIRST_BYTE_S` before the first byte of an answer, `SILENCE_S` after it.
        max_retries: how often a request is repeated before its first byte.
        openai_client: adopt the settings of a configured client instead of `endpoint`.
        private: the SDK's own log (``OPENAI_LOG=debug``) says nothing of these requests.
        later: where to in place of `endpoint`, decided when something is sent; see `resolve`.

    Attributes:
        trace: notes everything that goes out and comes in, or None.
        secrets: keys and credentials, of which none is a stand-in; hidden wherever something is quoted.
    """

    def __init__(
        self,
        endpoint: Endpoint | None,
        *,
        timeout_s: float | None = None,
        max_retries: int = 2,
        openai_client: Any = None,
        private: bool = False,
        later: Callable[[], Endpoint] | None = None,
    ) -> None:
        if endpoint is None:
            endpoint = resolve_endpoint(ChatParameters(openai_client=openai_client), {})
        self.endpoint = endpoint
        self.max_retries = max_retries
        self.first_byte_s = timeout_s or FIRST_BYTE_S
        self.silence_s = timeout_s or SILENCE_S
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._abandoned: list[Any] = []
        self._closed = False
        self.trace: Trace | None = None
        self._requests, self._asked_key = 0, False
        self.private, self.later = private, later
        self.secrets: list[str] = []
        self._learn_secrets(endpoint.api_key if isinstance(endpoint.api_key, str) else None)

    def __repr__(self) -> str:
        return f"Transport({self.endpoint.base_url!r}{', closed' if self._closed else ''})"

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], *, on_retry: OnRetry | None = None, max_retries: int | None = None
    ) -> AsyncIterator[ByteStream]:
        """POST a request; the block is entered when the first byte of the answer has come.

        Args:
            path: below the base URL (``/chat/completions``).
            body: what is sent as JSON.
            on_retry: called on the loop with ``(attempt, error, wait_s)`` before each wait.
            max_retries: other than the transport's.

        Yields:
            The body, an event stream or one JSON document; closed when the block is left.

        Raises:
            APIError: no answer, a refusal, or an answer that is not the API's; after the retries.
            CredentialsError: the function that returns the key did not.
            ParameterError: the body cannot be written as JSON.
            ClientClosedError: after `aclose`.
        """
        opened = await self._open(path, body, on_retry=on_retry, max_retries=max_retries)
        try:
            yield opened
        finally:
            await opened.aclose()

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        on_retry: OnRetry | None = None,
        max_retries: int | None = None,
        at_root: bool = False,
    ) -> dict[str, Any]:
        """POST a request that is answered with one JSON object.

        Args:
            path: below the base URL.
            body: what is sent as JSON.
            on_retry: see `stream`.
            max_retries: see `stream`.
            at_root: the path is below `Endpoint.root` instead.

        Raises:
            APIError: see `stream`; also an error that was sent with status 200.
        """
        opened = await self._open(
            path, body, on_retry=on_retry, max_retries=max_retries, at_root=at_root, streamed=False
        )
        async with contextlib.aclosing(opened):
            found = await opened.read_json()
        refused = self.payload_error(found, model=body.get("model"))
        if refused is not None:
            raise refused
        return found

    async def get(self, path: str, *, max_retries: int | None = None, at_root: bool = False) -> dict[str, Any] | None:
        """GET one JSON object; None where the server has nothing there.

        Args:
            path: below the base URL.
            max_retries: see `stream`.
            at_root: the path is below `Endpoint.root` instead.

        Raises:
            APIError: see `stream`.
        """
        try:
            opened = await self._open(path, None, max_retries=max_retries, at_root=at_root, streamed=False)
        except APIStatusError as error:
            if error.status_code in _NOT_THERE:
                return None
            raise
        async with contextlib.aclosing(opened):
            return await opened.read_json()

    async def prepare(self) -> None:
        """Import the SDK and make its client, but where a tape may answer; the first request does so otherwise."""
        if running() is None:
            await self._sdk()

    def settle(self) -> Endpoint:
        """Where requests go, decided now if that was put off; may start the embedded model."""
        if self.later is not None:
            self.endpoint, self.later = self.later(), None
        return self.endpoint

    async def aclose(self) -> None:
        """Close the connections; idempotent. Streams that are read still end with an error."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    def payload_error(self, payload: Mapping[str, Any], *, model: str | None = None) -> APIStatusError | None:
        """The error in a decoded body or ``data:`` of a stream that came with status 200; None where it is none."""
        return payload_refusal(payload, endpoint=self.endpoint, model=model, secrets=self.secrets)

    def hide(self, text: str) -> str:
        """The text without keys."""
        return hide_in_text(text, self.secrets)

    def broken(self, error: Exception, *, started: bool) -> APIConnectionError:
        """What an exception while reading means; it is cleaned, to be the cause."""
        import httpx2

        clean_cause(error, self.secrets)
        if isinstance(error, httpx2.TimeoutException):
            return silence(self.endpoint, self.first_byte_s)
        if not started:
            return connection_error(error, self.endpoint)
        host = self.endpoint.host
        return StreamBrokenError(f"the answer of {host} stopped half way ({words_of(error)})", host=host)

    async def _open(
        self, path: str, body: Mapping[str, Any] | None, *, streamed: bool = True, **how: Any
    ) -> ByteStream:
        """The tape that runs is asked first."""
        live = functools.partial(self._ask, path, body, streamed=streamed, **how)
        return await through_tape(self, path, body, streamed=streamed, live=live)

    async def _ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        on_retry: OnRetry | None = None,
        max_retries: int | None = None,
        at_root: bool = False,
        streamed: bool,
    ) -> ByteStream:
        """Ask until an answer begins, a refusal is final, or the retries are used up."""
        self._learn_secrets(*credentials_in(body))
        most = self.max_retries if max_retries is None else max_retries
        attempt = 0
        while True:
            try:
                return await self._attempt(path, body, attempt=attempt, at_root=at_root, streamed=streamed)
            except APIError as error:
                wait_s = wait_before_retry(error, attempt=attempt + 1) if attempt < most else None
                if wait_s is None:
                    raise counted(error, attempt) from error.__cause__
                attempt += 1
                if on_retry is not None:
                    on_retry(attempt, error, wait_s)
            await asyncio.sleep(wait_s)

    async def _attempt(
        self, path: str, body: Mapping[str, Any] | None, *, attempt: int, at_root: bool, streamed: bool
    ) -> ByteStream:
        client = await self._sdk()
        path = f"/{path.lstrip('/')}"
        self._requests += 1
        number, trace = self._requests, self.trace
        if trace is not None:
            if callable(self.endpoint.api_key) and not self._asked_key:
                await self.key()  # else it is known once this request is written down
            trace.sent(number, body, method="GET" if body is None else "POST", path=path, attempt=attempt)
        try:
            with quiet(self.private):
                response = await self._send(
                    client, f"{self.endpoint.root}{path}" if at_root else path, body=body, attempt=attempt
                )
            opened = ByteStream(response, transport=self, retries=attempt, number=number)
            if trace is not None:
                facts = {"content_type": opened.content_type, "request_id": opened.request_id}
                trace.answered(number, status=opened.status, **{k: v for k, v in facts.items() if v})
            try:
                await opened.begin(streamed=streamed)
            except BaseException:
                await opened.aclose()
                raise
        except APIError as error:
            if trace is not None:
                trace_failure(trace, number, error)
            raise
        return opened

    async def _send(self, client: Any, path: str, *, body: Mapping[str, Any] | None, attempt: int) -> Any:
        """One request; GET where there is no body. The answer is returned unread."""
        import httpx2
        import openai

        headers: dict[str, Any] = {"x-stainless-retry-count": str(attempt)}
        if self.endpoint.api_key is None and not names_a_key(self.endpoint.headers):
            headers |= {"Authorization": openai.Omit(), "api-key": openai.Omit()}
        # Asked for as a stream and cast to the HTTP library's own response: then the SDK returns it unread.
        wanted: dict[str, Any] = {"cast_to": httpx2.Response, "stream": True, "stream_cls": openai.AsyncStream}
        # A redirect may lead to another host, and a key goes only to the one that was named.
        wanted["options"] = {"headers": headers, "max_retries": 0, "follow_redirects": False}
        model = body.get("model") if body else None
        try:
            if body is None:
                return await client.get(path, **wanted)
            return await client.post(path, body=body, **wanted)
        except VoxnbError:
            raise
        except openai.APIStatusError as error:
            raise self._refused(error, model=model if isinstance(model, str) else None) from clean_cause(
                error, self.secrets
            )
        except openai.APITimeoutError as error:
            raise timeout_error(error, self.endpoint, connect_s=self._connect_s, read_s=self.first_byte_s) from (
                clean_cause(error, self.secrets)
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(
                f"the request cannot be written as JSON: {self.hide(str(error))}; give plain text, numbers and dicts",
                name="request",
            ) from clean_cause(error, self.secrets)
        except Exception as error:  # noqa: BLE001 - whatever else the libraries raise: no answer has come
            raise connection_error(error, self.endpoint) from clean_cause(error, self.secrets)

    def _refused(self, error: Any, *, model: str | None) -> APIStatusError:
        headers = {k.lower(): v for k, v in error.response.headers.items()}
        return refusal(
            error.status_code,
            body=error.body,
            headers=headers,
            endpoint=self.endpoint,
            url=str(error.response.url).partition("?")[0],
            model=model,
            secrets=self.secrets,
        )

    @property
    def _connect_s(self) -> float:
        return min(CONNECT_S, self.first_byte_s)

    async def _sdk(self) -> Any:
        """The SDK's client of this loop."""
        if self._closed:
            raise ClientClosedError("the client is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            made = await asyncio.to_thread(self._make_client)
            if self._client is None or self._loop is not loop:  # another request may have been quicker
                # Connections of another loop (before a fork) are neither used nor closed: they are the parent's.
                self._abandoned += [self._client]
                self._client, self._loop = made, loop
        return self._client

    def _make_client(self) -> Any:
        import openai

        endpoint = self.settle()
        timeout = openai.Timeout(self.first_byte_s, connect=self._connect_s)
        settings: dict[str, Any] = {
            "base_url": endpoint.base_url,
            "timeout": timeout,
            "max_retries": 0,
            "default_headers": dict(endpoint.headers),
            "default_query": dict(endpoint.query),
        }
        if endpoint.is_loopback:
            # A proxy of the environment cannot reach this machine's own ports; SSL_CERT_FILE still counts.
            trust = _certificates() if endpoint.base_url.startswith("http:") else _certificates.__wrapped__()
            settings["http_client"] = openai.DefaultAsyncHttpxClient(timeout=timeout, trust_env=False, verify=trust)
        key: Any = _NO_KEY if endpoint.api_key is None else self.key
        if endpoint.api_version is None:
            client = own_headers_only(openai.AsyncOpenAI, endpoint.headers)(api_key=key, **settings)
        else:
            auth = {"azure_ad_token_provider": key} if endpoint.bearer else {"api_key": key}
            azure = own_headers_only(openai.AsyncAzureOpenAI, endpoint.headers)
            client = azure(api_version=endpoint.api_version, **auth, **settings)
        # The constructor takes these from the environment, for whatever server.
        client.organization, client.project, client.admin_api_key = endpoint.organization, endpoint.project, None
        return client

    async def key(self) -> str:
        """The key of the next request; the SDK asks before each."""
        key = await current_key(self.endpoint)
        self._asked_key = True
        self._learn_secrets(key)
        return key

    def _learn_secrets(self, *secrets: str | None) -> None:
        new = [s for s in secrets if s and s not in self.secrets and s.lower() not in PLACEHOLDERS]
        self.secrets = [*self.secrets[-KEPT_SECRETS:], *new]


@functools.cache
def _certificates() -> Any:
    """The trusted certificates; reading them takes 30 ms, and plain http does not look at them."""
    import httpx2

    return httpx2.create_ssl_context()
