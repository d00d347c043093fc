"""One browser and one server for all browser tests; each test has a page and a kernel of its own."""

from __future__ import annotations

import os
import wave

import pytest

from tests.notebook.browser import jupyter


@pytest.fixture(scope="session")
def launch():
    """``launch(argument, …)``: a Chromium."""
    program = jupyter.chromium()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium is installed, and in CI browser tests are not skipped")
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'voxnb[browser]'")
    with sync_api.sync_playwright() as playwright:
        yield lambda *more: playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", *more]
        )


@pytest.fixture(scope="session")
def browser(launch):
    opened = launch()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def talking_browser(launch, tmp_path_factory):
    """A Chromium into whose microphone somebody says a sentence, again and again."""
    from voxnb.local.realtime import tone

    path = tmp_path_factory.mktemp("voice") / "sentence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(bytes(24_000) + tone("I am Ann, and I study the iris") + bytes(4 * 48_000))
    opened = launch("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={path}")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory, browser):
    made = jupyter.Server(tmp_path_factory.mktemp("jupyter"))
    yield made
    made.close()


@pytest.fixture
def open_notebook(server, browser, request):
    """``open_notebook(source, source, …)``: a notebook with these cells, open and its kernel ready."""
    opened = []

    def open_(*sources, app="lab", browser=browser, init=None, **context_options):
        name = f"{request.node.name.partition('[')[0]}-{len(opened)}.ipynb"
        server.write(name, jupyter.SETUP, *sources)
        context = browser.new_context(viewport={"width": 1180, "height": 1500}, **context_options)
        context.set_default_timeout(jupyter.LIMIT_MS)
        if init is not None:
            context.add_init_script(init)
        notebook = jupyter.Notebook(context.new_page(), name=name)
        opened.append(notebook)
        notebook.open(server, app=app)
        notebook.run(0)
        return notebook

    yield open_
    for notebook in opened:
        for page in notebook.page.context.pages[-1:]:  # one is enough, whichever a test left open
            page.evaluate("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()")
        notebook.close()
