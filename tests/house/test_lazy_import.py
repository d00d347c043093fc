"""`import voxnb` is light: what is heavy comes when it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "openai", "pandas", "httpx2", "ipywidgets", "sqlite_utils", "tiktoken", "numpy",
    "IPython", "altair", "anywidget", "httpx", "markdown_it", "matplotlib", "nest_asyncio", "nh3", "PIL", "pyarrow", "pydantic",
    "tqdm", "websockets", "xllamacpp", "genai_prices",
)  # fmt: skip


def loaded_after(statement, root):
    """Top-level names in `sys.modules` of a fresh interpreter that ran `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(n.partition('.')[0] for n in sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import voxnb",
        "import voxnb; dir(voxnb); repr(voxnb); voxnb.__version__",
        "from voxnb import VoxnbError, errors",
        "from voxnb import ContextPolicy; ContextPolicy()",
    ],
)
def test_a_light_statement_loads_nothing_heavy(statement, root):
    before = loaded_after("pass", root)
    assert (loaded_after(statement, root) - before) & set(HEAVY) == set()


def test_the_check_sees_a_heavy_import(root):
    assert "sqlite_utils" in loaded_after("import sqlite_utils", root) & set(HEAVY)


def test_importing_starts_no_thread_and_prints_nothing(root):
    code = "import threading, voxnb; assert threading.active_count() == 1, threading.enumerate()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
