"""What a client asks for: its messages as events, and a `response.create` filled in from the session's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from voxnb.audio.formats import AudioFormat
from voxnb.local.realtime import config
from voxnb.local.realtime.items import Conversation, Item, checked
from voxnb.local.realtime.manner import Manner
from voxnb.local.realtime.refusal import Refusal, invalid, mistyped, unknown
from voxnb.local.realtime.speaking import Response, Session
from voxnb.local.realtime.view import View

_FIELDS: Final = (
    "audio", "conversation", "input", "instructions", "max_output_tokens", "metadata", "output_modalities",
    "parallel_tool_calls", "prompt", "reasoning", "tool_choice", "tools",
)  # fmt: skip
_METADATA: Final = (16, 64, 512)


@dataclass(frozen=True)
class Wanted:
    """A response that is asked for.

    Attributes:
        params: the ``response`` of the event.
        modality: ``audio`` or ``text``.
        form: of its audio.
        in_conversation: whether its items join the default conversation.
        items: what it is made from.
        max_tokens: the most it may say, or None.
        head: what its response object says of itself.
    """

    params: Mapping[str, Any]
    modality: str
    form: AudioFormat
    in_conversation: bool
    items: list[Item]
    max_tokens: int | None
    head: dict[str, Any]

    def response(self, name: str, session: Session, /, *, manner: Manner, conversation_id: str | None) -> Response:
        """The response that begins.

        Args:
            name: its id.
            session: where its events go.
            manner: how fast it speaks.
            conversation_id: of the conversation that it joins, or None.
        """
        return Response(
            name,
            session,
            self.modality,
            self.form,
            {**self.head, "conversation_id": conversation_id},
            in_conversation=self.in_conversation,
            speed=manner.speed,
            delta_ms=manner.delta_ms,
            max_tokens=self.max_tokens,
        )

    def view(self, *, number: int, session: Mapping[str, Any], model: str) -> View:
        """What the brain gets to see.

        Args:
            number: of the response, from 1.
            session: the configuration.
            model: of the address.
        """
        last = next((item for item in reversed(self.items) if item.data.get("role") == "user"), None)
        sound: dict[str, Any] = {} if last is None else {"audio": last.audio.get(0, b""), "form": last.form}
        items = [item.told() for item in self.items]
        return View(number=number, session=session, response=self.params, items=items, model=model, **sound)


def wanted(params: Any, session: Mapping[str, Any], conversation: Conversation, *, has_spoken: bool) -> Wanted:
    """Read the ``response`` of a `response.create`.

    Args:
        params: as it came; None asks for nothing in particular.
        session: the configuration.
        conversation: where items are looked up.
        has_spoken: whether the voice is fixed.

    Raises:
        Refusal: what the service refuses.
    """
    asked = {} if params is None else params
    if not isinstance(asked, Mapping):
        raise mistyped(asked, "an object", param="response")
    for name in asked:
        if name not in _FIELDS:
            raise unknown(f"response.{name}")
    _check(asked)
    where = asked.get("conversation")
    if where not in (None, "auto", "none"):
        raise invalid(where, ("auto", "none"), param="response.conversation")
    in_conversation = where != "none"
    output = _output(asked, session["audio"]["output"], has_spoken=has_spoken)
    modalities = asked.get("output_modalities") or session["output_modalities"]
    most = asked.get("max_output_tokens") or session["max_output_tokens"]
    return Wanted(
        params=asked,
        modality=modalities[0],
        form=config.FORMATS[output["format"]["type"]],
        in_conversation=in_conversation,
        items=list(conversation) if asked.get("input") is None else _input(asked["input"], conversation),
        max_tokens=None if most == "inf" else most,
        head={
            "output_modalities": modalities,
            "max_output_tokens": most,
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "metadata": asked.get("metadata"),
        },
    )


def _check(asked: Mapping[str, Any]) -> None:
    for name, check in (
        ("output_modalities", config.check_modalities),
        ("tools", config.check_tools),
        ("max_output_tokens", config.check_max_tokens),
        ("instructions", config.check_text),
    ):
        if asked.get(name) is not None:
            check(asked[name], f"response.{name}")
    metadata = asked.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise mistyped(metadata, "an object", param="response.metadata")
    most, longest_key, longest_value = _METADATA
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise mistyped(value, "a string", param=f"response.metadata.{key}")
        if len(key) > longest_key or len(value) > longest_value:
            raise Refusal(
                f"Invalid 'response.metadata': keys have at most {longest_key} characters, values {longest_value}.",
                code="string_above_max_length",
                param=f"response.metadata.{key[:longest_key]}",
            )
    if len(metadata) > most:
        raise Refusal(
            f"Invalid 'response.metadata': too many properties. Expected at most {most}, but got {len(metadata)}.",
            code="object_above_max_properties",
            param="response.metadata",
        )


def _output(asked: Mapping[str, Any], held: Mapping[str, Any], *, has_spoken: bool) -> Mapping[str, Any]:
    audio = asked.get("audio")
    given = audio.get("output") if isinstance(audio, Mapping) else None
    if given is None:
        return held
    if not isinstance(given, Mapping):
        raise mistyped(given, "an object", param="response.audio.output")
    kind = (given.get("format") or held["format"]).get("type")
    if kind not in config.FORMATS:
        raise invalid(kind, tuple(config.FORMATS), param="response.audio.output.format.type")
    voice = given.get("voice", held["voice"])
    if has_spoken and voice != held["voice"]:
        raise Refusal(
            "Cannot update a conversation's voice if assistant audio is present.",
            code="cannot_update_voice",
            param="response.audio.output.voice",
        )
    return {**held, **given, "format": given.get("format") or held["format"], "voice": voice}


def _input(given: Any, conversation: Conversation) -> list[Item]:
    if not isinstance(given, list):
        raise mistyped(given, "an array", param="response.input")
    out = []
    for entry in given:
        if isinstance(entry, Mapping) and entry.get("type") == "item_reference":
            out.append(conversation.find(entry.get("id"), verb="retriev"))
        else:
            data = checked(entry)
            data.setdefault("id", "")
            out.append(Item(data))
    return out


def event_of(message: str | bytes | Mapping[str, Any], /) -> Mapping[str, Any]:
    """The event that a message is.

    Raises:
        Refusal: it is none.
    """
    event: Any = message
    if isinstance(message, str | bytes):
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            raise Refusal("The request could not be parsed: expected valid JSON.", code="invalid_json") from None
    if not isinstance(event, Mapping):
        raise Refusal("The request could not be parsed: expected an object.", code="invalid_json")
    return event
