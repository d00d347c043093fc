"""Client parameters: both spellings, documented defaults, nearest names for misspelt ones.

Source: VoxEngine reference, ``ChatCompletionsAPIClientParameters`` (July 2026); the
names after ``on_web_socket_close`` are voxnb's own.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Literal, Self, TypeVar

from voxnb.errors import ParameterError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SUMMARY_MODEL: Final = "gpt-4o"

DEFAULT_SUMMARY_PROMPT: Final = """\
You are maintaining a running summary of an ongoing conversation.

Below is:
1. The previous summary
2. The messages between user and assistant you need to summarize

Provide a summary to reflect the information.

### Instructions:
- Preserve important existing context from the previous summary
- Integrate new key information, decisions, and developments
- Remove outdated or redundant details
- Avoid repeating unchanged information
- Keep the summary concise and context-efficient
- Maintain a neutral and factual tone"""
"""The documented default, to the letter. Source: VoxEngine reference, ``summaryPrompt``."""

DEFAULT_REALTIME_URL: Final = "https://api.openai.com/"
"""The documented default of the realtime client's ``baseUrl``."""

IfExists = Literal["append", "reuse", "fail"]

OF_REQUESTS: Final = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens", "max_tokens", "n",
        "parallel_tool_calls", "presence_penalty", "reasoning", "reasoning_effort", "response_format", "seed", "stop",
        "temperature", "text_format", "tool_choice", "top_logprobs", "top_p", "verbosity",
    }
)  # fmt: skip
"""What belongs to a request, and is often given to the client."""


class RealtimeAPIClientType(StrEnum):
    """VoxEngine's ``OpenAI.RealtimeAPIClientType``: a conversation, or transcription alone."""

    REALTIME = "realtime"
    TRANSCRIPTION = "transcription"


def camel_case(name: str) -> str:
    """``summary_model`` → ``summaryModel``.

    >>> camel_case("on_web_socket_close")
    'onWebSocketClose'
    """
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def snake_case(name: str) -> str:
    """``summaryModel`` → ``summary_model``.

    >>> snake_case("onWebSocketClose"), snake_case("model")
    ('on_web_socket_close', 'model')
    """
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def nearest(name: str, known: Iterable[str], *, n: int = 3) -> tuple[str, ...]:
    """The closest known names, best first."""
    return tuple(difflib.get_close_matches(name, list(known), n=n, cutoff=0.6))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or an empty text.

    >>> did_you_mean("summry_model", ["summary_model", "model"])
    "; did you mean 'summary_model'?"
    """
    close = nearest(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatParameters:
    """What a chat completions client is made of; every field in VoxEngine's spelling too.

    Attributes:
        api_key: the key, or a callable that returns it; else ``OPENAI_API_KEY`` where that may be used.
        store_context: keep the conversation in the store and send what fits.
        base_url: another OpenAI-compatible server, ``"local"`` (the embedded model) or ``"ollama"``.
        project: OpenAI project.
        summary_model: model that writes summaries; `DEFAULT_SUMMARY_MODEL` on api.openai.com, elsewhere the turn's.
        summary_prompt: instruction for it: a str (literal) or a saved `Prompt`; None is `DEFAULT_SUMMARY_PROMPT`.
        statistics: add VoxEngine's statistics field to the created event.
        trace: write every message sent and received to a file.
        privacy: keep what was said out of logs and traces; the store defaults to memory.
        on_web_socket_close: called once when the client closes.
        model: model of a request that names none.
        instructions: the conversation's from this client's first request on, until others are said; sent first.
        store: a `ContextStore` or a path.
        conversation: name or id.
        if_exists: ``append``; ``reuse``: requests that equal the stored ones, in order, and retries of them are answered
            from the store (other verbs do what they say each time); ``fail``.
        policy: a `ContextPolicy`.
        summary_request: merged into every request to the summary model.
        summary_client: another client that writes the summaries.
        openai_client: a configured ``OpenAI``/``AsyncOpenAI``/``AzureOpenAI`` whose settings are adopted.
        api_version: Azure's.
        timeout_s: longest silence; None means 600 before the first byte and 60 after it.
        max_retries: repeats before the first token.
        max_parallel: requests under way at once.
        metadata: a dict stored with the conversation.
        prices: model → USD per million tokens (``prompt``, ``completion``; ``cached``, ``audio_prompt``, ``audio_cached``,
            ``audio_completion`` where they differ), before those of the genai-prices package (``[cost]``).
        tools: of requests that name none: a list of Python functions (or of the API's dicts).
        run_tools: run the functions that a model calls, and ask again with the results until it answers.
        max_tool_rounds: replies of one turn whose calls are run.
        tool_timeout_s: how long a tool may take.
    """

    api_key: str | Callable[[], str] | None = field(default=None, repr=False)
    store_context: bool = False
    base_url: str | None = None
    project: str | None = None
    summary_model: str | None = None
    summary_prompt: Any = None
    statistics: bool = False
    trace: bool = False
    privacy: bool = False
    on_web_socket_close: Callable[[Any], Any] | None = None
    model: str | None = None
    instructions: str | None = None
    store: Any = None
    conversation: str | None = None
    if_exists: IfExists = "append"
    policy: Any = None
    summary_request: Mapping[str, Any] = field(default_factory=dict)
    summary_client: Any = None
    openai_client: Any = field(default=None, repr=False)
    api_version: str | None = None
    timeout_s: float | None = None
    max_retries: int = 2
    max_parallel: int = 8
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] | None = None
    tools: Any = ()
    run_tools: bool = False
    max_tool_rounds: int = 8
    tool_timeout_s: float = 60.0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Read parameters in either spelling.

        Raises:
            ParameterError: an unknown name, a name given in both spellings, a wrong type or range.
        """
        return cls(**spelled(given, [f.name for f in fields(cls)]))

    def __post_init__(self) -> None:
        for name in ("store_context", "statistics", "trace", "privacy", "run_tools"):
            _expect(self, name, bool)
        for name in (
            "base_url",
            "project",
            "summary_model",
            "model",
            "instructions",
            "conversation",
            "api_version",
        ):
            _expect(self, name, str, optional=True)
        if self.api_key is not None and not isinstance(self.api_key, str) and not callable(self.api_key):
            raise ParameterError("api_key must be a string or a function that returns one", name="api_key")
        if self.on_web_socket_close is not None and not callable(self.on_web_socket_close):
            raise ParameterError("on_web_socket_close must be callable", name="on_web_socket_close")
        if not (
            self.summary_prompt is None or isinstance(getattr(self.summary_prompt, "text", self.summary_prompt), str)
        ):
            kind = type(self.summary_prompt).__name__
            raise ParameterError(f"summary_prompt is {kind}, expected str or a saved Prompt", name="summary_prompt")
        if self.if_exists not in ("append", "reuse", "fail"):
            raise ParameterError(
                f"if_exists is {self.if_exists!r}, expected 'append', 'reuse' or 'fail'", name="if_exists"
            )
        if self.conversation is not None and not self.conversation.strip():
            raise ParameterError(
                "conversation is empty; leave it out for a new one, or give a name", name="conversation"
            )
        if self.store is not None and not (
            isinstance(self.store, str) or hasattr(self.store, "__fspath__") or hasattr(self.store, "database")
        ):
            raise ParameterError(
                f"store is {self.store!r} ({type(self.store).__name__}), expected a ContextStore or a path",
                name="store",
            )
        self._check_numbers()
        if self.trace and self.privacy:
            raise ParameterError(
                "trace and privacy contradict each other: a trace is a full dump; leave one out", name="trace"
            )
        for name in ("summary_request", "metadata"):
            if not isinstance(getattr(self, name), Mapping):
                raise ParameterError(f"{name} is {type(getattr(self, name)).__name__}, expected a dict", name=name)

    def _check_numbers(self) -> None:
        for name in ("timeout_s", "tool_timeout_s"):
            if name != "timeout_s" or self.timeout_s is not None:
                _expect_number(self, name, whole=False, what="seconds above 0", accept=lambda v: v > 0)
        _expect_number(self, "max_retries", whole=True, what="a whole number, 0 or more", accept=lambda v: v >= 0)
        for name in ("max_parallel", "max_tool_rounds"):
            _expect_number(self, name, whole=True, what="a whole number, 1 or more", accept=lambda v: v >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesParameters(ChatParameters):
    """What a Responses client is made of: the same, but nothing is folded unless ``summary_model`` is given.

    VoxEngine's own are ``apiKey storeContext baseUrl project statistics trace privacy``; summaries go beyond it.

    Attributes:
        summary_model: model that writes summaries; None folds nothing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeParameters(ChatParameters):
    """What a realtime client is made of.

    VoxEngine's own are ``apiKey model type baseUrl onWebSocketClose statistics trace privacy``.

    Attributes:
        base_url: another server that speaks the Realtime API, or ``"local"``; where it is not given, ``OPENAI_BASE_URL``
            replaces it.
        model: realtime model; a transcription session names its own in ``session``.
        type: a conversation (``REALTIME``), or transcription alone.
        session: settings that are sent first, as ``session_update`` takes them.
        instructions: the session's instructions.
        store_context: keep what is said as turns of a conversation, and begin with what it had said before.
        tools: a list of Python functions (or of the API's dicts).
        run_tools: run the functions that the model calls, and let it go on with the results.
        max_tool_rounds: responses with calls in a row whose calls are run.
        timeout_s: how long connecting may take; None means 10.
        max_retries: repeats of a first connection that fails in passing.
        barge_in: when the user begins to speak, stop what is played and tell the server what was heard.
        bridge: where the session and its sound live: ``loop``, on a thread of this process, or ``process``, in a process
            of their own that a busy cell cannot hold up.
        session_policy: a `SessionPolicy`: how a lost session is begun again, and when one is replaced before it ends.
    """

    base_url: str | None = DEFAULT_REALTIME_URL
    model: str | None = "gpt-realtime"
    type: RealtimeAPIClientType = RealtimeAPIClientType.REALTIME
    session: Mapping[str, Any] = field(default_factory=dict)
    barge_in: bool = True
    bridge: str = "loop"
    session_policy: Any = None

    def __post_init__(self) -> None:
        # Not super(): the class that slots=True makes is another one than this text's.
        ChatParameters.__post_init__(self)
        _expect(self, "barge_in", bool)
        try:
            object.__setattr__(self, "type", RealtimeAPIClientType(self.type))
        except ValueError:
            known = [t.value for t in RealtimeAPIClientType]
            raise ParameterError(
                f"type is {self.type!r}, expected RealtimeAPIClientType: {' or '.join(map(repr, known))}", name="type"
            ) from None
        if not isinstance(self.session, Mapping):
            raise ParameterError(f"session is {type(self.session).__name__}, expected a dict", name="session")


def spelled(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Bring names to snake_case and refuse unknown ones.

    >>> spelled({"summaryModel": "m"}, ["summary_model"])
    {'summary_model': 'm'}

    Raises:
        ParameterError: unknown name, or both spellings of one.
    """
    if not isinstance(given, Mapping):
        raise ParameterError(f"the parameters are {type(given).__name__}, expected a dict", name="")
    names = list(known)
    accepted = {camel_case(n): n for n in names} | {n: n for n in names}
    out: dict[str, Any] = {}
    for key, value in given.items():
        name = accepted.get(key)
        if name is None and snake_case(str(key)) in OF_REQUESTS:
            raise ParameterError(
                f"{key!r} is not a parameter of the client but of a request: ask(…, {snake_case(str(key))}=…)", name=key
            )
        if name is None:
            raise ParameterError(
                f"unknown parameter {key!r}{did_you_mean(snake_case(str(key)), names)}",
                name=key,
                nearest=nearest(snake_case(str(key)), names),
            )
        if name in out:
            raise ParameterError(f"{key!r} is given in both spellings; keep one", name=key)
        out[name] = value
    return out


def _expect(owner: Any, name: str, kind: type, *, optional: bool = False) -> None:
    value = getattr(owner, name)
    if isinstance(value, kind) or (optional and value is None):
        return
    text = f"{name} is {value!r} ({type(value).__name__}), expected {kind.__name__}{' or None' if optional else ''}"
    if name == "base_url" and hasattr(type(value), "base_url"):  # a model that is served here
        text += "; write chat(m.name, base_url=m.base_url, api_key=m.api_key)"
    raise ParameterError(text, name=name)


def _expect_number(owner: Any, name: str, *, whole: bool, what: str, accept: Callable[[Any], bool]) -> None:
    value = getattr(owner, name)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not accept(value):
        raise ParameterError(f"{name} is {value!r}, expected {what}", name=name)


def defaults(cls: type) -> dict[str, Any]:
    """Field name → default of a parameter class, for tables of the API."""
    return {
        f.name: f.default
        if f.default is not MISSING
        else (f.default_factory() if f.default_factory is not MISSING else None)
        for f in fields(cls)
    }


def documentation(cls: type) -> dict[str, str]:
    """Field name → its line in the docstring of a parameter class or of its bases; "" where docstrings were stripped (``-OO``).

    >>> documentation(ChatParameters)["project"]
    'OpenAI project.'
    """
    said: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, section = inspect.cleandoc(vars(base).get("__doc__") or "").partition("Attributes:")
        for name, line in re.findall(r"^    (\w+): (.+(?:\n     .+)*)", section, re.MULTILINE):
            said[name] = " ".join(line.split())
    return {f.name: said.get(f.name, "") for f in fields(cls)}


def takes(
    cls: type, /, *, spelled: Callable[[str], str] = str, changed: Mapping[str, Any] | None = None
) -> Callable[[F], F]:
    """Decorator: show every parameter of ``cls`` in the signature and the docstring of a function that passes them on.

    So ``help()``, tooltips and completion know them, and there is one list. The function itself is not wrapped.

    Args:
        cls: a parameter class.
        spelled: `camel_case` for VoxEngine's spelling.
        changed: defaults that differ in this function.
    """
    values = {**defaults(cls), **(changed or {})}

    def show(function: F) -> F:
        own = [
            p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        named = {p.name for p in own}
        kinds = {f.name: f.type for f in fields(cls) if f.type not in ("Any", Any)}
        passed = [
            inspect.Parameter(
                spelled(n),
                inspect.Parameter.KEYWORD_ONLY,
                default=value,
                annotation=kinds.get(n, inspect.Parameter.empty),
            )
            for n, value in values.items()
            if n not in named
        ]
        lines = [
            f"    {spelled(n)} = {value!r}: {documentation(cls)[n]}" for n, value in values.items() if n not in named
        ]
        other = "Python's" if spelled is camel_case else "VoxEngine's"
        head = f"Every parameter with its default; {other} spelling is taken too:"
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", head, *lines, ""]).lstrip()
        function.__signature__ = inspect.Signature([*own, *passed])  # type: ignore[attr-defined]  # what inspect reads
        return function

    return show
