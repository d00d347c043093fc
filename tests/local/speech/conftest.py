"""Speech engines for the tests: loaded once, if they are installed."""

from __future__ import annotations

import pytest

from voxnb.errors import LocalModelError
from voxnb.local.speech import SpeechEngines, check_packages


@pytest.fixture(scope="session")
def engines():
    """Ears and a voice."""
    try:
        check_packages()
    except LocalModelError as error:
        pytest.skip(str(error))
    with SpeechEngines() as loaded:
        yield loaded
