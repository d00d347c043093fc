"""A real JupyterLab (or Notebook 7) in a real browser: notebooks that a person would have, run cell by cell."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

from tests.notebook.browser.axe import violations

ROOT = Path(__file__).resolve().parents[3]
PICTURES = ROOT / "tests" / "output" / "pictures"
# A machine under load is slow; nothing here is timed but by its own test.
LIMIT_MS = int(os.environ.get("VOXNB_TEST_MS", "90000"))

SETUP = """
import time, voxnb
from voxnb import testing
from voxnb.testing import Paced
"""


# What a widget's kernel tells the page, by the kernel's clock, and how long the page's own work keeps it.
SPY = """
() => {
  window.voxnbTold = [];
  window.voxnbTasks = [];
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  kernel.anyMessage.connect((_, {msg, direction}) => {
    const kind = msg.content?.data?.content?.t;
    if (direction === 'recv' && msg.header.msg_type === 'comm_msg' && kind) window.voxnbTold.push([Date.parse(msg.header.date), kind]);
  });
  new PerformanceObserver((list) => window.voxnbTasks.push(...list.getEntries().map((e) => e.duration))).observe({type: 'longtask'});
}
"""
SOUND = ("sound", "heard")


def chromium():
    """The browser's program, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


class Server:
    """A Jupyter server with a folder of its own."""

    def __init__(self, folder):
        self.folder = Path(folder) / "notebooks"
        self.folder.mkdir()
        self.token = secrets.token_hex(8)
        runtime = Path(folder) / "runtime"
        places = {
            "JUPYTER_RUNTIME_DIR": runtime,
            "JUPYTER_CONFIG_DIR": Path(folder) / "config",
            "JUPYTER_DATA_DIR": Path(folder) / "data",
            "IPYTHONDIR": Path(folder) / "ipython",
            "VOXNB_STORE": Path(folder) / "store.db",
            "PYTHONPATH": ROOT,
        }
        options = ["--no-browser", "--port=0", "--expose-app-in-browser", f"--IdentityProvider.token={self.token}"]
        options += [f"--ServerApp.root_dir={self.folder}", "--JupyterNotebookApp.expose_app_in_browser=True"]
        options += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        page = Path(folder) / "config" / "labconfig" / "page_config.json"
        page.parent.mkdir(parents=True)
        page.write_text(json.dumps(quiet))
        self.log = (Path(folder) / "server.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=self.folder,
            env={**os.environ, **{name: str(value) for name, value in places.items()}},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.url = self._address(runtime)

    def _address(self, runtime):
        deadline = time.monotonic() + LIMIT_MS / 1000
        while time.monotonic() < deadline:
            assert self.process.poll() is None, Path(self.log.name).read_text()[-2000:]
            for found in runtime.glob("jpserver-*.json"):
                try:
                    url = json.loads(found.read_text())["url"].replace("0.0.0.0", "127.0.0.1")
                    with urllib.request.urlopen(f"{url}api?token={self.token}", timeout=5):
                        return url
                except (OSError, ValueError):
                    pass
            time.sleep(0.1)
        raise AssertionError(f"no server came up: {Path(self.log.name).read_text()[-2000:]}")

    def write(self, name, *sources):
        """Put a notebook into the folder."""
        made = nbformat.v4.new_notebook()
        made.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, self.folder / name)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.log.close()


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page, *, name):
        self.page, self.name = page, name
        self.requests, self.problems = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        # The widgets' own code is loaded from a blob; what JupyterLab itself throws is not ours to judge.
        page.on("pageerror", lambda error: "blob:" in str(error.stack) and self.problems.append(str(error.stack)))

    def open(self, server, *, app="lab"):
        """Open it, and wait until its kernel answers."""
        place = {
            "lab": f"lab/workspaces/{self.name.removesuffix('.ipynb')}/tree/{self.name}?reset",
            "notebook": f"notebooks/{self.name}?x=1",
        }
        self.page.goto(f"{server.url}{place[app]}&token={server.token}", wait_until="domcontentloaded")
        return self.ready()

    def ready(self):
        """Wait until the page shows it and its kernel answers."""
        self.page.wait_for_function(
            "() => { const w = window.jupyterapp?.shell?.currentWidget;"
            " return w?.content?.widgets?.length && w.sessionContext?.session?.kernel?.status === 'idle' }",
            timeout=LIMIT_MS,
        )
        return self

    def opened_again(self, server):
        """The same notebook in a second tab, as it was saved now."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        from playwright.sync_api import TimeoutError as NotYetError

        other = Notebook(self.page.context.new_page(), name=self.name).open(server)
        for _ in range(3):
            # JupyterLab asks the kernel once for the widgets that are there, and on a busy machine gives up too soon.
            with contextlib.suppress(NotYetError):
                other.page.locator(".voxnb").first.wait_for(timeout=LIMIT_MS / 3)
                break
            other.page.reload(wait_until="domcontentloaded")
            other.ready()
        return other

    def start(self, index):
        """Run a cell, and do not wait for it."""
        self.page.evaluate(
            "index => { const a = window.jupyterapp; a.shell.currentWidget.content.activeCellIndex = index;"
            " const ends = (window.voxnbEnds ??= {}); ends[index] = false;"
            " a.commands.execute('notebook:run-cell').finally(() => { ends[index] = true }) }",
            index,
        )
        # What is clicked next may become the active cell: not before this one has begun.
        self.page.wait_for_function(
            "index => window.voxnbEnds[index] ||"
            " window.jupyterapp.shell.currentWidget.content.widgets[index].model.executionState === 'running'",
            arg=index,
            timeout=LIMIT_MS,
        )
        return self.cell(index)

    def run(self, index):
        """Run a cell to its end."""
        cell = self.start(index)
        self.ended(index)
        return cell

    def ended(self, index):
        """Wait until a cell has ended."""
        self.page.wait_for_function("index => window.voxnbEnds[index]", arg=index, timeout=LIMIT_MS)

    def cell(self, index):
        """Its element."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def theme(self, name):
        """JupyterLab's light or dark theme."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })", name)
        light = "true" if "Light" in name else "false"
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light && !document.querySelector('#jupyterlab-splash')",
            arg=light,
            timeout=LIMIT_MS,
        )

    def outputs(self, index):
        """The outputs of a cell as they would be saved."""
        return self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON()", index
        )

    def printed(self, index):
        """What a cell printed; off the screen JupyterLab does not draw it."""
        return "".join("".join(o["text"]) for o in self.outputs(index) if o["output_type"] == "stream")

    def spy(self):
        """Note from now on what is told to the page, and its long tasks."""
        self.page.evaluate(SPY)

    def told_per_s(self):
        """The most messages, of sound none, that the kernel sent to widgets within a second."""
        told = self.page.evaluate("() => window.voxnbTold")
        sent_ms = [at for at, kind in told if kind not in SOUND]
        return max(sum(1 for at in sent_ms if first <= at < first + 1000) for first in sent_ms)

    def longest_task_ms(self):
        """The longest time for which the page was busy with one thing."""
        return max(self.page.evaluate("() => window.voxnbTasks"), default=0)

    def picture(self, locator, name):
        """A picture of an element, in light and in dark, to be looked at; returns what axe finds wrong in either."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        found = []
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            self.theme(theme)
            locator.screenshot(path=str(PICTURES / f"{name}-{theme.split()[1].lower()}.png"))
            found += [f"{theme}: {line}" for line in violations(self.page, ".voxnb")]
        self.theme("JupyterLab Light")
        return found

    def close(self):
        self.page.context.close()
