"""VoxEngine's OpenAI module as its reference states it: classes, methods, parameters, defaults. The truth that the tables are held to.

Source: VoxEngine reference and typings, July 2026.
"""

from __future__ import annotations

REQUIRED = object()
NOT_STATED = object()

EVERY_CLIENT = [
    "id()",
    "webSocketId()",
    "close()",
    "addEventListener(event, callback)",
    "removeEventListener(event, callback?)",
]

METHODS = {
    "ChatCompletionsAPIClient": [*EVERY_CLIENT, "createChatCompletions(parameters)"],
    "ResponsesAPIClient": [*EVERY_CLIENT, "createResponses(parameters)"],
    "RealtimeAPIClient": [
        *EVERY_CLIENT,
        "sessionUpdate(parameters)",
        "inputAudioBufferClear(parameters)",
        "inputAudioBufferCommit(parameters)",
        "conversationItemCreate(parameters)",
        "conversationItemRetrieve(parameters)",
        "conversationItemTruncate(parameters)",
        "conversationItemDelete(parameters)",
        "responseCreate(parameters)",
        "responseCancel(parameters)",
        "sendMediaTo(mediaUnit, parameters?)",
        "stopMediaTo(mediaUnit)",
        "clearMediaBuffer(parameters?)",
    ],
}  # fmt: skip

# Voximplant's own scenarios call these four without an argument, though they are typed with one.
CALLED_WITHOUT = {"inputAudioBufferClear", "inputAudioBufferCommit", "responseCreate", "responseCancel"}

EVERY_SOCKET = {"statistics": False, "trace": False, "privacy": False, "onWebSocketClose": NOT_STATED}

PARAMETERS = {
    "ChatCompletionsAPIClient": {
        "apiKey": REQUIRED,
        "storeContext": False,
        "baseUrl": NOT_STATED,
        "project": NOT_STATED,
        "summaryModel": "gpt-4o",
        "summaryPrompt": "documented text",
        **EVERY_SOCKET,
    },
    "ResponsesAPIClient": {
        "apiKey": REQUIRED,
        "storeContext": False,
        "baseUrl": NOT_STATED,
        "project": NOT_STATED,
        **EVERY_SOCKET,
    },
    "RealtimeAPIClient": {
        "apiKey": REQUIRED,
        "model": "gpt-realtime",
        "type": "REALTIME",
        "baseUrl": "https://api.openai.com/",
        **EVERY_SOCKET,
    },
}

BETA_METHODS = {
    "conversationItemCreate": "previousItemId, item, eventId",
    "conversationItemRetrieve": "itemId, eventId",
    "conversationItemTruncate": "itemId, contentIndex, audioEndMs, eventId",
    "conversationItemDelete": "itemId, eventId",
    "sessionUpdate": "session, eventId",
    "responseCreate": "response, eventId",
    "responseCancel": "eventId",
}

ENCODINGS = {
    "PCM16_8KHZ": "PCM8",
    "PCM8": "PCM8",
    "PCM16_16KHZ": "PCM16",
    "PCM16": "PCM16",
    "ALAW": "ALAW",
    "ULAW": "ULAW",
    "OPUS": "OPUS",
}
