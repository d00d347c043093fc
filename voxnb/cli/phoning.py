"""``voxnb media-serve``: a media server in the foreground, which answers calls and records them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voxnb.cli import arguments, output
from voxnb.cli.serving import asked_to_stop
from voxnb.errors import AudioError, ParameterError

LAST_S: Final = 2.0
"""How long recordings may take to be written at the end."""

if TYPE_CHECKING:
    from voxnb.media import Call, MediaServer


def add(commands: Any) -> None:
    """Add it to the parser."""
    p = commands.add_parser(
        "media-serve",
        help="take calls from a telephone service",
        description="Listen for media streams in Voximplant's or Twilio's messages, until Ctrl-C. Each call hears a file, or "
        "itself, and may be recorded. Listens on this machine alone; on another address each call needs an address of its "
        "own, of which --addresses prints some.",
        epilog="examples:\n  voxnb media-serve --port 8081 --echo --record calls\n"
        "  voxnb media-serve --play greeting.wav\n"
        "  voxnb media-serve --host 0.0.0.0 --certificate cert.pem --certificate-key key.pem --addresses 5",
    )
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    p.add_argument("--port", type=arguments.port, default=0, metavar="N", help="(default: a free one)")
    answer = p.add_mutually_exclusive_group()
    answer.add_argument("--echo", action="store_true", help="let callers hear themselves")
    answer.add_argument("--play", metavar="FILE", help="let callers hear an audio file, then hang up")
    p.add_argument("--record", metavar="DIR", help="record each call to a WAV file: caller left, answer right")
    p.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="a web page that may connect; repeatable"
    )
    p.add_argument("--certificate", metavar="PEM", help="certificate chain, for wss addresses")
    p.add_argument("--certificate-key", metavar="PEM", help="its key, if not in the same file")
    p.add_argument(
        "--addresses", type=arguments.count, metavar="N", help="print N addresses, each good for one call, soon"
    )
    arguments.bridge_option(p)
    arguments.json_option(p, what="one document with url and addresses, then one per event of a call")
    p.set_defaults(run=serve)


def serve(options: Any) -> int:
    """``voxnb media-serve``."""
    from voxnb.media import AudioFile, MediaServer
    from voxnb.media.guard import MOST_TOKENS

    if (options.addresses or 0) > MOST_TOKENS:
        raise ParameterError(
            f"--addresses {options.addresses}: at most {MOST_TOKENS} are good at once", name="addresses"
        )
    if options.play is not None:
        AudioFile(options.play).close()  # what cannot be played is told before the first call
    if options.record is not None:
        _make_folder(options.record)  # nor kept
    with MediaServer(
        host=options.host,
        port=options.port,
        origins=options.origin,
        certificate=options.certificate,
        certificate_key=options.certificate_key,
        bridge=options.bridge,
    ) as server:
        desk = _Desk(options)
        server.on_call(desk.answer)
        with asked_to_stop() as stop:
            _say(server, options)
            stop.wait()
        server.close()
        desk.close()
    return 0


def _make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"no call can be recorded in {path!r}: {error}", path=path) from error


def _say(server: MediaServer, options: Any) -> None:
    from voxnb.media.server import VALID_S

    wanted = options.addresses or (1 if server.needs_token else 0)
    addresses = [server.one_time_url() for _ in range(wanted)]
    if options.json:
        output.print_json({"url": server.url, "addresses": addresses})
        sys.stdout.flush()
        return
    screen = output.screen()
    screen.line(f"listening  {server.url}")
    for address in addresses:
        screen.line(f"one call   {address}")
    good = f"each address is good for one call within {VALID_S / 60:g} minutes; " if addresses else ""
    output.say_error(f"serving; {good}Ctrl-C stops it")


class _Desk:
    """Who answers.

    Args:
        options: of the command line.
    """

    def __init__(self, options: Any) -> None:
        self._options = options
        self._changed = threading.Condition()
        self._open = 0

    async def answer(self, call: Call) -> None:
        """Take a call from its start to its end; each in its own task."""
        with self._changed:
            self._open += 1
        try:
            await self._take(call)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    async def _take(self, call: Call) -> None:
        from voxnb.media import AudioFile, Echo, Recorder

        options = self._options
        self._tell(call, "began", {"encoding": call.form.encoding, "custom_parameters": call.custom_parameters})
        recorder = Recorder(Path(options.record) / f"{call.id}.wav") if options.record else None
        voice = AudioFile(options.play) if options.play else Echo() if options.echo else None
        if recorder is not None:
            call.send_media_to(recorder, tag="left")
        if voice is not None:
            if isinstance(voice, Echo):
                call.send_media_to(voice)
            if recorder is not None:
                voice.send_media_to(recorder, tag="right")
            voice.send_media_to(call)
        if isinstance(voice, AudioFile):
            await voice
            voice.close()
            call.close()
        await call
        facts: dict[str, Any] = call.statistics()
        if recorder is not None:
            facts["recording"] = str(recorder.close())
        self._tell(call, "ended", facts)

    def close(self) -> None:
        """Wait until the calls that the end of the server has ended are told and their recordings written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout=LAST_S)

    def _tell(self, call: Call, what: str, facts: dict[str, Any]) -> None:
        with self._changed:
            if self._options.json:
                output.print_json({"event": what, "call": call.id, "tag": call.tag, "remote": call.remote, **facts})
                sys.stdout.flush()
                return
            told = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
            tag = f" {call.tag!r}" if call.tag else ""
            output.screen().line(f"{call.id}{tag} from {call.remote} {what}{': ' if told else ''}{told}")
