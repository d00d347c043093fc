"""The nine commands of the realtime client: each is an OpenAI client event without its ``type``.

Each returns at once; what comes of it are events. What is asked for before the session is there goes out when it is, in
order. A `response_create` waits while another response runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from voxnb.clients.body import check_json
from voxnb.wire.realtime.command import check_command

Fields = Mapping[str, Any]


class RealtimeCommands:
    """The commands, in Python's spelling and VoxEngine's."""

    def _command(self, command: dict[str, Any]) -> None:
        raise NotImplementedError

    def session_update(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Change settings of the session (``session.update``); absent fields stay, null or empty ones are cleared.

        Args:
            parameters: the event's fields: ``session`` (settings of the beta's flat shape are brought to today's; its
                ``type`` is filled in), ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is missing or of another kind.
            ClientClosedError: after the end.

        Source: OpenAI API reference, Realtime client events; so for every command.
        """
        self._ask("session.update", parameters, fields)

    def input_audio_buffer_clear(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Throw away what the user said since the last commit (``input_audio_buffer.clear``).

        Args:
            parameters: ``event_id``.
            **fields: the same as keywords.

        Raises:
            ClientClosedError: after the end.
        """
        self._ask("input_audio_buffer.clear", parameters, fields)

    def input_audio_buffer_commit(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Make an item of what the user said (``input_audio_buffer.commit``); for sessions without turn detection.

        Args:
            parameters: ``event_id``.
            **fields: the same as keywords.

        Raises:
            ClientClosedError: after the end.
        """
        self._ask("input_audio_buffer.commit", parameters, fields)

    def conversation_item_create(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Add an item: a message, or a tool's result (``conversation.item.create``).

        Args:
            parameters: ``item``, ``previous_item_id`` (``root`` for the start), ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is missing or of another kind.
            ClientClosedError: after the end.
        """
        self._ask("conversation.item.create", parameters, fields)

    def conversation_item_retrieve(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Ask for an item as the server has it (``conversation.item.retrieve``), its audio included.

        Args:
            parameters: ``item_id``, ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is missing.
            ClientClosedError: after the end.
        """
        self._ask("conversation.item.retrieve", parameters, fields)

    def conversation_item_truncate(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Cut the audio of an answer (``conversation.item.truncate``), so that the model knows what was heard.

        Args:
            parameters: ``item_id``, ``content_index``, ``audio_end_ms``, ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is missing.
            ClientClosedError: after the end.
        """
        self._ask("conversation.item.truncate", parameters, fields)

    def conversation_item_delete(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Take an item out of the conversation (``conversation.item.delete``).

        Args:
            parameters: ``item_id``, ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is missing.
            ClientClosedError: after the end.
        """
        self._ask("conversation.item.delete", parameters, fields)

    def response_create(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Let the model answer (``response.create``); while it does already, the request waits for the end of that.

        Args:
            parameters: ``response``, ``event_id``.
            **fields: the same as keywords.

        Raises:
            ParameterError: a field is of another kind.
            ClientClosedError: after the end.
        """
        self._ask("response.create", parameters, fields)

    def response_cancel(self, parameters: Fields | None = None, /, **fields: Any) -> None:
        """Stop the answer that is being made (``response.cancel``).

        Args:
            parameters: ``response_id``, ``event_id``.
            **fields: the same as keywords.

        Raises:
            ClientClosedError: after the end.
        """
        self._ask("response.cancel", parameters, fields)

    # One line each, so that editors see them; `voxengine.METHODS` is the table.
    sessionUpdate = session_update  # noqa: N815 - VoxEngine's spelling
    inputAudioBufferClear = input_audio_buffer_clear  # noqa: N815 - VoxEngine's spelling
    inputAudioBufferCommit = input_audio_buffer_commit  # noqa: N815 - VoxEngine's spelling
    conversationItemCreate = conversation_item_create  # noqa: N815 - VoxEngine's spelling
    conversationItemRetrieve = conversation_item_retrieve  # noqa: N815 - VoxEngine's spelling
    conversationItemTruncate = conversation_item_truncate  # noqa: N815 - VoxEngine's spelling
    conversationItemDelete = conversation_item_delete  # noqa: N815 - VoxEngine's spelling
    responseCreate = response_create  # noqa: N815 - VoxEngine's spelling
    responseCancel = response_cancel  # noqa: N815 - VoxEngine's spelling

    def _ask(self, kind: str, parameters: Fields | None, fields: Mapping[str, Any]) -> None:
        if parameters is None or (fields and isinstance(parameters, Mapping)):
            parameters = {**(parameters or {}), **fields}
        command = check_command(kind, parameters)
        check_json(command)
        # A copy: what the caller does with his dicts afterwards is his.
        self._command(json.loads(json.dumps(command)))
