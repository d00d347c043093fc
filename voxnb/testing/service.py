"""What the service says about a request before any model sees it: refusals, with its own words, and counts.

Source: error bodies of api.openai.com and the published request reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from voxnb.testing.replies import Status
from voxnb.testing.request import Request

ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")

_TYPES: Final = {401: "invalid_request_error", 403: "permission_error", 429: "requests", 500: "server_error"}
_WORDS: Final = {
    400: "The request was refused.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The resource was not found.",
    409: "The resource is in use.",
    422: "The request could not be processed.",
    429: "Rate limit reached for requests.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later",
}
_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}

_COMPLETIONS: Final = re.compile(r"(?:/v1|/openai/v1)?/chat/completions")
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_RESPONSES: Final = re.compile(r"(?:/v1|/openai/v1|/openai)?/responses(?:/([^/]+)(/cancel)?)?")
_CONVERSATIONS: Final = re.compile(r"(?:/v1|/openai/v1)?/conversations")
_MODELS: Final = re.compile(r"(?:/v1|/openai/v1|/openai)?/models(?:/(.+))?")


def error_body(message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of a refusal: ``{"error": {"message", "type", "param", "code"}}``."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def default_body(status: int) -> dict[str, Any] | bytes:
    """What goes with a bare status: the service's error body, or nothing below 400."""
    if status < 400:
        return b""
    return error_body(_WORDS.get(status, f"Status {status}."), status=status, code=_CODES.get(status))


def refuse(message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> Status:
    """A refusal as a reply."""
    return Status(status, body=error_body(message, status=status, param=param, code=code))


def route(request: Request) -> str | Status:
    """What is asked for, or the refusal of an unknown address.

    Returns:
        ``completions``, ``responses``, ``responses/<id>`` (``responses/<id>/cancel``, ``responses/<id>/delete``),
        ``conversations``, ``models``, ``models/<id>``.
    """
    where = f"{request.method} {request.path}"
    deployment = _DEPLOYMENT.fullmatch(request.path)
    if deployment and "api-version" not in request.query:
        return Status(404, body={"error": {"code": "404", "message": "Resource not found"}})
    if deployment or _COMPLETIONS.fullmatch(request.path):
        if request.method != "POST":
            return refuse(f"Not allowed to {request.method} on {request.path}.", status=405)
        return "completions"
    models = _MODELS.fullmatch(request.path)
    if models and request.method == "GET":
        return f"models/{models[1]}" if models[1] else "models"
    if found := _RESPONSES.fullmatch(request.path):
        return _responses_route(request.method, found[1], found[2]) or refuse(
            f"Not allowed to {request.method} on {request.path}.", status=405
        )
    if _CONVERSATIONS.fullmatch(request.path) and request.method == "POST":
        return "conversations"
    return refuse(f"Invalid URL ({where})", status=404)


def _responses_route(method: str, name: str | None, verb: str | None) -> str | None:
    if name is None:
        return "responses" if method == "POST" else None
    if verb is not None:
        return f"responses/{name}/cancel" if method == "POST" else None
    return {"GET": f"responses/{name}", "DELETE": f"responses/{name}/delete"}.get(method)


def deployment_of(request: Request) -> str | None:
    """The Azure deployment in the path, or None."""
    found = _DEPLOYMENT.fullmatch(request.path)
    return found[1] if found else None


def wrong_key(request: Request, api_key: str) -> Status | None:
    """The 401 of a missing or wrong key."""
    given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    if not given:
        return refuse("You didn't provide an API key.", status=401)
    if given != api_key:
        return refuse("Incorrect API key provided.", status=401, code="invalid_api_key")
    return None


def objection(request: Request, models: Sequence[str] | None) -> Status | None:
    """Why the service would not take this chat completion, or None."""
    found = bad_model(request, models)
    if found is not None:
        return found
    body = request.json
    if "messages" not in body:
        return refuse("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        words = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return refuse(words, param="stream_options")
    return _bad_messages(body["messages"])


def bad_model(request: Request, models: Sequence[str] | None, *, may_lack: bool = False) -> Status | None:
    """The refusal of a body that is no JSON object, or of its model; None where both are well.

    Args:
        request: what was asked.
        models: those that the server has, or None for any.
        may_lack: it may name none.
    """
    body = request.json
    if not isinstance(body, dict):
        return refuse(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
        )
    model = deployment_of(request) or body.get("model")
    if model is None and may_lack:
        return None
    if not isinstance(model, str) or not model:
        return refuse("you must provide a model parameter")
    if models is not None and model not in models:
        words = f"The model `{model}` does not exist or you do not have access to it."
        return refuse(words, status=404, code="model_not_found")
    return None


def _bad_messages(messages: Any) -> Status | None:
    if not isinstance(messages, list):
        words = f"Invalid type for 'messages': expected an array of objects, but got {kind(messages)} instead."
        return refuse(words, param="messages", code="invalid_type")
    if not messages:
        return _empty("messages")
    waiting: list[str] = []
    answerable: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages.[{index}].role"
        if not isinstance(message, dict):
            words = f"Invalid type for 'messages[{index}]': expected an object, but got {kind(message)} instead."
            return refuse(words, param=f"messages[{index}]", code="invalid_type")
        role = message.get("role")
        if role != "tool":
            if waiting:
                return _unanswered(waiting, where)
            answerable = set()
        found = _bad_message(message, index)
        if found:
            return found
        if role == "tool":
            call = message["tool_call_id"]
            if call not in answerable:
                return refuse(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=where,
                )
            waiting = [c for c in waiting if c != call]
        elif message.get("tool_calls"):
            waiting = [c["id"] for c in message["tool_calls"]]
            answerable = set(waiting)
    return _unanswered(waiting, f"messages.[{len(messages) - 1}].role") if waiting else None


def _bad_message(message: Mapping[str, Any], index: int) -> Status | None:
    role = message.get("role")
    if role is None:
        where = f"messages[{index}].role"
        return refuse(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")
    if role not in ROLES:
        words = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'"
        where = f"messages[{index}].role"
        return refuse(f"Invalid value: '{role}'. Supported values are: {words}.", param=where, code="invalid_value")
    calls = message.get("tool_calls")
    if calls is not None:
        found = _bad_calls(calls, index)
        if found:
            return found
    content = message.get("content")
    if content is None and not (
        role == "assistant" and any(message.get(k) for k in ("tool_calls", "refusal", "function_call", "audio"))
    ):
        words = "Invalid value for 'content': expected a string, got null."
        return refuse(words, param=f"messages.[{index}].content")
    if content is not None and not isinstance(content, str | list):
        words = f"Invalid type for 'messages[{index}].content': expected one of a string or array of objects, "
        where = f"messages[{index}].content"
        return refuse(words + f"but got {kind(content)} instead.", param=where, code="invalid_type")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        words = "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'."
        return refuse(words, param=f"messages.[{index}].tool_call_id")
    return None


def _bad_calls(calls: Any, index: int) -> Status | None:
    where = f"messages[{index}].tool_calls"
    if not isinstance(calls, list):
        words = f"Invalid type for '{where}': expected an array of objects, but got {kind(calls)} instead."
        return refuse(words, param=where, code="invalid_type")
    if not calls:
        return _empty(where)
    for position, call in enumerate(calls):
        if not isinstance(call, dict) or not isinstance(call.get("id"), str):
            missing = f"{where}[{position}].id"
            return refuse(f"Missing required parameter: '{missing}'.", param=missing, code="missing_required_parameter")
        arguments = call["function"].get("arguments") if isinstance(call.get("function"), dict) else None
        if call.get("type", "function") == "function" and not isinstance(arguments, str):
            wrong = f"{where}[{position}].function.arguments"
            words = f"Invalid type for '{wrong}': expected a string, but got {kind(arguments)} instead."
            return refuse(words, param=wrong, code="invalid_type")
    return None


def _unanswered(calls: Sequence[str], where: str) -> Status:
    return refuse(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(calls)}",
        param=where,
    )


def _empty(where: str) -> Status:
    words = f"Invalid '{where}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    return refuse(words, param=where, code="empty_array")


def kind(value: Any) -> str:
    """What the service calls a JSON value's type."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "an integer", float: "a decimal number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def too_long(tokens: int, window_tokens: int) -> Status:
    """The refusal of a request that does not fit the window."""
    return refuse(
        f"This model's maximum context length is {window_tokens} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    )


def model_list(models: Sequence[str], window_tokens: int | None) -> dict[str, Any]:
    """The body of ``GET /v1/models``; the window is told as vLLM tells it (``max_model_len``)."""
    return {"object": "list", "data": [model_entry(m, window_tokens) for m in models]}


def model_entry(model: str, window_tokens: int | None) -> dict[str, Any]:
    """One entry of the model list."""
    entry = {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "voxnb-testing"}
    return entry if window_tokens is None else {**entry, "max_model_len": window_tokens}


@lru_cache(maxsize=65_536)
def _count(text: str, encoding: str) -> int:
    from voxnb.runtime import encodings

    return encodings.counter(encoding)(text)


def count_text(text: str, model: str) -> int:
    """Tokens of a text for this model (see `voxnb.runtime.encodings`)."""
    from voxnb.runtime import encodings

    return _count(text, encodings.encoding_for(model).name)


def prompt_tokens(request: Request) -> int:
    """Tokens of the whole request by the published recipe."""
    from voxnb.memory import tokens

    body, model = request.json, deployment_of(request) or request.model
    return tokens.request_tokens(
        request.messages,
        lambda text: count_text(text, model),
        tools=body.get("tools"),
        response_format=body.get("response_format"),
        model=model,
    )


def as_json(value: Any) -> bytes:
    """Compact UTF-8 JSON, as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
