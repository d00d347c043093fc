"""A client of a Realtime server, as plain as can be."""

from __future__ import annotations

import asyncio
import base64
import json

from websockets.asyncio.client import connect

from voxnb.local.realtime import tone

LIMIT_S = 20.0


class Line:
    """A client of a server, as plain as can be."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.events = []

    async def send(self, kind, **fields):
        await self.websocket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind):
        async with asyncio.timeout(LIMIT_S):
            while True:
                event = json.loads(await self.websocket.recv())
                self.events.append(event)
                if event["type"] == kind:
                    return event

    async def say(self, text):
        pcm = bytes(48 * 300) + tone(text) + bytes(48 * 300)
        for start in range(0, len(pcm), 4_800):
            piece = base64.b64encode(pcm[start : start + 4_800]).decode()
            await self.send("input_audio_buffer.append", audio=piece)


def talk(server, scene, *, query="?model=gpt-realtime", key=None):
    """Run a scene against a server: what it returns."""

    async def run():
        address = server.base_url.replace("http", "ws", 1) + "/realtime" + query
        headers = {"Authorization": f"Bearer {key or server.api_key}"}
        async with connect(address, additional_headers=headers, max_size=2**24, compression=None) as websocket:
            return await scene(Line(websocket))

    return asyncio.run(run())


async def one_turn(line):
    await line.until("session.created")
    await line.say("Hello there")
    done = await line.until("response.done")
    return done["response"]["output"][0]["content"][0]["transcript"]
