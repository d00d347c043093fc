"""The widgets and a turn in a real marimo."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.notebook.browser.jupyter import LIMIT_MS, PICTURES, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import voxnb
    from voxnb import testing
    from voxnb.testing import Paced
    replies = [Paced("A **histogram** of petal length. " * 3, chunk_delay_s=0.05), Paced("word " * 2000, chunk_delay_s=0.05), "Then a scatter plot."]
    server = testing.server(replies)
    chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris")
    return (chat,)

@app.cell
def _(chat):
    chat.ask("Which plot first?")

@app.cell
def _(chat):
    chat.ask("Tell me everything.")

@app.cell
def _(chat):
    panel = chat.widget()
    panel

@app.cell
def _(chat):
    conversations = chat.store.widget()
    conversations
"""


@pytest.fixture
def marimo(tmp_path, browser):
    """A page in which the notebook runs as an app."""
    pytest.importorskip("marimo", reason="pip install 'voxnb[browser]'")
    file = tmp_path / "notebook.py"
    file.write_text(NOTEBOOK)
    config = tmp_path / "marimo" / "marimo.toml"
    config.parent.mkdir()
    config.write_text('[display]\ntheme = "system"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", "--headless", "--no-token", f"--port={port}", str(file)]
    place = {"HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path, "XDG_STATE_HOME": tmp_path, "PYTHONPATH": ROOT}
    process = subprocess.Popen(
        command,
        env={**os.environ, **{name: str(value) for name, value in place.items()}},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + LIMIT_MS / 1000
        while time.monotonic() < deadline:
            assert process.poll() is None
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        context = browser.new_context(viewport={"width": 1000, "height": 1500})
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: "blob:" in str(error.stack) and page.problems.append(str(error.stack)))
        page.goto(url)
        yield page
        context.close()
    finally:
        process.terminate()
        process.wait(20)


def test_a_turn_streams_and_stops_and_the_panels_work(marimo):
    page = marimo
    page.get_by_role("button", name="Stop").first.wait_for()
    page.get_by_text("waiting for the reply").or_(page.get_by_text("writing")).first.wait_for()
    page.locator("strong", has_text="histogram").first.wait_for()
    page.get_by_text("tokens in").first.wait_for()  # the first has its receipt, the second goes on
    page.locator(".voxnb-live").get_by_role("button", name="Stop").click()
    page.locator(".voxnb-live").get_by_text("cancelled").wait_for()
    talk = page.get_by_label("Conversation", exact=True)
    talk.get_by_role("textbox").fill("And then?")
    talk.get_by_role("textbox").press("Enter")
    talk.get_by_text("Then a scatter plot.").first.wait_for()
    page.get_by_label("Conversations", exact=True).get_by_role("button", name="Open").first.click()
    page.get_by_label("Conversations", exact=True).get_by_text("Then a scatter plot.").first.wait_for()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
        page.screenshot(path=str(PICTURES / f"marimo-{scheme}.png"), full_page=True)
    assert page.problems == []
