"""A real loopback server that speaks the OpenAI wire with scripted replies, for your tests and for ours.

It is a server, not a mock: requests travel through a socket, so that retries, time limits, cancelling and
half an answer behave as they do outside. It refuses what the service refuses (an orphan tool result, a tool
call without its result, an empty message list) with the service's own status and message, so a memory that
sends a broken list fails its test. ``/chat/completions`` and ``/responses`` answer from the same script.

::

    import voxnb
    from voxnb import testing

    def test_it_remembers_the_name():
        with testing.server(["Hello Ann.", "Your name is Ann."]) as server:
            with voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key=server.api_key) as chat:
                chat.ask("I am Ann.").result()
                assert str(chat.ask("Who am I?").result()) == "Your name is Ann."
            assert [m["content"] for m in server.requests[1].messages] == ["I am Ann.", "Hello Ann.", "Who am I?"]

**A reply** is one of

- a ``str``: the text of the answer;
- a dict: an assistant message (``content``, ``tool_calls``, ``refusal``, ``reasoning_content`` …), beside them
  ``finish_reason`` and ``logprobs`` where they matter; a tool call may be ``{"name": …, "arguments": {…}}``;
- a dict with ``choices``: a whole completion, each choice a text, a message, or a choice of the API;
- a dict with ``output``: a whole response, each item a text, a message, or an item of the API; beside it what else
  matters (``status``, ``error``, ``incomplete_details``, ``usage``);
- a list (or a generator) of chunks, or of events of the Responses API: dicts go out as they are, ``str`` as pieces of
  text, ``bytes`` verbatim;
- an ``int`` or `Status`: that HTTP status, with headers and a body;
- ``bytes``: the raw body (a login page, garbage, nothing) with status 200;
- `Drop`, `Hang`, `Paced`, `Chunks`: the same with something going wrong, or slowly;
- a function of the `Request` that returns any of these. It runs in a thread of its own and may block.

A Responses request may name ``previous_response_id`` or a ``conversation`` that it began, and run in the ``background``:
the server keeps what it answered, and every ``GET /v1/responses/<id>`` takes a queued response one step further. An
event stream of it ends without ``[DONE]``, as the service's does. `Request.messages` and `Request.text` read both kinds
of requests.

An iterable of replies is used in order and its last one repeats; a function or a single reply answers all.
Requests that the service would refuse use up no reply.

**Realtime**: with ``realtime=True`` the same port answers ``/v1/realtime`` as well, with the server of
`voxnb.local.realtime` and the same script. A text is spoken in an artificial voice (60 ms for a letter); a dict may hold
``transcript`` and ``audio`` (16-bit mono PCM at 24 kHz), ``tool_calls``, or ``output`` with several items; `Drop` breaks the
connection after so many events of the answer, `Hang` stops there; a status such as 429 is a failed response; a function
gets a `View` of the session. What the user is said to have said comes from ``Realtime(hears=[…])``. `Server.sessions` has
what went to and fro.

Without ``voxnb`` it serves as well:

>>> import json, urllib.request
>>> from voxnb import testing
>>> with testing.server("Hi.") as server:
...     body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]})
...     url = server.base_url + "/chat/completions"
...     with urllib.request.urlopen(url, data=body.encode()) as answer:
...         json.load(answer)["choices"][0]["message"]["content"]
'Hi.'
>>> server.requests[0].text
'Hello'
"""

from __future__ import annotations

from voxnb.testing.loopback import Server, server
from voxnb.testing.realtime import Realtime
from voxnb.testing.replies import Chunks, Drop, Hang, Paced, Status
from voxnb.testing.request import Request

__all__ = ["Chunks", "Drop", "Hang", "Paced", "Realtime", "Request", "Server", "Status", "server"]
