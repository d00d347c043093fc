"""`voxnb.doctor()`: each failure has a line that mends it, and nothing of a key is ever in it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import pytest

import voxnb
from voxnb.notebook import checks
from voxnb.notebook.checks import FAILED, NOTE, OK, SKIPPED
from voxnb.notebook.doctor import Diagnosis
from voxnb.notebook.probe import Page

GOOD = Page(
    application="JupyterLab 4.6.6",
    secure=True,
    devices=True,
    worklet=True,
    allowed=True,
    permission="prompt",
    beside=True,
    sent=True,
    intact=True,
    round_trip_ms=42.4,
)
KEY = "sk-proj-0123456789abcdef"


def on_page(**changes):
    return {check.name: check for check in checks.page_checks(replace(GOOD, **changes), asked=True)}


def test_a_good_page_passes_everything():
    found = on_page()
    assert {check.state for check in found.values()} == {OK}
    assert "42 ms" in found["buffers"].found
    assert found["microphone"].found == "the browser will ask"


@pytest.mark.parametrize(
    ("changes", "name", "state", "cure"),
    [
        ({"secure": False}, "secure context", FAILED, "ssh -L"),
        ({"secure": False}, "microphone", FAILED, "secure"),
        ({"devices": False}, "microphone", FAILED, "VS Code"),
        ({"allowed": False}, "microphone", FAILED, "allow="),
        ({"worklet": False}, "microphone", FAILED, "current"),
        ({"permission": "denied"}, "microphone", FAILED, "browser's settings"),
        ({"beside": False}, "subshell", NOTE, "ipykernel>=7"),
        ({"sent": False}, "buffers", FAILED, "binary"),
        ({"intact": False}, "buffers", FAILED, "binary"),
        ({"intact": None, "round_trip_ms": None}, "buffers", NOTE, "again"),
        ({"round_trip_ms": 2500.0}, "buffers", NOTE, "stutter"),
    ],
)
def test_what_a_page_lacks_is_named_with_its_cure(changes, name, state, cure):
    check = on_page(**changes)[name]
    assert check.state == state
    assert cure in check.cure
    assert "\n" not in check.cure


def test_a_page_that_does_not_answer_is_told_from_no_page_at_all():
    silent = list(checks.page_checks(None, asked=True))
    assert (silent[0].state, "anywidget" in silent[0].cure) == (NOTE, True)
    assert {check.state for check in silent[1:]} == {SKIPPED}
    (none,) = checks.page_checks(None, asked=False)
    assert none.state == SKIPPED


@pytest.mark.parametrize("key", [KEY, f" {KEY}\n", f"{KEY} and a blank", "sk-ü", ""])
def test_of_a_key_nothing_is_said_but_that_it_is_there(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    found = voxnb.doctor()
    shown = repr(found) + found._repr_html_() + json.dumps(found.to_dict()) + found.df.to_string()
    assert found["key"].found.partition(" ")[0] == ("yes" if key else "no")
    for part in (KEY, KEY[:7], KEY[-4:], "sk-ü"):
        assert part not in shown


def test_a_key_that_no_header_can_carry_fails_before_the_first_request(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    found = voxnb.doctor()
    assert not found
    assert [check.name for check in found.problems] == ["key"]
    assert "position 3" in found["key"].cure


def test_a_store_that_cannot_be_written_fails_and_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "deep" / "s.db"))
    assert checks.write_access().state == OK
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "s.db", tmp_path):
        monkeypatch.setenv("VOXNB_STORE", str(place))
        check = checks.write_access()
        assert (check.state, "VOXNB_STORE" in check.cure) == (FAILED, True)
    monkeypatch.setenv("VOXNB_STORE", ":memory:")
    assert checks.write_access().found == "in memory (VOXNB_STORE)"


def test_the_embedded_model_is_looked_for_and_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("VOXNB_CACHE", str(tmp_path))
    monkeypatch.delenv("VOXNB_LOCAL_MODEL", raising=False)
    check = checks.model_cache()
    assert (check.state, "93 MB" in check.cure) == (NOTE, True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("VOXNB_LOCAL_MODEL", str(tmp_path / "none.gguf"))
    assert checks.model_cache().state == FAILED
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "voxnb[local]" in checks.model_cache().cure


def test_patches_of_asyncio_are_named(monkeypatch):
    assert checks.nested_loops().state == OK
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
    assert (checks.nested_loops().state, "nest-asyncio2" in checks.nested_loops().cure) == (NOTE, True)
    monkeypatch.setattr("voxnb.notebook.checks.OLDER_BREAKS_AT", (3, 0))
    assert checks.nested_loops().state == FAILED
    monkeypatch.setattr(asyncio, "_nest_asyncio2", True, raising=False)
    assert checks.nested_loops().found == "patched by nest_asyncio2"


def test_a_package_that_is_too_old_or_missing_is_named_as_pip_takes_it(monkeypatch):
    assert checks.versions().state == OK
    real = checks.version
    monkeypatch.setattr(checks, "version", lambda name: {"openai": "1.2.3", "nh3": None}.get(name, real(name)))
    check = checks.versions()
    assert check.state == FAILED
    assert re.fullmatch(r"pip install --upgrade 'nh3>=[\d.]+' 'openai>=[\d.]+'", check.cure)


def test_it_shows_itself_without_script_or_style_whatever_a_path_is_called():
    bad = checks.Check("store", FAILED, "<img src=x onerror=alert(1)>", "<script>alert(2)</script>")
    found = Diagnosis((bad,))
    assert set(re.findall(r"<[^>]*>", found._repr_html_())) <= {
        f"<{end}{tag}>" for tag in ("p", "ul", "li", "em", "strong", "br") for end in ("", "/")
    }
    assert "&lt;script&gt;" in found._repr_html_()
    assert "1 of 1 checks failed" in repr(found)
    assert not found
    assert found._ipython_key_completions_() == ["store"]
