"""Commands that take conversations elsewhere: export, backup."""

from __future__ import annotations

from typing import Any

from voxnb.cli import arguments, output


def add(commands: Any) -> None:
    """Add them to the parser."""
    p = commands.add_parser(
        "export",
        help="write a conversation to a file",
        description="Write a conversation's current path to a file. The file appears whole or not at all.",
        epilog="examples:\n  voxnb export iris iris.jsonl\n  voxnb export iris notes --format md",
    )
    p.add_argument("name", metavar="NAME", help="name or id of the conversation")
    p.add_argument("path", metavar="PATH", help="where to; the suffix says the format")
    p.add_argument("--format", metavar="F", help="jsonl (everything), csv, parquet or md; whatever the suffix")
    p.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    arguments.store_option(p)
    p.set_defaults(run=export)

    p = commands.add_parser(
        "backup",
        help="copy the store, also while it is in use",
        description="Copy the whole store to a new file, consistent also while others write to it.",
        epilog="example:\n  voxnb backup store-$(date +%F).db",
    )
    p.add_argument("path", metavar="PATH", help="the new file")
    arguments.store_option(p)
    p.set_defaults(run=backup)


def export(options: Any) -> int:
    """``voxnb export``."""
    with output.reading(options) as store:
        written = store[options.name].export(options.path, format=options.format, overwrite=options.overwrite)
    output.screen().line(str(written))
    return 0


def backup(options: Any) -> int:
    """``voxnb backup``."""
    with output.reading(options) as store:
        written = store.backup(options.path)
    output.screen().line(str(written))
    return 0
