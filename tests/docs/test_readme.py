"""README.md runs from top to bottom, as a person would paste it: in order, in one namespace, in an empty folder."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (no-run|output)(?:: ([^\n]*?))? -->\n+$")
NO_RUN_AT_MOST = 2

# As a notebook cell runs: inside a running event loop, `await` allowed at the top, the last expression shown.
DRIVER = r"""
import ast, asyncio, contextlib, inspect, io, json, pathlib, sys

readme, blocks = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
space = {"__name__": "__main__"}

async def run(block):
    tree = ast.parse("\n" * block["line"] + block["source"], readme)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        shown = ast.Name("_shown", ast.Store(), lineno=last.lineno, col_offset=0, end_lineno=last.lineno, end_col_offset=0)
        tree.body[-1] = ast.copy_location(ast.Assign([shown], last.value), last)
    code = compile(ast.fix_missing_locations(tree), readme, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    space["_shown"] = None
    pending = eval(code, space)
    if inspect.iscoroutine(pending):
        await pending
    if space["_shown"] is not None:
        print(repr(space["_shown"]))

async def main():
    for block in blocks:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                await run(block)
        finally:
            print(f"--- README.md:{block['line']}\n{said.getvalue()}", flush=True)
        if block["output"] is not None and said.getvalue().strip() != block["output"].strip():
            sys.exit(f"README.md:{block['line']} says its output is\n{block['output']}")

asyncio.run(main())
"""


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    source: str
    mark: str | None
    reason: str | None


def read_blocks(text):
    out = []
    for fence in FENCE.finditer(text):
        before = MARK.search(text, 0, fence.start())
        marked = before is not None and before.end() == fence.start()
        out.append(
            Block(
                line=text.count("\n", 0, fence.start()) + 1,
                language=fence[1],
                source=fence[2],
                mark=before[1] if marked else None,
                reason=before[2] if marked else None,
            )
        )
    return out


def runnable(blocks):
    """The blocks to run, each with the output that the README says it has, or None."""
    out = []
    for block in blocks:
        if block.language == "python" and block.mark != "no-run":
            out.append({"line": block.line, "source": block.source, "output": None})
        elif block.mark == "output":
            out[-1]["output"] = block.source
    return out


BLOCKS = read_blocks(README.read_text(encoding="utf-8"))
PYTHON = [b for b in BLOCKS if b.language == "python"]


def test_there_is_a_tour():
    assert len(runnable(BLOCKS)) >= 8


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: f"line-{b.line}")
def test_a_block_is_python(block):
    compile(block.source, f"README.md:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_blocks_are_left_out_only_where_a_key_is_needed():
    left_out = [b for b in PYTHON if b.mark == "no-run"]
    assert len(left_out) <= NO_RUN_AT_MOST
    assert all(b.reason and "key" in b.reason for b in left_out)


def run(blocks, folder, *, timeout_s):
    script, data = folder / "driver.py", folder / "blocks.json"
    script.write_text(DRIVER, encoding="utf-8")
    data.write_text(json.dumps(blocks), encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "VOXNB_STORE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-W", "error", script, README, data],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.local
@pytest.mark.timeout(900)
def test_the_tour_runs_from_top_to_bottom(tmp_path):
    done = run(runnable(BLOCKS), tmp_path, timeout_s=840)
    assert done.returncode == 0, done.stdout


def test_the_runner_sees_a_block_that_fails(tmp_path):
    done = run([{"line": 7, "source": "x = 1\n1 / 0\n", "output": None}], tmp_path, timeout_s=60)
    assert done.returncode != 0
    assert "README.md" in done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_the_runner_keeps_names_awaits_and_compares_outputs(tmp_path):
    blocks = [
        {"line": 1, "source": "import asyncio\nx = await asyncio.sleep(0, 41)\n", "output": None},
        {"line": 5, "source": "x + 1\n", "output": "42\n"},
    ]
    done = run(blocks, tmp_path, timeout_s=60)
    assert done.returncode == 0, done.stdout
    (again := tmp_path / "again").mkdir()
    blocks[1]["output"] = "43\n"
    assert run(blocks, again, timeout_s=60).returncode != 0


def test_a_mark_belongs_to_the_block_right_below_it():
    text = "<!-- no-run: needs a key -->\n```python\na\n```\n\n```python\nb\n```\n\n<!-- output -->\n```text\nc\n```\n"
    blocks = read_blocks(text)
    assert [(b.language, b.mark) for b in blocks] == [("python", "no-run"), ("python", None), ("text", "output")]
    assert runnable(blocks) == [{"line": 6, "source": "b\n", "output": "c\n"}]
