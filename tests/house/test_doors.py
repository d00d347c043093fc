"""One door per outside thing: who may name which package."""

from __future__ import annotations

import pytest

# package → the modules, or rooms (ending in a dot), that may import it
DOORS: dict[str, tuple[str, ...]] = {
    "openai": ("voxnb.clients.sdk",),
    "httpx2": ("voxnb.clients.sdk",),
    "httpx": ("voxnb.clients.sdk",),
    "sqlite3": ("voxnb.store.",),
    "sqlite_utils": ("voxnb.store.",),
    "websockets": ("voxnb.clients.", "voxnb.media.", "voxnb.local."),
    "nest_asyncio": ("voxnb.runtime.nested",),
    "nest_asyncio2": ("voxnb.runtime.nested",),
    "tiktoken": ("voxnb.runtime.encodings",),
    "genai_prices": ("voxnb.clients.price",),
    "pydantic": ("voxnb.clients.tools.schema",),
    "xllamacpp": ("voxnb.local.",),
    "pocketsphinx": ("voxnb.local.",),
    "hibari": ("voxnb.local.",),
    "webrtcvad": ("voxnb.local.",),
    "ipywidgets": ("voxnb.notebook.",),
    "anywidget": ("voxnb.notebook.",),
    "prompt_toolkit": ("voxnb.terminal.prompt",),
}
IN_USE = ("openai", "pydantic", "sqlite3", "sqlite_utils", "tiktoken", "nest_asyncio", "nest_asyncio2")


def may(importer, doors):
    return any(importer == d or (d.endswith(".") and f"{importer}.".startswith(d)) for d in doors)


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_named_only_at_its_door(package, imports):
    named = [str(i) for i in imports if i.target.split(".")[0] == package and not may(i.importer, DOORS[package])]
    assert named == []


@pytest.mark.parametrize("package", IN_USE)
def test_the_door_is_used(package, imports):
    assert [i for i in imports if i.target.split(".")[0] == package], f"{package} is imported nowhere: drop its door"


def test_a_room_is_a_door_with_all_its_modules():
    assert may("voxnb.store.schema", ("voxnb.store.",))
    assert may("voxnb.store", ("voxnb.store.",))
    assert not may("voxnb.storeroom", ("voxnb.store.",))
    assert not may("voxnb.clients.sdk_extra", ("voxnb.clients.sdk",))
