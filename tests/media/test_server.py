"""A media server takes calls over real sockets, keeps strangers and floods out, and ends within a quarter of a second."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.media.ear import Ear
from tests.media.phone import Phone, VirtualPhone, dial, media_of, start_of
from voxnb.audio.formats import ULAW_8K
from voxnb.errors import AudioError, BridgeError, NotSupportedError, ParameterError
from voxnb.events import WebSocketEvents
from voxnb.media import Limits, MediaServer, MediaUnit, twilio_signature
from voxnb.media.clock import LOOP
from voxnb.media.far_door import FarDoor
from voxnb.media.guard import Guard, Rate
from voxnb.runtime import bridge as bridges

SPEECH = bytes(range(1, 161))


class Echo(MediaUnit):
    """Says what it hears."""

    def _offers(self, wanted):
        return ULAW_8K

    def _heard(self, stream, frame):
        for out in self._outgoing.values():
            out.push(frame.data)


def settled():
    """What was handed to the media loop so far is done."""
    done = threading.Event()
    LOOP.call_soon(LOOP.call_soon, done.set)
    assert done.wait(30)


def eventually(holds):
    """Wait for what another thread brings about."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(params=["loop", pytest.param("process", marks=pytest.mark.slow)])
def server(request):
    with MediaServer(bridge=request.param) as made:
        yield made


# -- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["twilio", "voximplant"])
def test_a_call_is_answered_heard_and_spoken_to(server, shape):
    calls = []

    @server.on_call
    def answer(call):
        echo = Echo()
        call.send_media_to(echo)
        echo.send_media_to(call)
        calls.append(call)
        ready.set()

    ready = threading.Event()
    phone = Phone(server.url, shape=shape)
    phone.start()
    assert ready.wait(30)
    settled()
    calls[0].statistics()  # answered after what was asked before
    for n in range(1, 11):
        phone.say(SPEECH, chunk=n)
    phone.until(lambda messages: sum(m.get("event") == "media" for m in messages) >= 10)
    assert phone.heard() == SPEECH * 10
    assert server.calls == (calls[0],)
    phone.stop()
    calls[0].wait_closed(30)
    phone.close()
    assert calls[0].remote.startswith("127.0.0.1:")


def test_calls_are_asked_for_one_after_the_other(server):
    phones = [Phone(server.url, shape="voximplant") for _ in range(3)]
    for n, phone in enumerate(phones):
        phone.start(tag=f"t{n}")
        eventually(lambda: server.statistics()["calls_taken"] == n + 1)
    seen = []
    for call in server:  # those who came before anybody asked are there too
        seen.append(call.tag)
        if len(seen) == 3:
            break
    assert seen == ["t0", "t1", "t2"]
    for phone in phones:
        phone.close()


def test_a_call_that_came_before_anybody_answered_is_answered(server):
    phone, answered = Phone(server.url), threading.Event()
    phone.start()
    eventually(lambda: server.statistics()["calls_taken"] == 1)
    server.on_call(lambda call: answered.set())
    assert answered.wait(30)
    assert not server._waiting, "and nobody who asks for calls gets it again"
    phone.close()


def test_calls_may_be_looked_at_while_one_ends():
    def ends(frame, event, _):
        if frame.f_code.co_name == "<genexpr>" and event == "call":
            steps.append(event)
            if len(steps) == 2:
                line.calls.pop("t1")

    with MediaServer() as one:
        phone, steps = Phone(one.url, shape="voximplant"), []
        for tag in ("t0", "t1"):
            phone.start(tag=tag)
        eventually(lambda: len(one.calls) == 2)
        line = one.calls[0]._line
        sys.settrace(ends)
        try:
            assert len(one.calls) == 2
        finally:
            sys.settrace(None)
        phone.close()


def test_asking_ends_when_the_server_is_closed(server):
    seen = []

    async def ask():
        async for call in server:
            seen.append(call)
            await asyncio.to_thread(server.close)

    phone = Phone(server.url)
    phone.start()
    asyncio.run(ask())
    assert len(seen) == 1
    assert list(server) == []
    assert seen[0].closed
    assert phone.wait_over() == 1001


def test_an_async_answer_may_wait_for_its_call(server):
    told = []
    over = threading.Event()

    @server.on_call
    async def answer(call):
        told.append("begun")
        await call
        told.append("ended")
        over.set()

    phone = Phone(server.url)
    phone.start()
    eventually(lambda: told)
    phone.close()
    assert over.wait(30)
    assert told == ["begun", "ended"]


def test_a_call_tells_its_events(server):
    phone = Phone(server.url)
    phone.start()
    call = next(iter(server))
    started = call.wait_for(WebSocketEvents.MediaStarted, timeout_s=30)
    closed = call.wait_for(WebSocketEvents.Close, timeout_s=30)
    phone.say(SPEECH, chunk=1)
    assert started.result().payload.encoding == "ULAW"
    phone.close()
    assert closed.result().payload.wasClean is True
    late = []
    with pytest.warns(UserWarning, match="not an event"):
        call.on("WebSocket.Nonsense", late.append)


def test_who_answers_late_is_told_that_the_caller_speaks(server):
    phone = Phone(server.url)
    phone.start()
    phone.say(SPEECH, chunk=1)
    call = next(iter(server))
    eventually(lambda: call.statistics()["received"])
    settled()
    assert call.wait_for(WebSocketEvents.MediaStarted, timeout_s=30).result().payload.encoding == "ULAW"
    phone.close()


def test_a_peer_that_vanishes_ends_its_calls(server):
    raw = dial(server.url)
    raw.send(start_of("twilio"))
    call = next(iter(server))
    raw.socket.shutdown(socket.SHUT_RDWR)
    call.wait_closed(30)
    raw.socket.close()


# -- who may come in --------------------------------------------------------------------------------


def test_a_page_may_connect_only_if_it_is_named():
    with MediaServer(origins=["https://example.com"]) as server:
        for origin in ("https://evil.example", "null", "http://example.com"):
            with pytest.raises(InvalidStatus) as caught:
                dial(server.url, origin=origin)
            assert caught.value.response.status_code == 403
        dial(server.url, origin="https://example.com").close()
        dial(server.url).close()
        assert server.statistics()["refused"] == 3


def test_on_another_address_each_call_needs_a_token_of_its_own():
    with MediaServer(host="0.0.0.0") as server:
        address = server.one_time_url("/media?x=1").replace("0.0.0.0", "127.0.0.1")
        base = server.url.replace("0.0.0.0", "127.0.0.1")
        for wrong in (base, base + "/?token=", base + "/?token=guess", base + "/?token=%F0%9F"):
            with pytest.raises(InvalidStatus) as caught:
                dial(wrong)
            assert caught.value.response.status_code == 401
        phone = Phone(address)
        phone.start()
        assert next(iter(server)).form == ULAW_8K
        phone.close()
        with pytest.raises(InvalidStatus):
            dial(address)
        stale = server.one_time_url(valid_s=-1).replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(InvalidStatus):
            dial(stale)


def test_tokens_that_nobody_uses_are_not_kept_without_end():
    guard = Guard(needs_token=True)
    first = guard.token(valid_s=99, now_s=0)
    for _ in range(2000):
        guard.token(valid_s=99, now_s=0)
    assert len(guard._tokens) <= 1000
    assert guard.refuses(f"/?token={first}", {}, now_s=1) is not None
    assert first not in repr(guard._tokens)


def test_a_token_that_is_used_up_while_another_is_made_stays_used_up():
    class Tokens(dict):
        """What is there was read, and now the call comes."""

        def items(self):
            yield from list(super().items())
            call.start()
            call.join(0.05)

    guard = Guard(needs_token=True)
    first = guard.token(valid_s=99, now_s=0)
    call = threading.Thread(target=lambda: refused.append(guard.refuses(f"/?token={first}", {}, now_s=1)))
    refused, guard._tokens = [], Tokens(guard._tokens)
    guard.token(valid_s=99, now_s=0)
    call.join(30)
    assert refused == [None]
    assert guard.refuses(f"/?token={first}", {}, now_s=1) is not None


@pytest.mark.parametrize("bridge", ["loop", "process"])
def test_a_signature_is_checked_as_the_service_writes_it(bridge, monkeypatch):
    asked = []
    monkeypatch.setattr(FarDoor, "is_signed", lambda *given: asked.append(given))
    # Twilio's documented algorithm, by openssl's command line rather than by the code under test.
    url, secret = "wss://example.com/media?x=1", "12345"
    done = subprocess.run(
        ["openssl", "dgst", "-sha1", "-hmac", secret, "-binary"], input=url.encode(), capture_output=True, check=True
    )
    import base64

    signed = base64.b64encode(done.stdout).decode()
    check = twilio_signature(secret, url="wss://example.com")
    with MediaServer(signature=check, bridge=bridge) as server:
        path = server.url + "/media?x=1"
        for headers in ({}, {"X-Twilio-Signature": "nonsense"}, {"X-Twilio-Signature": signed[:-2] + "AA"}):
            with pytest.raises(InvalidStatus):
                dial(path, additional_headers=headers)
        dial(path, additional_headers={"X-Twilio-Signature": signed}).close()
    assert asked == [], "a busy kernel is not waited for"
    assert secret not in repr(check)


@pytest.mark.parametrize("bridge", ["loop", "process"])
def test_a_signature_may_be_checked_by_an_async_function(bridge):
    async def is_known(headers, path):
        return headers.get("X-Known") == "yes"

    with MediaServer(signature=is_known, bridge=bridge) as server:
        with pytest.raises(InvalidStatus):
            dial(server.url)
        dial(server.url, additional_headers={"X-Known": "yes"}).close()


@pytest.mark.parametrize("bridge", ["loop", "process"])
def test_a_signature_that_cannot_be_checked_lets_nobody_in(bridge, capsys):
    def broken(headers, path):
        raise KeyError("X-Known")

    with MediaServer(signature=broken, bridge=bridge) as server:
        for _ in range(2):
            with pytest.raises(InvalidStatus, match="403"):
                dial(server.url)
        assert server.statistics()["refused"] == 2
    told = capsys.readouterr().err
    assert (told.count("nobody is let in"), told.count("X-Known")) == (1, 1)


@pytest.mark.slow
def test_a_server_whose_process_is_killed_says_so(capsys):
    with MediaServer(bridge="process") as server:
        waiting = concurrent.futures.ThreadPoolExecutor().submit(lambda: list(server))
        eventually(lambda: server._askers)
        os.kill(bridges._shared.pid, signal.SIGKILL)
        with pytest.raises(BridgeError, match="signal 9"):
            waiting.result(30)
        with pytest.raises(BridgeError):
            list(server)
        assert "lost" in repr(server)
    assert list(server) == []
    assert "is gone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_whose_process_is_killed_keeps_the_last_numbers():
    with MediaServer(bridge="process") as server:
        phone = Phone(server.url)
        phone.start()
        call = next(iter(server))
        for chunk in range(1, 6):
            phone.say(SPEECH, chunk=chunk)
        eventually(lambda: call._numbers.get("received") == 5)
        os.kill(bridges._shared.pid, signal.SIGKILL)
        call.wait_closed(30)
        assert call.statistics()["received"] == 5
        eventually(lambda: "lost" in repr(server))
        told = server.statistics()
        assert (told["messages"], told["calls_taken"], told["calls"], told["sockets"]) == (6, 1, 0, 0)
        phone.close()


@pytest.mark.parametrize("bridge", ["loop", pytest.param("process", marks=pytest.mark.slow)])
def test_a_header_that_comes_twice_is_refused_like_any_other(bridge, capsys):
    check = twilio_signature("12345", url="wss://example.com")
    with MediaServer(origins=["https://example.com"], bridge=bridge) as server:
        with pytest.raises(InvalidStatus, match="403"):
            dial(server.url, origin="https://example.com", additional_headers={"Origin": "https://example.com"})
        assert server.statistics()["refused"] == 1
    with MediaServer(signature=check, bridge=bridge) as server:
        twice = Headers([("X-Twilio-Signature", "one"), ("X-Twilio-Signature", "two")])
        with pytest.raises(InvalidStatus, match="403"):
            dial(server.url, additional_headers=twice)
        assert server.statistics()["refused"] == 1
    assert capsys.readouterr().err == ""


def test_it_speaks_tls_by_the_paths_of_a_certificate(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(cafile=str(certificate))
    with MediaServer(certificate=certificate, certificate_key=key) as server:
        assert server.url.startswith("wss://")
        phone = Phone(server.url, ssl=context)
        phone.start()
        assert next(iter(server)).form == ULAW_8K
        phone.close()


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="list of origins"):
        MediaServer(origins="https://example.com")
    for wrong in ("example.com", "https://example.com/page", "not a url", 5):
        with pytest.raises(ParameterError, match="is no origin"):
            MediaServer(origins=[wrong])
    with pytest.raises(ParameterError, match="without certificate"):
        MediaServer(certificate_key="key.pem")
    with pytest.raises(AudioError, match="cannot be used"):
        MediaServer(certificate=tmp_path / "none.pem")
    for wrong in ({"idle_s": 0}, {"calls": "many"}, {"sockets": None}, {"calls": float("nan")}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            Limits(**wrong)
    for wrong in (
        {"host": ""},
        {"host": None},
        {"port": 80.5},
        {"origins": 5},
        {"signature": "abc"},
        {"limits": {"calls": 1}},
    ):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            MediaServer(**wrong)
    with MediaServer() as server:
        with pytest.raises(AudioError, match="cannot listen"):
            MediaServer(port=server.port)
        for path in ("media", "/media#here", None):
            with pytest.raises(ParameterError, match="begins with '/'"):
                server.one_time_url(path)
        for valid_s in (None, float("nan")):
            with pytest.raises(ParameterError, match="expected seconds"):
                server.one_time_url(valid_s=valid_s)


def test_without_its_package_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.asyncio.server", None)
    with pytest.raises(NotSupportedError, match=r"pip install 'voxnb\[realtime\]'"):
        MediaServer()


# -- limits ---------------------------------------------------------------------------------------


def test_a_message_that_is_too_large_ends_its_socket_alone():
    with MediaServer(limits=Limits(message_bytes=10_000)) as server:
        good, bad = Phone(server.url), Phone(server.url)
        good.start()
        call = next(iter(server))
        bad.socket.send("x" * 20_000)
        assert bad.wait_over() == 1009
        assert not call.closed
        good.close()


def test_a_flood_ends_its_socket_alone():
    with MediaServer(limits=Limits(messages_per_s=50)) as server:
        good, bad = Phone(server.url), Phone(server.url)
        good.start()
        call = next(iter(server))
        with pytest.raises(ConnectionClosed):
            for _ in range(100_000):
                bad.socket.send('{"customEvent": 1}')
        assert bad.wait_over() in (1008, 1006)
        assert not call.closed
        good.close()


def test_a_rate_is_counted_over_time():
    limits = Limits(messages_per_s=10, bytes_per_s=1000)
    rate = Rate(limits, now_s=0.0)
    assert all(rate.add(10, now_s=0.0) for _ in range(20))
    assert not rate.add(10, now_s=0.0)
    assert rate.add(10, now_s=5.0)
    assert not rate.add(3000, now_s=100.0)
    assert all(rate.add(90, now_s=200 + n / 10) for n in range(1000))


def test_calls_and_sockets_have_their_limits():
    with MediaServer(limits=Limits(calls=1, sockets=2)) as server:
        one, other = Phone(server.url), Phone(server.url)
        one.start()
        eventually(lambda: server.statistics()["calls_taken"] == 1)
        other.start()
        assert other.wait_over() == 1013
        eventually(lambda: server.statistics()["sockets"] == 1)
        third = Phone(server.url)
        with pytest.raises(InvalidStatus) as caught:
            dial(server.url)
        assert caught.value.response.status_code == 503
        one.close()
        third.close()


def test_who_says_nothing_and_who_stays_too_long_is_let_go(monkeypatch):
    from voxnb.media import connection

    monkeypatch.setattr(connection, "LOOK_S", 0.02)
    with MediaServer(limits=Limits(idle_s=0.05)) as server:
        assert Phone(server.url).wait_over() == 1001
    with MediaServer(limits=Limits(session_s=0.05)) as server:
        phone = Phone(server.url)
        with pytest.raises(ConnectionClosed):
            for n in range(1_000_000):
                phone.socket.send(json.dumps({"customEvent": n}))
                time.sleep(0.001)
        assert phone.wait_over() == 1001


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\r\n" * 50, b"A" * 70_000])
def test_another_protocol_on_the_port_does_no_harm(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        try:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
        except ConnectionError:
            pass
    phone = Phone(server.url)
    phone.start()
    assert next(iter(server)).form == ULAW_8K
    phone.close()


# -- ends -----------------------------------------------------------------------------------------


def nonsense(chance):
    """A message that was valid once, or never."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return "[" * chance.randrange(1, 3000)
    if kind == 2:
        return json.dumps({"event": chance.choice(["media", "start", "stop", "mark", "dtmf", 7, None]), "media": 1})
    text = chance.choice([media_of("twilio", SPEECH, chunk=chance.randrange(1 << 40)), start_of("twilio"),
                          media_of("voximplant", SPEECH, chunk=1, tag="x" * chance.randrange(300)),
                          start_of("voximplant", encoding=chance.choice(["OPUS", "PCM16", "nothing"]),
                                   rate_hz=chance.choice([1, 8000, 44_100, "8000", -1, 1 << 70]))])  # fmt: skip
    data = bytearray(text.encode())
    for _ in range(chance.randrange(6)):
        place = chance.randrange(len(data))
        if chance.random() < 0.5:
            data[place] = chance.randrange(32, 127)
        else:
            del data[place : place + chance.randrange(20)]
        data = data or bytearray(b"{")
    return data.decode()


def test_what_a_peer_says_in_vain_is_counted(server):
    phone = Phone(server.url, shape="voximplant")
    phone.say(SPEECH, chunk=1)
    phone.start(tag="a")
    call = next(iter(server))
    phone.say(SPEECH, chunk=1, tag="b")
    for text in ("no JSON", json.dumps({"event": "media", "media": {"payload": "***", "tag": "a"}}),
                 start_of("voximplant", encoding="PCM16", rate_hz=11_111, tag="c")):  # fmt: skip
        phone.socket.send(text)
    phone.socket.send(b"binary")
    for n in range(1, 4):
        phone.say(SPEECH, chunk=n, tag="a")
    eventually(lambda: call.statistics()["unheard_ms"] == 60)
    expected = {"messages": 10, "broken": 4, "homeless": 2, "binary": 1}
    assert server.statistics().items() >= expected.items()
    phone.close()
    eventually(lambda: not server.statistics()["sockets"])
    assert server.statistics().items() >= expected.items(), "also after its end"


def test_no_message_harms_the_server_or_another_call(server, capfd):
    good = Phone(server.url)
    good.start()
    call = next(iter(server))
    echo = Echo()
    call.send_media_to(echo)
    echo.send_media_to(call)
    for seed in range(20):
        chance = random.Random(seed)
        with contextlib.suppress(ConnectionClosed), connect(server.url, open_timeout=30) as bad:
            for _ in range(100):
                bad.send(nonsense(chance))
    for n in range(1, 6):
        good.say(SPEECH, chunk=n)
    good.until(lambda messages: sum(m["event"] == "media" for m in messages) >= 5)
    assert not call.closed
    eventually(lambda: server.statistics()["sockets"] == 1)
    good.close()
    assert "was closed" not in capfd.readouterr().err


def test_closing_does_not_wait_for_a_peer_that_never_answers():
    server = MediaServer()
    raws = []
    for _ in range(5):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in raw.recv(4096)
        raws.append(raw)
    eventually(lambda: server.statistics()["sockets"] == 5)
    before = time.monotonic()
    server.close()
    # A quarter of a second on an idle machine; a peer that is waited for would take the library's 10 s.
    assert time.monotonic() - before < 5
    server.close()
    eventually(lambda: server.statistics()["sockets"] == 0)
    for raw in raws:
        raw.close()
    assert "closed" in repr(server)


def test_an_open_handshake_does_not_hold_up_the_end():
    server = MediaServer()
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    before = time.monotonic()
    server.close()
    assert time.monotonic() - before < 4
    raw.close()


def held():
    """What voxnb's own lines hold."""
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/voxnb/*")])


@pytest.mark.slow
def test_connections_leave_nothing_behind(server):
    def rounds(count):
        for _ in range(count):
            raw = dial(server.url)
            raw.send(start_of("voximplant"))
            raw.send(media_of("voximplant", SPEECH, chunk=1))
            raw.close()
        eventually(lambda: server.statistics()["sockets"] == 0)
        server._waiting.clear()
        gc.collect()
        eventually(lambda: listening() == set())  # a call is held until its listeners' thread has ended

    def listening():
        return {t.name for t in threading.enumerate() if "listeners" in t.name and "server" not in t.name}

    rounds(30)
    tracemalloc.start()
    try:
        rounds(60)
        before = held()
        rounds(1000)
        grown = sum(line.size_diff for line in held().compare_to(before, "filename"))
    finally:
        tracemalloc.stop()
    # A connection that stayed would be several kilobytes; the interpreter's own caches fill up with names meanwhile.
    assert grown < 1000 * 500
    assert server.statistics()["calls"] == 0


@pytest.mark.slow
def test_a_hundred_thousand_frames_leave_nothing_behind(clock):
    phone = VirtualPhone(clock)
    phone.send = lambda *texts: True  # and no mark comes back
    phone.say(start_of("twilio"))
    call, echo, ear = phone.calls[0], Echo(clock=clock), Ear(clock)
    ear._heard = lambda stream, frame: None
    call.send_media_to(echo)
    echo.send_media_to(call)
    call.send_media_to(ear)
    texts = [media_of("twilio", SPEECH, chunk=n) for n in range(1, 1001)]

    def run(count):
        for _ in range(count):
            for n, text in enumerate(texts, 1):
                phone.say(text)
                if n % 10 == 0:
                    clock.advance(0.2)

    run(90)
    tracemalloc.start()
    try:
        run(2)
        before = held()
        run(8)
        grown = sum(line.size_diff for line in held().compare_to(before, "filename"))
    finally:
        tracemalloc.stop()
    assert echo.streams[0].traffic.frames == 100_000
    assert grown < 4_000  # half a byte per frame
