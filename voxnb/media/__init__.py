"""Media units and the streams between them: files, recorders, devices, sockets, and the model's voice.

What needs a package of an extra imports it when it is used, and says which one is missing.
"""

from __future__ import annotations

from voxnb.media.call import Call
from voxnb.media.device import Microphone, Speaker
from voxnb.media.echo import Echo
from voxnb.media.file import AudioFile
from voxnb.media.guard import Limits, twilio_signature
from voxnb.media.listener import Listener
from voxnb.media.player import Player
from voxnb.media.recorder import Recorder
from voxnb.media.server import MediaServer
from voxnb.media.unit import MediaUnit, send_media_between
from voxnb.media.widget import WidgetUnit

MediaSocket = Call
"""A stream of a media socket, by the name that VoxEngine's users look for: there the socket is the unit."""

__all__ = [
    "AudioFile",
    "Call",
    "Echo",
    "Limits",
    "Listener",
    "MediaServer",
    "MediaSocket",
    "MediaUnit",
    "Microphone",
    "Player",
    "Recorder",
    "Speaker",
    "WidgetUnit",
    "send_media_between",
    "twilio_signature",
]
