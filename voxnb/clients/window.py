"""How many tokens a model may take, asked of the server that runs it.

OpenAI does not tell; servers that people run themselves do, each in its way:

- **vLLM**, SGLang: ``max_model_len`` in ``GET /v1/models``.
- **llama.cpp**: ``meta.n_ctx`` there (builds since 2026), else ``default_generation_settings.n_ctx`` of ``GET /props``;
  both are what one slot has. ``n_ctx_train`` is what the model was trained for and says nothing of this server.
- **Ollama**: ``GET /api/ps`` has ``context_length`` of a model that is loaded. Before that, ``num_ctx`` of
  ``POST /api/show``; without one Ollama decides when it loads the model, by the graphics memory it finds (4,096
  below 24 GiB, 32,768 below 48 GiB, 262,144 above) unless ``OLLAMA_CONTEXT_LENGTH`` is set for it. From outside none
  of that is visible, so the smallest is assumed until the model is loaded: Ollama cuts longer prompts silently.
- OpenRouter, Together, Groq, Mistral and LM Studio add a field of their own to ``/v1/models``.

Sources: vLLM ``ModelCard``; llama.cpp ``tools/server`` (b10000 and later); Ollama ``docs/context-length.mdx`` and
``server/routes.go`` (0.30), pull request 11331; the providers' API references.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from voxnb.clients.address import OLLAMA_PORT
from voxnb.clients.sdk import Transport
from voxnb.taping.tape import tape_number

LONGEST_S: Final = 5.0
"""All questions together; a turn waits for them once."""

OLLAMA_DEFAULT_TOKENS: Final = 4_096

_FIELDS: Final = ("max_model_len", "context_length", "context_window", "max_context_length", "loaded_context_length")
_SMALLEST_TOKENS: Final = 16
"""Less is a placeholder (0, -1), not a window."""

_known: dict[tuple[str, str, int], int | None] = {}


async def discover_window(transport: Transport, model: str) -> int | None:
    """Ask a server for the context window of a model.

    The answer is kept for the process, except where the server was out of reach or has not decided yet (Ollama
    before it loads the model): then the next call asks again. OpenAI and Azure are not asked.

    Args:
        transport: to the server.
        model: the model's name, as in requests.

    Returns:
        Tokens a whole request may have, reply included; None where the server does not tell. Never raises.
    """
    endpoint = transport.endpoint
    if endpoint.is_openai or endpoint.api_version is not None:
        return None
    key = (endpoint.base_url, model, tape_number())  # a tape answers on its own, whatever this process has learned
    if key in _known:
        return _known[key]
    try:
        await transport.prepare()
        async with asyncio.timeout(LONGEST_S):
            found, is_final = await _ask(transport, model)
    except Exception:  # noqa: BLE001 - a question beside the point must not cost the turn; its own request will tell
        return None
    if is_final:
        _known[key] = found
    return found


async def _ask(transport: Transport, model: str) -> tuple[int | None, bool]:
    listed = await transport.get("/models", max_retries=0)
    entries = [e for e in _items(listed, "data") if isinstance(e, Mapping)]
    entry = _entry(entries, model)
    found = next((n for name in _FIELDS if (n := _tokens(entry.get(name)))), None)
    found = found or _tokens(_mapping(entry.get("meta")).get("n_ctx"))
    if found is not None:
        return found, True
    owners = {str(e.get("owned_by", "")).lower() for e in entries}
    if "llamacpp" in owners:
        return await _ask_llama_cpp(transport), True
    ids = [str(e.get("id", "")) for e in entries]
    is_ollama = "library" in owners or transport.endpoint.host.endswith(f":{OLLAMA_PORT}")
    if is_ollama or (ids and all(":" in i for i in ids)):
        return await _ask_ollama(transport, model)
    return None, True


def _entry(entries: list[Mapping[str, Any]], model: str) -> Mapping[str, Any]:
    """The model's own entry; where a server has only one, it answers for every name."""
    names = {model, f"{model}:latest"}
    for entry in entries:
        if entry.get("id") in names or not names.isdisjoint(map(str, _items(entry, "aliases"))):
            return entry
    return entries[0] if len(entries) == 1 else {}


async def _ask_llama_cpp(transport: Transport) -> int | None:
    for at_root in (True, False):
        props = await transport.get("/props", max_retries=0, at_root=at_root)
        found = _tokens(_mapping(_mapping(props).get("default_generation_settings")).get("n_ctx"))
        if found is not None:
            return found
    return None


async def _ask_ollama(transport: Transport, model: str) -> tuple[int | None, bool]:
    names = {model, f"{model}:latest"}
    running = await transport.get("/api/ps", max_retries=0, at_root=True)
    if running is None:
        return None, True  # not Ollama after all
    for entry in _items(running, "models"):
        if isinstance(entry, Mapping) and not names.isdisjoint({entry.get("name"), entry.get("model")}):
            found = _tokens(entry.get("context_length"))
            if found is not None:
                return found, True
    shown = await transport.post("/api/show", {"model": model}, max_retries=0, at_root=True)
    trained = next(
        (
            n
            for k, v in _mapping(shown.get("model_info")).items()
            if k.endswith(".context_length") and (n := _tokens(v))
        ),
        None,
    )
    if shown.get("remote_host"):  # runs elsewhere, with all it was trained for
        return trained, True
    asked = _parameter(shown.get("parameters"), "num_ctx")
    if asked is not None:
        return min(asked, trained or asked), True
    return min(OLLAMA_DEFAULT_TOKENS, trained or OLLAMA_DEFAULT_TOKENS), False


def _parameter(text: Any, name: str) -> int | None:
    """A number of a Modelfile's parameters: one ``name value`` a line."""
    for line in text.splitlines() if isinstance(text, str) else ():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdecimal():
            return _tokens(int(words[1]))
    return None


def _tokens(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= _SMALLEST_TOKENS else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: Any, name: str) -> list[Any]:
    found = _mapping(value).get(name)
    return found if isinstance(found, list) else []
