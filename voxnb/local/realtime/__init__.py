"""A Realtime server of your own: the GA protocol on a loopback port, without a model or a key.

It refuses what the service refuses, in its words; keeps its order of events; speaks faster than its speech sounds; and
really forgets what is truncated. It is the far end of voxnb's own tests, and what a client without a key talks to.

>>> from voxnb.local.realtime import RealtimeServer, Script
>>> with RealtimeServer(Script(["Good morning.", "Good bye."])) as server:
...     server.sessions
[]
"""

from __future__ import annotations

from voxnb.local.realtime.answer import Call, Ended, Gone, NextItem, Raw, RemoteCall, Speech, Stuck, Wait
from voxnb.local.realtime.brain import Brain, Echo, Script
from voxnb.local.realtime.chaos import Chaos
from voxnb.local.realtime.manner import Manner
from voxnb.local.realtime.order import Order, problems
from voxnb.local.realtime.recording import Recording
from voxnb.local.realtime.rehearsal import Rehearsal
from voxnb.local.realtime.server import RealtimeServer
from voxnb.local.realtime.session import Session
from voxnb.local.realtime.sound import tone
from voxnb.local.realtime.view import Heard, View

__all__ = [
    "Brain",
    "Call",
    "Chaos",
    "Echo",
    "Ended",
    "Gone",
    "Heard",
    "Manner",
    "NextItem",
    "Order",
    "Raw",
    "RealtimeServer",
    "Recording",
    "Rehearsal",
    "RemoteCall",
    "Script",
    "Session",
    "Speech",
    "Stuck",
    "View",
    "Wait",
    "problems",
    "tone",
]
