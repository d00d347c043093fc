"""`ChatCompletionsAPIClient`: VoxEngine's chat completions client, and `chat()`, the same with a memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxnb.clients.body import as_body, as_request
from voxnb.clients.dialect import CHAT
from voxnb.clients.turn import Turn
from voxnb.clients.verbs import SpeakingClient
from voxnb.events import ChatCompletionsAPIEvents
from voxnb.messages import parse_messages
from voxnb.params import ChatParameters, takes
from voxnb.store.context_store import ContextStore


class ChatCompletionsAPIClient(SpeakingClient):
    """Chat completions, streamed, with every event, and with ``store_context`` a memory that loses nothing.

    Parameters in VoxEngine's spelling or Python's, as keywords or one dict; see `ChatParameters`. Methods return at
    once; a `Turn` is waited for by ``.result()``, ``await`` or iteration.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
        ConversationExistsError: ``if_exists="fail"`` and it exists.
    """

    EVENTS = ChatCompletionsAPIEvents
    CONNECTOR = CHAT.connector
    DIALECT = CHAT
    PUBLIC = ("create_chat_completions",)

    @takes(ChatParameters)
    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        super().__init__(ChatParameters.parse({**(parameters or {}), **given}))

    def create_chat_completions(self, parameters: Mapping[str, Any] | None = None, /, **request: Any) -> Turn:
        """Send a Chat Completions request, streamed; returns its `Turn` at once.

        With ``store_context`` send only what is new; what fits of the conversation goes with it. A list that begins
        with the stored conversation adds only its rest.

        Args:
            parameters: the request's body (``model``, ``messages``, ``tools`` …); unknown keys pass through. What `ask`
                says of ``tools``, ``run_tools`` and ``response_format`` holds here too, and ``extra_body`` is merged into it.
            **request: the same as keywords.

        Raises:
            MessageError: ``messages`` is not a message list.
            ParameterError: no model; a function that cannot be a tool, a type that has no schema.
            ClientClosedError: after close().
        """
        body = as_request(parameters, request, call=self.DIALECT.call, says=self.DIALECT.says)
        messages = parse_messages(body.pop("messages", None))
        return self._ask(messages, body)

    def ask(self, text: str | None = None, /, *, attach: Any = (), **request: Any) -> Turn:
        """Say something; returns the `Turn` at once. As a cell's last line it streams the reply.

        **Tools.** ``tools`` takes Python functions beside the API's dicts: name, signature and docstring become the
        schema. With ``run_tools=True`` what the model calls is run, and it is asked again with the results until it
        answers: one turn, whose ``reply.tool_runs`` say what ran (its usage is that of all its requests). Sync functions
        run in daemon threads, async ones on the listeners' loop, all calls of a reply at once, in the context of this
        call. Whatever goes wrong in one (an exception, no end in time, a result that JSON has no form for) is told to the
        model. After ``max_tool_rounds`` replies with calls it must answer without. A reply that also calls a dict's tool
        ends the turn with all its ``tool_calls``, for the caller to answer.

        **Answers of a form.** ``response_format`` takes a pydantic model, a dataclass or another type beside the API's
        dicts: ``reply.parsed`` is an instance. Where an answer is none (refused, cut off, otherwise) it is None and
        ``reply.warnings`` say why; nothing is raised, since the answer itself is there and stored.

        Args:
            text: what the user says.
            attach: what goes with it: paths, bytes, DataFrames (as CSV, cut to a stated number of tokens), PIL images,
                matplotlib figures; one or a list.
            **request: more of the request's body (``temperature``, ``tools``, ``response_format`` …), and of the client's
                parameters ``run_tools``, ``max_tool_rounds`` and ``tool_timeout_s`` (seconds) for this request.

        Raises:
            MessageError: neither text nor attachment.
            ParameterError: a function that cannot be a tool, a type that has no schema.
            ClientClosedError: after close().
        """
        body = as_body(request)
        return self._ask([self._question(text, attach, body)], body)

    # One line each, so that editors see them; `voxengine.METHODS` is the table.
    createChatCompletions = create_chat_completions  # noqa: N815 - VoxEngine's spelling


@takes(ChatParameters, changed={"store_context": True})
def chat(
    model: str | None = None, /, *, conversation: str | None = None, store: ContextStore | str | Path | None = None, **parameters: Any
) -> ChatCompletionsAPIClient:  # fmt: skip
    """A chat with a memory: a `ChatCompletionsAPIClient` with ``store_context=True``.

    Args:
        model: default model of its requests.
        conversation: name or id; resumed if it exists, else made with the first turn. None makes a new one.
        store: a `ContextStore` or a path; default the project's.
        **parameters: any other of those below; ``base_url="local"`` is the embedded model and needs no key.

    >>> import voxnb
    >>> with voxnb.testing.server(["It is a data set."]) as server:
    ...     with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as talk:
    ...         print(talk.ask("What is iris?").result())
    It is a data set.
    """
    given = {"model": model, "conversation": conversation, "store": store}
    return ChatCompletionsAPIClient(
        {"store_context": True, **{k: v for k, v in given.items() if v is not None}, **parameters}
    )
