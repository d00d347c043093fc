"""``voxnb doctor``: what works on this machine, and what mends what does not."""

from __future__ import annotations

from typing import Any

from voxnb.cli import arguments, output


def add(commands: Any) -> None:
    """Add it to the parser."""
    p = commands.add_parser(
        "doctor",
        help="look at what voxnb needs here, and say what mends what fails",
        description="Look at versions, key (yes or no), the embedded model's files, the store's folder and asyncio. What a "
        "page needs (microphone, widgets) is seen by voxnb.doctor() in a notebook. Nothing is fetched or sent. Exit "
        "status: 1 if something failed.",
        epilog="examples:\n  voxnb doctor\n  voxnb doctor --json | jq 'select(.state == \"failed\")'",
    )
    arguments.json_option(p, what="one check per line: name, state, found, cure")
    p.set_defaults(run=look)


def look(options: Any) -> int:
    """``voxnb doctor``."""
    from voxnb.notebook.doctor import doctor

    found = doctor()
    if options.json:
        for row in found.to_dict():
            output.print_json(row)
    else:
        screen = output.screen()
        for line in repr(found).split("\n"):
            screen.line(line)
    return 0 if found else 1
