"""What ``import voxnb`` costs in a fresh interpreter, and which heavy modules it loads.

    python tests/bench/bench_import.py

The targets: at most 30 ms beyond an interpreter that imports nothing, and none of the heavy modules.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

HEAVY = (
    "openai",
    "httpx2",
    "httpx",
    "pandas",
    "numpy",
    "ipywidgets",
    "IPython",
    "sqlite_utils",
    "tiktoken",
    "xllamacpp",
)
TARGET_MS = 30.0
SHOW = f"import sys, voxnb; print(*[m for m in {HEAVY!r} if m in sys.modules]); print(len(sys.modules))"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def timed_ms(code: str) -> float:
    """A fresh interpreter from start to end, in milliseconds."""
    began = time.perf_counter()
    run(code)
    return (time.perf_counter() - began) * 1e3


def main() -> int:
    """Run, print, and end with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="interpreters of each kind")
    given = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    heavy, modules = run(SHOW).splitlines()
    bare, ours = [], []
    for _ in range(given.rounds):
        bare.append(timed_ms("pass"))
        ours.append(timed_ms("import voxnb"))
    beyond = statistics.median(ours) - statistics.median(bare)
    print(
        f"bare interpreter {statistics.median(bare):.1f} ms, with import voxnb {statistics.median(ours):.1f} ms (medians of {given.rounds})"
    )
    print(
        f"{'reached' if beyond <= TARGET_MS else 'MISSED '} import voxnb: {beyond:.1f} ms beyond it, target {TARGET_MS:g}"
    )
    print(f"{'MISSED ' if heavy else 'reached'} heavy modules loaded: {heavy or 'none'} ({modules} modules in all)")
    return 1 if heavy or beyond > TARGET_MS else 0


if __name__ == "__main__":
    sys.exit(main())
