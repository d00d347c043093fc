"""What every test gets: no key and no setting from outside, a default store of its own, one hypothesis profile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
FOREIGN = ("OPENAI_", "AZURE_OPENAI_", "VOXNB_")
# A person may point the tests at a model file of theirs; nothing else may come in.
KEPT = frozenset({"VOXNB_LOCAL_MODEL"})

# A shared machine has slow moments: examples have no deadline, whole tests have one (`timeout` in pyproject.toml).
settings.register_profile(
    "voxnb", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], print_blob=True
)
settings.register_profile("ci", settings.get_profile("voxnb"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "voxnb")

# Whatever a shell puts into the background ignores interrupts, and so does all that it starts; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away keys, addresses and settings, and put the default store where the test ends with it."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "default-store.db"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT
