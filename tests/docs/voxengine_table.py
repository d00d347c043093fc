"""README's section on VoxEngine's API, made from the code.

python tests/docs/voxengine_table.py            writes it anew
python tests/docs/voxengine_table.py --check    says whether it is up to date (exit code 1: no)
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from voxnb import params, voxengine  # noqa: E402 - found by the line above where voxnb is not installed
from voxnb.events import NAMESPACES  # noqa: E402
from voxnb.voxengine.names import BETA_RENAMES, METHODS, PARAMETERS  # noqa: E402

BEGIN, END = "<!-- voxengine: made by tests/docs/voxengine_table.py -->", "<!-- voxengine: end -->"
REGENERATE = "run: python tests/docs/voxengine_table.py"

SHORT = {"ChatCompletionsAPIClient": "chat", "ResponsesAPIClient": "responses", "RealtimeAPIClient": "realtime"}
CLASSES = {
    "ChatCompletionsAPIClient": "ChatParameters",
    "RealtimeAPIClient": "RealtimeParameters",
    "ResponsesAPIClient": "ResponsesParameters",
}
SEED = {name: space for name, space in NAMESPACES.items() if name.startswith("OpenAI.")}


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def folded(title, *parts):
    """What is shown on a click."""
    return "\n\n".join([f"<details><summary>{title}</summary>", *parts, "</details>"])


def who(names):
    """``chat, responses, realtime``."""
    return ", ".join(SHORT[n] for n in names)


def signature(name, method):
    """A method as it is called here, without types."""
    found = inspect.signature(getattr(getattr(voxengine.OpenAI, name), method.voxnb))
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in list(found.parameters.values())[1:]]
    return f"`{method.voxnb}{found.replace(parameters=parameters, return_annotation=inspect.Signature.empty)}`"


def overview():
    """What stands in a scenario → what it is here."""
    rows = [
        ("`require(Modules.OpenAI)`", "`from voxnb.voxengine import OpenAI, …`; `require` and `Modules` do nothing")
    ]
    for name in METHODS:
        factory = f"`OpenAI.create{name}({{…}})`"
        chat = ", or `voxnb.chat(…)`, which remembers" if name == "ChatCompletionsAPIClient" else ""
        rows.append((factory, f"`await OpenAI.create{name}({{…}})`{chat}"))
        rows.append((f"`OpenAI.{name}`", f"`voxnb.{name}`"))
    rows.append(("`OpenAI.RealtimeAPIClientType`", "the same constants"))
    rows.append(
        (
            "`OpenAI.Beta.createRealtimeAPIClient(…)`",
            "raises `NotSupportedError` with what each name is called now: the service refuses Beta",
        )
    )
    for name, space in SEED.items():
        made = "; constants alone: the service refuses Beta" if space.__name__.startswith("Beta") else ""
        rows.append((f"`{name}` ({len(space)})", f"the same; `{name}.table()` lists them{made}"))
    rows += [
        (
            "`event.name`, `.client`, `.data.customEvent`, `.data.payload`",
            "the same; `event.payload` is short for the last",
        ),
        ("`VoxEngine.terminate()`", "closes the clients that the factories made; the kernel goes on"),
        ("`VoxEngine.sendMediaBetween(unit1, unit2)`", "the same"),
        (
            "`SendMediaParameters`, `ClearMediaBufferParameters`",
            "keywords `tag`, `encoding`, `custom_parameters`, or a dict in VoxEngine's spelling",
        ),
        ("`WebSocketMediaInfo`", "`event.payload.mediaInfo.duration`; beside it `utterance_s`"),
        ("`Logger.write(text)`", "writes a line to the cell"),
        ("`WebSocketAudioEncoding`", "the same constants"),
    ]
    return table(("VoxEngine", "voxnb"), rows)


def methods():
    """One row per method, for all the classes that have it."""
    owners = {}
    for name, known in METHODS.items():
        for method in known:
            owners.setdefault(method, []).append(name)
    rows = []
    for method, names in owners.items():
        rows.append((f"`{method.voxengine}({method.parameters})`", who(names), signature(names[0], method)))
    return table(("VoxEngine", "client", "voxnb"), rows)


def parameters():
    """One row per parameter and documented default, for all the factories that take it."""
    owners = {}
    for name, known in PARAMETERS.items():
        for parameter in known:
            owners.setdefault(parameter, []).append(name)
    rows = []
    for parameter, names in owners.items():
        ours, cls = params.snake_case(parameter.voxengine), getattr(params, CLASSES[names[0]])
        default = params.defaults(cls)[ours]
        default = f"`{getattr(default, 'name', None) or repr(default)}`"
        line = params.documentation(cls)[ours].replace("``", "`")
        stated = parameter.default if parameter.default in ("required", "none") else f"`{parameter.default}`"
        rows.append((f"`{parameter.voxengine}`", who(names), stated, f"`{ours}`", default, line))
    return table(("VoxEngine", "client", "its default", "voxnb", "default", "what"), rows)


def events():
    """Every constant, namespace by namespace."""
    return [
        f"`{name}`, as the value `{next(iter(space)).value.rpartition('.')[0]}.…`:\n"
        + textwrap.fill(", ".join(event.name for event in space), 120, break_long_words=False, break_on_hyphens=False)
        for name, space in SEED.items()
    ]


def section():
    """The whole section, between its two marks."""
    renames = table(
        ("`OpenAI.Beta`", "now"), [(f"`{r.beta}`", f"`{r.now}`" if r.now else "gone") for r in BETA_RENAMES]
    )
    return "\n\n".join(
        [
            BEGIN,
            "Everything takes both spellings.",
            overview(),
            folded("Every method", methods()),
            folded("Every parameter and default", parameters()),
            folded(f"Every event ({sum(map(len, SEED.values()))})", *events()),
            folded("Beta names and what they are called now", renames),
            END,
        ]
    )


def written(readme):
    """README's text with the section of now.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    found = re.findall(f"{re.escape(BEGIN)}.*?{re.escape(END)}", readme, re.DOTALL)
    if len(found) != 1 or readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md must have {BEGIN} and {END} once each, in this order")
    return readme.replace(found[0], section())


def main(arguments=None):
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where it is out of date")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="another file")
    options = parser.parse_args(arguments)
    old = options.readme.read_text(encoding="utf-8")
    new = written(old)
    if old == new:
        print("up to date")
        return 0
    if options.check:
        print(f"{options.readme.name} is out of date; {REGENERATE}")
        return 1
    options.readme.write_text(new, encoding="utf-8")
    print("written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
