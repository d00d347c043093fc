"""Commands that take conversations elsewhere and bring them in: export, import, merge, backup."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from voxnb.cli import arguments, output
from voxnb.errors import ParameterError, VoxnbError
from voxnb.terminal.words import in_shell

EXPORT_EPILOG = """\
examples:
  voxnb export iris iris.jsonl
  voxnb export iris lab both.html
  voxnb export --all everything.parquet
  voxnb export iris train.jsonl --format openai

formats, by the suffix of PATH or --format:
  jsonl    everything, exactly; voxnb import reads it back
  openai   fine-tuning JSONL
  csv, parquet   a row per message
  md, html       to read
What a format has no place for is listed.
"""

IMPORT_EPILOG = """\
examples:
  voxnb import conversations.json               ChatGPT's export
  voxnb import logs.db other.jsonl
  voxnb import chats.csv --columns role=author,content=body --roles Customer=user,Bot=assistant

Each conversation is stored whole or not at all; what the store holds already is recognised and not doubled. What could
not be taken is listed, with line numbers, and the exit status is 1. Ctrl-C keeps what is stored, and importing again
goes on from there.
"""


def add(commands: Any) -> None:
    """Add them to the parser."""
    p = commands.add_parser(
        "export",
        help="write conversations to a file",
        description="Write conversations to one file, which appears whole or not at all.",
        epilog=EXPORT_EPILOG,
    )
    p.add_argument("names", metavar="NAME", nargs="*", help="names or ids of the conversations")
    p.add_argument("path", metavar="PATH", help="where to; the suffix says the format")
    p.add_argument("--all", action="store_true", help="all of the store, instead of names")
    p.add_argument("--format", metavar="F", help="jsonl, openai, csv, parquet, md or html; whatever the suffix")
    p.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    arguments.json_option(p, what="one document: what was written, and what was left out")
    arguments.store_option(p)
    p.set_defaults(run=export)

    p = commands.add_parser(
        "import",
        help="bring conversations in from elsewhere",
        description="Bring conversations in: voxnb's own JSONL, OpenAI chat and fine-tuning JSONL, ChatGPT's "
        "conversations.json, LangChain's messages, the llm command's logs.db, CSV and Parquet with a row per message.",
        epilog=IMPORT_EPILOG,
    )
    p.add_argument("paths", metavar="PATH", nargs="+", help="files")
    p.add_argument("--format", metavar="F", help="how to read them; else what they look like decides")
    p.add_argument("--columns", type=arguments.pairs, action="append", metavar="OURS=THEIRS", help="of rows: where "
                   "role, content, conversation, created_at … stand; several with commas")  # fmt: skip
    p.add_argument("--roles", type=arguments.pairs, action="append", metavar="THEIRS=OURS", help="what their roles are "
                   "called here: user, assistant, system, tool")  # fmt: skip
    p.add_argument("--copy", action="store_true", help="import what is known already once more, under new ids")
    arguments.json_option(p, what="one report per file and line")
    arguments.store_option(p)
    p.set_defaults(run=bring_in, when_stopped="stopped; what was imported is kept, import it again to go on")

    p = commands.add_parser(
        "merge",
        help="unite with another store",
        description="Add what another store holds and this one does not, by global ids. The other file is only read; "
        "a conversation that went on differently in both becomes a fork. Merging again adds nothing.",
        epilog="example:\n  voxnb merge laptop.db",
    )
    p.add_argument("path", metavar="PATH", help="the other store")
    arguments.json_option(p, what="one document: what was new, and what was here")
    arguments.store_option(p)
    p.set_defaults(run=merge, when_stopped="stopped; nothing was merged")

    p = commands.add_parser(
        "backup",
        help="copy the store, also while it is in use",
        description="Copy the whole store to a new file, consistent also while others write to it.",
        epilog="example:\n  voxnb backup store-$(date +%F).db",
    )
    p.add_argument("path", metavar="PATH", help="the new file")
    arguments.json_option(p, what="one document: where the copy is")
    arguments.store_option(p)
    p.set_defaults(run=backup)


def export(options: Any) -> int:
    """``voxnb export``."""
    if bool(options.names) == options.all:
        raise ParameterError("name the conversations before the path, or say --all", name="names")
    with output.reading(options) as store:
        report = store.export_conversations(
            options.path,
            conversations=options.names or None,
            format=options.format,
            overwrite=options.overwrite,
        )
    _show(options, report)
    return 0


def bring_in(options: Any) -> int:
    """``voxnb import``: every file, whatever the others were."""
    status = 0
    with output.writing(options) as store:
        for path in options.paths:
            try:
                report = store.import_conversations(
                    path,
                    format=options.format,
                    columns=_joined(options.columns),
                    roles=_joined(options.roles),
                    copy=options.copy,
                )
            except ParameterError:
                raise
            except VoxnbError as error:
                output.say_error(f"{path}: {type(error).__name__}: {in_shell(str(error))}")
                status = 1
            else:
                _show(options, report)
                status = 1 if report.skipped else status
    return status


def _joined(given: Sequence[dict[str, str]] | None) -> dict[str, str] | None:
    return {key: value for pairs in given for key, value in pairs.items()} if given else None


def _show(options: argparse.Namespace, report: Any) -> None:
    if options.json:
        output.print_json(report.as_dict())
    else:
        output.screen().line(str(report))


def merge(options: Any) -> int:
    """``voxnb merge``."""
    with output.writing(options) as store:
        _show(options, store.merge(options.path))
    return 0


def backup(options: Any) -> int:
    """``voxnb backup``."""
    with output.reading(options) as store:
        written = str(store.backup(options.path))
    if options.json:
        output.print_json({"path": written})
    else:
        output.screen().line(written)
    return 0
