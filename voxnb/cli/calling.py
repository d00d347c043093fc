"""``voxnb call``: a spoken conversation, with a file in the caller's place or with the microphone."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voxnb.cli import arguments, output
from voxnb.cli.serving import asked_to_stop
from voxnb.errors import APIError, ParameterError
from voxnb.events import Event, Events, RealtimeAPIEvents, SessionEvents, WebSocketEvents
from voxnb.runtime import config

if TYPE_CHECKING:
    from voxnb.clients.realtime.client import RealtimeAPIClient

NAME: Final = "call"
"""The conversation of who names none."""

QUIET_S: Final = 1.5
"""A call from a file ends when nothing has happened for so long, and nothing is still to come."""

LONGEST_S: Final = 120.0
"""How long after its end a file waits for its answers."""

STEPS: Final[Mapping[str, str]] = {
    "stopped_ms": "noticed",
    "committed_ms": "committed",
    "created_ms": "begun",
    "first_delta_ms": "first sound",
    "first_frame_ms": "sent",
    "first_heard_ms": "heard",
}

EPILOG: Final = """\
examples:
  voxnb call question.wav                       a file speaks; no key, no account
  voxnb call question.wav --record call.wav     both sides in one file: caller left, model right
  voxnb call                                    microphone and loudspeaker, until Ctrl-C
  voxnb call --model gpt-realtime               with a key in OPENAI_API_KEY
  voxnb explain call 1                          what was said is in the store, as of a chat
"""


def add(commands: Any) -> None:
    """Add it to the parser."""
    p = commands.add_parser(
        "call",
        help="speak with a model: a file in your place, or the microphone",
        description="Hold a spoken conversation. What both said is printed as it is understood and kept in the store; at the "
        "end comes where the time of each answer went. Without a key the embedded voice answers, in English. A call from a "
        "file ends when it is answered, one with the microphone with Ctrl-C.",
        epilog=EPILOG,
    )
    p.add_argument("file", nargs="?", metavar="FILE", help="audio that speaks in your place (default: the microphone)")
    p.add_argument("--record", metavar="FILE", help="record both sides to a WAV file")
    p.add_argument("--speaker", action="store_true", help="hear the answers to a file on the loudspeaker, too")
    p.add_argument("--model", help="the realtime model (default: gpt-realtime)")
    p.add_argument(
        "--base-url", metavar="URL", help='a server of the Realtime API, or "local" (default where there is no key)'
    )
    p.add_argument("--instructions", metavar="TEXT", help="what the model is told first, from now on")
    p.add_argument("--conversation", metavar="NAME", help=f"name or id (default: {NAME}); made if it is not there")
    p.add_argument("--new", action="store_true", help="a new conversation; with a NAME that must not be taken")
    arguments.bridge_option(p)
    arguments.store_option(p)
    arguments.json_option(p, what="one document per event of the call, the last with the latencies")
    p.set_defaults(run=call, when_stopped="stopped before the call began")


def call(options: argparse.Namespace) -> int:
    """``voxnb call``."""
    from voxnb.clients.realtime.client import RealtimeAPIClient
    from voxnb.media import AudioFile, Echo, Microphone, Recorder, Speaker

    with contextlib.ExitStack() as ends:

        def opened(unit: Any) -> Any:
            ends.callback(unit.close)
            return unit

        # What cannot be heard or written is told before anybody is called.
        source = opened(AudioFile(options.file, tail_ms=LONGEST_S * 1000) if options.file else Microphone())
        ears = [opened(Speaker())] if options.speaker or not options.file else []
        recorder = opened(Recorder(_elsewhere(options))) if options.record else None
        client = ends.enter_context(RealtimeAPIClient(_parameters(options)))
        line = _Line(client, options)
        with asked_to_stop() as stop:
            line.listen(stop)
            for ear in ears or [opened(Echo())]:
                client.send_media_to(ear)
            if recorder is not None:
                source.send_media_to(recorder, tag="left")
                client.send_media_to(recorder, tag="right")
            source.send_media_to(client)
            line.hold(stop, file_s=source.duration_ms / 1000 if options.file else None)
        path = recorder.close() if recorder is not None else None
        client.close()
        return line.end(path)


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    base_url = options.base_url
    if base_url is None and not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
        base_url = "local"
        output.say_error("no key in OPENAI_API_KEY: the embedded voice answers")
    given: dict[str, Any] = {
        "base_url": base_url,
        "bridge": options.bridge,
        "model": options.model,
        "instructions": options.instructions,
        "store": options.store,
        "conversation": options.conversation or (None if options.new else NAME),
        "if_exists": "fail" if options.new else None,
    }
    return {"store_context": True, **{name: value for name, value in given.items() if value is not None}}


def _elsewhere(options: argparse.Namespace) -> Path:
    """Where to record.

    Raises:
        ParameterError: over the file that speaks.
    """
    path = config.expanded(options.record)
    if options.file and path.exists() and path.samefile(config.expanded(options.file)):
        raise ParameterError(f"--record {options.record!r} is the file that speaks; name another", name="record")
    return path


class _Line:
    """What happens in a call: told as it happens, and watched for its end.

    Args:
        client: in a session.
        options: of the command line.
    """

    def __init__(self, client: RealtimeAPIClient, options: argparse.Namespace) -> None:
        self._client, self._options = client, options
        self._changed = threading.RLock()  # listeners have a thread of their own
        self._moved_s = self._began_s = time.monotonic()
        self._awaited: set[str] = set()  # what is still to come, by name
        self._untold: deque[tuple[str, dict[str, Any]]] = deque()  # answers that wait for the words they answer
        self._unheard: set[str] = set()  # items whose transcript is still to come
        self._error: str | None = None
        self._reason = "hung up"
        self._is_over = False

    # -- what is heard of the client --------------------------------------------------------------

    def listen(self, stop: threading.Event) -> None:
        """Tell of everything from now on.

        Args:
            stop: set when the server ends the call.
        """
        conversation = self._client.conversation.name
        facts = {"model": self._client.model, "host": self._client.host, "conversation": conversation}
        self._tell("began", facts, f"{conversation} · {facts['model']} at {facts['host']}")
        kinds = RealtimeAPIEvents
        listeners: dict[Any, Callable[[Event], None]] = {
            kinds.InputAudioBufferSpeechStarted: self._noting(begins="speech"),
            kinds.InputAudioBufferSpeechStopped: self._noting(ends="speech"),
            kinds.InputAudioBufferCommitted: self._committed,
            kinds.ConversationItemInputAudioTranscriptionCompleted: self._understood,
            kinds.ConversationItemInputAudioTranscriptionFailed: self._understood,
            kinds.ResponseCreated: self._noting(begins="response", ends="answer"),
            kinds.ResponseOutputAudioTranscriptDone: self._answered,
            kinds.ResponseOutputTextDone: self._answered,
            kinds.ResponseDone: self._done,
            kinds.Error: self._wrong,
            SessionEvents.Interrupted: self._interrupted,
            SessionEvents.SessionLost: self._lost,
            Events.WebSocketMediaStarted: self._noting(begins="sound"),
            Events.WebSocketMediaEnded: self._noting(ends="sound"),
            WebSocketEvents.Close: lambda event: self._closed(event, stop),
        }
        for name, listener in listeners.items():
            self._client.on(name, listener)

    def _noting(self, *, begins: str | None = None, ends: str | None = None) -> Callable[[Event], None]:
        """A listener that notes what is still to come; sounds are told apart by their tags."""

        def note(event: Event) -> None:
            tag = event.payload.get("tag", "")
            with self._changed:
                self._awaited -= {f"{ends} {tag}"}
                if begins is not None:
                    self._awaited |= {f"{begins} {tag}"}
                self._moved_s = time.monotonic()

        return note

    def _committed(self, event: Event) -> None:
        self._unheard.add(event.payload["item_id"])
        self._noting(begins="answer")(event)

    def _understood(self, event: Event) -> None:
        words = event.payload.get("transcript")
        text = "(not understood)" if words is None else words or "(nothing)"
        self._tell("user", {"text": words, "item_id": event.payload["item_id"]}, f"you    {text}")
        self._unheard.discard(event.payload["item_id"])
        self._tell_waiting()

    def _answered(self, event: Event) -> None:
        text = str(event.payload.get("transcript", event.payload.get("text")))
        self._tell_answer(text, event.payload["response_id"])

    def _tell_answer(self, text: str, response_id: str) -> None:
        self._untold.append((text or "(nothing)", {"text": text, "response_id": response_id}))
        if not self._unheard:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        while self._untold:
            text, facts = self._untold.popleft()
            self._tell("model", facts, f"model  {text}")

    def _done(self, event: Event) -> None:
        response = event.payload["response"]
        if response["status"] == "failed":
            error = (response.get("status_details") or {}).get("error") or {}
            self._error = str(error.get("message") or "the server did not say why")
            self._tell("failed", {"response_id": response["id"], "message": self._error}, f"(no answer: {self._error})")
        elif response["status"] == "completed" and not response.get("output"):
            self._tell_answer("", response["id"])
        self._noting(ends="response")(event)

    def _interrupted(self, event: Event) -> None:
        for item in event.payload["items"]:
            heard_s, made_s = item["heard_ms"] / 1000, item["received_ms"] / 1000
            facts = {"response_id": item["response_id"], "heard_ms": item["heard_ms"]}
            self._tell("interrupted", facts, f"       (interrupted; heard {heard_s:.1f} s of {made_s:.1f} s)")

    def _lost(self, event: Event) -> None:
        self._tell("lost", dict(event.payload), f"({event.payload['message']}; calling again)")

    def _wrong(self, event: Event) -> None:
        error = event.payload["error"]
        self._tell("error", {"code": error.get("code"), "message": error["message"]}, f"({error['message']})")

    def _closed(self, event: Event, stop: threading.Event) -> None:
        if event.payload["code"] != 1000 and not self._is_over:
            self._reason = "the server ended the call"
            self._error = f"{self._client.host} ended the call (code {event.payload['code']})"
        stop.set()

    # -- its course -------------------------------------------------------------------------------

    def hold(self, stop: threading.Event, *, file_s: float | None) -> None:
        """Until the call is over.

        Args:
            stop: set by Ctrl-C, and when the server ends the call.
            file_s: length of what speaks; None for a microphone.
        """
        if file_s is None:
            output.say_error("speak; Ctrl-C hangs up")
            stop.wait()
        elif not stop.wait(file_s):
            deadline_s = time.monotonic() + LONGEST_S
            while not stop.is_set() and not self._is_quiet():
                if time.monotonic() > deadline_s:
                    self._reason, self._error = (
                        "nothing came",
                        f"no answer within {LONGEST_S:g} s after the end of the file",
                    )
                    break
                stop.wait(0.1)
            if not stop.is_set() and self._error is None:
                self._reason = "the file was answered"
        self._is_over = True

    def _is_quiet(self) -> bool:
        with self._changed:
            return not self._awaited | self._unheard and time.monotonic() - self._moved_s > QUIET_S

    def end(self, recording: Path | None) -> int:
        """Say how it went.

        Args:
            recording: where it is, or None.

        Returns:
            The exit status: 1 where the call failed, 130 where a file was stopped.

        Raises:
            APIError: the server ended the call, or an answer failed.
        """
        self._tell_waiting()
        falls = self._client.waterfall()
        facts: dict[str, Any] = {
            "reason": self._reason,
            "duration_s": round(time.monotonic() - self._began_s, 3),
            "recording": None if recording is None else str(recording),
            "latencies": list(output.records(falls)),
        }
        self._tell("ended", facts, "")
        if not self._options.json and len(falls):
            output.screen().line(("milliseconds from the end of your speech until the answer was", "1"))
            names = list(STEPS)
            output.table(falls.assign(**falls[names].round().astype("Int64")), STEPS)
        if not self._options.json and recording is not None:
            output.screen().line(f"recorded  {recording}")
        if self._error is not None:
            raise APIError(self._error)
        return 130 if self._options.file and self._reason == "hung up" else 0

    def _tell(self, what: str, facts: dict[str, Any], words: str) -> None:
        with self._changed:
            self._moved_s = time.monotonic()
            if self._options.json:
                output.print_json({"event": what, **facts})
                sys.stdout.flush()
            elif words:
                output.screen().line(words)
