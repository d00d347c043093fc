"""`ResponsesAPIClient`: VoxEngine's Responses client, with the same memory as the chat client's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from voxnb.clients.body import as_body, as_request
from voxnb.clients.responses_dialect import RESPONSES
from voxnb.clients.turn import Turn
from voxnb.clients.verbs import SpeakingClient
from voxnb.errors import ParameterError
from voxnb.events import ResponsesAPIEvents
from voxnb.messages import Message, parse_message, parse_messages
from voxnb.params import ResponsesParameters, takes
from voxnb.wire.items import from_input

ENCRYPTED: Final = "reasoning.encrypted_content"
"""What reasoning models must be asked for, so that their reasoning can be sent back with the next request."""

REASONING: Final = ("o1", "o3", "o4", "gpt-5", "codex")
"""How the names of OpenAI's reasoning models begin; others refuse to be asked for it."""


class ResponsesAPIClient(SpeakingClient):
    """The Responses API, streamed, with every event, and with ``store_context`` a memory that loses nothing.

    A conversation is kept as items (messages, reasoning, tool calls and their outputs) and sent whole, within the
    budget; ``instructions`` go with every call. Nothing is folded unless ``summary_model`` is given. A request that
    names ``previous_response_id`` or ``conversation`` leaves the history to the service: then the store only records.

    Parameters in VoxEngine's spelling or Python's, as keywords or one dict; see `ResponsesParameters`.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
        ConversationExistsError: ``if_exists="fail"`` and it exists.
    """

    EVENTS = ResponsesAPIEvents
    CONNECTOR = RESPONSES.connector
    DIALECT = RESPONSES
    FOLDS = False
    PUBLIC = ("create_responses",)

    @takes(ResponsesParameters)
    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        super().__init__(ResponsesParameters.parse({**(parameters or {}), **given}))

    def create_responses(self, parameters: Mapping[str, Any] | None = None, /, **request: Any) -> Turn:
        """Send a Responses request, streamed; returns its `Turn` at once.

        With ``store_context`` send only what is new; what fits of the conversation goes with it.

        Args:
            parameters: the request's body (``model``, ``input``, ``instructions``, ``tools`` …); ``input`` is a text
                or a list of items or messages, and may be left out where a ``prompt``, ``previous_response_id`` or
                ``conversation`` says what is asked; unknown keys pass through, ``extra_body`` is merged into it. What `ask`
                says of ``tools``, ``run_tools`` and ``text_format`` holds here too.
            **request: the same as keywords.

        Raises:
            MessageError: ``input`` is neither a text nor a list of items.
            ParameterError: nothing is said, no model (a ``prompt`` may have its own); a function that cannot be a tool, a
                type that has no schema.
            ClientClosedError: after close().
        """
        body = as_request(parameters, request, call=self.DIALECT.call, says=self.DIALECT.says)
        messages = parse_messages(from_input(body.pop("input", None)))
        return self._ask([*_instructions(body), *messages], self._completed(body))

    def ask(self, text: str | None = None, /, *, attach: Any = (), **request: Any) -> Turn:
        """Say something; returns the `Turn` at once. As a cell's last line it streams the reply.

        Args:
            text: what the user says.
            attach: what goes with it: paths, bytes, DataFrames (as CSV, cut to a stated number of tokens), PIL images,
                matplotlib figures; one or a list.
            **request: more of the request's body (``instructions``, ``tools``, ``reasoning`` …), and of the client's
                parameters ``run_tools``, ``max_tool_rounds`` and ``tool_timeout_s`` (seconds) for this request.
                ``tools`` takes Python functions too, and ``text_format`` a type, whose instance is ``reply.parsed``: see
                `ChatCompletionsAPIClient.ask`.

        Raises:
            MessageError: neither text nor attachment.
            ParameterError: a function that cannot be a tool, a type that has no schema.
            ClientClosedError: after close().
        """
        body = as_body(request)
        question = self._question(text, attach, body)
        return self._ask([*_instructions(body), question], self._completed(body))

    # One line each, so that editors see them; `voxengine.METHODS` is the table.
    createResponses = create_responses  # noqa: N815 - VoxEngine's spelling

    def _completed(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body, asking for what a memory must have to send a turn again."""
        model = str(body.get("model") or self._parameters.model or "")
        if self._store is not None and self.endpoint.is_openai and model.startswith(REASONING):
            include = body.get("include") or []
            if isinstance(include, list) and ENCRYPTED not in include:
                body["include"] = [*include, ENCRYPTED]
        return body


def _instructions(body: dict[str, Any]) -> list[Message]:
    """The request's instructions, taken out of its body, as the message that they are inside voxnb."""
    said = body.pop("instructions", None)
    if said is None:
        return []
    if not isinstance(said, str):
        raise ParameterError(
            f"instructions is {said!r} ({type(said).__name__}), expected a str; messages belong into input",
            name="instructions",
        )
    return [parse_message({"role": "system", "content": said})]
