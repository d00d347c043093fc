"""Imports point down, nothing goes round, and the one way up is a table."""

from __future__ import annotations

import importlib
from graphlib import CycleError, TopologicalSorter

# Lowest first. A module may import from its own room, from rooms of lower lines, and (shells only) from a room of its
# own line as long as that room does not import back.
LINES: tuple[tuple[str, ...], ...] = (
    ("errors", "events", "params", "messages", "usage"),
    ("wire", "memory", "audio", "evidence"),
    ("runtime",),
    ("taping",),
    ("store",),
    ("clients", "media"),
    ("notebook", "terminal", "local", "lab"),
    ("testing", "voxengine", "demo", "cli"),
    ("voxnb", "__main__"),
)
HEIGHT = {room: height for height, line in enumerate(LINES) for room in line}
SPINE, PURE = LINES[0], LINES[1]

DOOR = "voxnb.runtime.config"
UPWARD = {
    "call_widget": "voxnb.notebook.call_widget:CallWidget",
    "chat_widget": "voxnb.notebook.chat_widget:ChatWidget",
    "draw_tables": "voxnb.notebook.frame_html:install",
    "event_table": "voxnb.store.tables:event_table",
    "framed": "voxnb.notebook.render:framed",
    "live_turn": "voxnb.notebook.live:live_turn",
    "local": "voxnb.local.model:serve_default",
    "local_model": "voxnb.local.model:default_model",
    "local_voice": "voxnb.local.voice:serve_default",
    "plot_folds": "voxnb.notebook.plots:plot_folds",
    "plot_latency": "voxnb.notebook.plots:plot_latency",
    "plot_tokens": "voxnb.notebook.plots:plot_tokens",
    "safe_html": "voxnb.notebook.render:markdown_html",
    "store_widget": "voxnb.notebook.store_widget:StoreWidget",
    "show_turn": "voxnb.notebook.show:show_turn",
    "show_reply": "voxnb.notebook.render:reply_html",
    "table_html": "voxnb.notebook.frame_html:table_html",
}
# The two tables that import by a name they hold; everything else says what it imports.
BY_NAME = {DOOR, "voxnb", "voxnb.runtime.packages"}


def ours(imports):
    return [i for i in imports if i.target.split(".")[0] == "voxnb" and i.importer != i.target]


def room(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def through_the_door(found):
    """The one allowed way up: `voxnb.runtime.config`, imported on call."""
    return found.target == DOOR and found.kind == "function" and room(found.importer) not in PURE


def cycle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " → ".join(error.args[1])
    return None


def graph_of(pairs):
    graph: dict[str, set[str]] = {}
    for importer, target in pairs:
        if importer != target:
            graph.setdefault(importer, set()).add(target)
    return graph


def test_every_module_has_a_place_in_the_house(modules):
    assert {m.name for m in modules.values() if m.room not in HEIGHT} == set(), "say in LINES where it belongs"


def test_imports_point_down(imports):
    upward = [
        str(i)
        for i in ours(imports)
        if HEIGHT[room(i.target)] > HEIGHT[room(i.importer)] and not through_the_door(i) and i.names != ("__version__",)
    ]
    assert upward == []


def test_pure_rooms_do_not_import_each_other(imports):
    sideways = [
        str(i)
        for i in ours(imports)
        if room(i.importer) in PURE and room(i.target) in PURE and room(i.importer) != room(i.target)
    ]
    assert sideways == []


def test_rooms_of_one_line_never_import_each_other_both_ways(imports):
    pairs = [(room(i.importer), room(i.target)) for i in ours(imports) if not through_the_door(i)]
    assert cycle(graph_of(p for p in pairs if p[1] != "voxnb")) is None


def test_no_module_imports_itself_by_a_detour(imports):
    pairs = [(i.importer, i.target) for i in ours(imports) if i.kind != "typing" and i.names != ("__version__",)]
    assert cycle(graph_of(pairs)) is None


def test_the_door_upwards_knows_nothing_but_its_table(modules):
    known = {i.target for i in ours(modules[DOOR].imports)}
    assert {room(t) for t in known} <= {*SPINE, "runtime"}


def test_only_the_two_tables_import_by_name(imports):
    blind = [str(i) for i in imports if i.target == "?" and i.importer not in BY_NAME]
    assert blind == []


def test_the_table_of_ways_up_is_the_one_listed_here():
    from voxnb.runtime import config

    assert dict(config.UPWARD) == UPWARD


def test_every_way_up_ends_at_what_it_names():
    from voxnb.runtime import config

    for name, address in UPWARD.items():
        module, _, attribute = address.partition(":")
        found = config.load(name)
        assert found is getattr(importlib.import_module(module), attribute), name


def test_a_detour_would_be_seen():
    assert cycle(graph_of([("a", "b"), ("b", "c"), ("c", "a")])) is not None
    assert cycle(graph_of([("a", "b"), ("b", "c"), ("a", "c")])) is None
