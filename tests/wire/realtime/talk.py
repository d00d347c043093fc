"""Server events of a realtime session, in the order in which the service sends them."""

from __future__ import annotations

import base64
from itertools import count

PCM_200_MS = bytes(9_600)


class Talk:
    """Writes the events of a legal session."""

    def __init__(self):
        self._ids = count(1)
        self.last_item = None

    def event(self, kind, **fields):
        return {"type": kind, "event_id": f"e{next(self._ids)}", **fields}

    def created(self, **session):
        said = {
            "type": "realtime",
            "id": "sess_1",
            "object": "realtime.session",
            "expires_at": 1_800_000_000,
            **session,
        }
        return self.event("session.created", session=said)

    def user(self, item_id, transcript=None, *, content=None):
        """A user's item, spoken (VAD) or written."""
        previous, self.last_item = self.last_item, item_id
        spoken = content is None
        part = {"type": "input_audio", "transcript": transcript} if spoken else {"type": "input_text", "text": content}
        item = {"id": item_id, "type": "message", "role": "user", "status": "completed", "content": [part]}
        head = (
            [
                self.event("input_audio_buffer.speech_started", audio_start_ms=100, item_id=item_id),
                self.event("input_audio_buffer.speech_stopped", audio_end_ms=900, item_id=item_id),
                self.event("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous),
            ]
            if spoken
            else []
        )
        return [
            *head,
            self.event("conversation.item.added", item=item, previous_item_id=previous),
            self.event("conversation.item.done", item=item, previous_item_id=previous),
        ]

    def begin(self, response_id, item_id, *, conversation="conv_1"):
        """A spoken response up to its first delta."""
        previous, self.last_item = self.last_item, item_id
        item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        at = {"response_id": response_id, "output_index": 0}
        response = {"id": response_id, "status": "in_progress", "conversation_id": conversation, "output": []}
        return [
            self.event("response.created", response=response),
            self.event("response.output_item.added", item=item, **at),
            self.event("conversation.item.added", item=item, previous_item_id=previous),
            self.event("response.content_part.added", item_id=item_id, content_index=0, part={"type": "audio"}, **at),
        ]

    def sound(self, response_id, item_id, pcm=PCM_200_MS):
        at = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
        return self.event("response.output_audio.delta", delta=base64.b64encode(pcm).decode(), **at)

    def words(self, response_id, item_id, text):
        at = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
        return self.event("response.output_audio_transcript.delta", delta=text, **at)

    def finish(self, response_id, item_id, text):
        """From the last delta to response.done."""
        at = {"response_id": response_id, "output_index": 0}
        inner = {**at, "item_id": item_id, "content_index": 0}
        part = {"type": "output_audio", "transcript": text}
        item = {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return [
            self.event("response.output_audio.done", **inner),
            self.event("response.output_audio_transcript.done", transcript=text, **inner),
            self.event("response.content_part.done", part=part, **inner),
            self.event("conversation.item.done", item=item, previous_item_id=None),
            self.event("response.output_item.done", item=item, **at),
            self.done(response_id),
        ]

    def done(self, response_id, status="completed", **fields):
        usage = {"total_tokens": 120, "input_tokens": 100, "output_tokens": 20}
        return self.event("response.done", response={"id": response_id, "status": status, "usage": usage, **fields})

    def spoken(self, response_id, item_id, text, *, deltas=5):
        """A whole spoken response."""
        sound = [self.sound(response_id, item_id) for _ in range(deltas)]
        return [
            *self.begin(response_id, item_id),
            self.words(response_id, item_id, text),
            *sound,
            *self.finish(response_id, item_id, text),
        ]

    def error(self, code=None, *, event_id=None, message="refused"):
        error = {"type": "invalid_request_error", "code": code, "message": message, "event_id": event_id}
        return self.event("error", error=error)

    def call_add(self, *, response="r1", call_id="c1"):
        """A response that calls add(2, 3), whole."""
        item = {"id": f"f_{call_id}", "type": "function_call", "name": "add", "call_id": call_id, "arguments": ""}
        at = {"response_id": response, "output_index": 0}
        inner = {**at, "item_id": item["id"]}
        return [
            self.event("response.created", response={"id": response, "conversation_id": "conv"}),
            self.event("response.output_item.added", item=item, **at),
            self.event("conversation.item.added", item=item, previous_item_id=self.last_item),
            self.event("response.function_call_arguments.done", arguments='{"a": 2, "b": 3}', name="add", call_id=call_id, **inner),
            self.event("response.output_item.done", item={**item, "arguments": '{"a": 2, "b": 3}'}, **at),
            self.done(response),
        ]  # fmt: skip
