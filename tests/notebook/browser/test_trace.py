"""A trace's link in a real JupyterLab and Notebook 7 leads to the trace."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

WATCHED = """
with testing.server("Well.") as server:
    watched = voxnb.chat("m", base_url=server.base_url, api_key=server.api_key, store=":memory:", trace=True)
    watched.ask("Hello?").result()
watched.trace
"""
RESOLVED = "a[href*='/files/']"
"""The link, once the page has found out where it leads."""


def test_jupyterlab_opens_it_at_a_click(open_notebook):
    notebook = open_notebook(WATCHED)
    notebook.run(1).locator(RESOLVED).click()
    notebook.page.locator(".jp-RenderedJSON").get_by_text("root").first.wait_for()


def test_notebook_7_hands_it_out_at_a_click(open_notebook):
    notebook = open_notebook(WATCHED, app="notebook")
    link = notebook.run(1).locator(RESOLVED)
    with notebook.page.expect_download() as found:
        link.click()
    assert '"direction":"sent"' in Path(found.value.path()).read_text()
