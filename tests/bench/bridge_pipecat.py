"""pipecat as a bridge for `bench_bridge.py`: its Twilio serializer, its realtime service, nothing else in its pipeline."""

from __future__ import annotations

import json
import socket
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

logger.remove()
app = FastAPI()


@app.websocket("/")
async def call(phone: WebSocket):
    """One call, one pipeline."""
    await phone.accept()
    await phone.receive_text()
    start = json.loads(await phone.receive_text())["start"]
    serializer = TwilioFrameSerializer(
        stream_sid=start["streamSid"],
        call_sid=start["callSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket=phone,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
        ),
    )
    properties = events.SessionProperties(
        audio=events.AudioConfiguration(input=events.AudioInput(turn_detection=False), output=events.AudioOutput())
    )
    model = OpenAIRealtimeLLMService(
        api_key="sk-bench",
        base_url=sys.argv[1],
        settings=OpenAIRealtimeLLMService.Settings(model="bench", session_properties=properties),
    )
    task = PipelineTask(
        Pipeline([transport.input(), model, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=24000, audio_out_sample_rate=24000),
        cancel_on_idle_timeout=False,
    )
    await PipelineRunner(handle_sigint=False).run(task)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"ws://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
