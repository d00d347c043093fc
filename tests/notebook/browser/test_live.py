"""A turn as a cell's last line, in a real page: it streams, Stop works while the cell blocks, and it freezes."""

import pytest

from tests.notebook.test_render import PAYLOADS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CHAT = """
words = "## A heading\\n\\nSome **bold** words.\\n\\n" + " ".join(f"word{n}" for n in range(400))
server = testing.server([Paced(words, delay_s=0.5, chunk_delay_s=0.05)])
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:")
"""
HOSTILE = f"""
payloads = {PAYLOADS!r}
server = testing.server([Paced("\\n\\n".join(payloads), chunk_delay_s=0.01)])
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:")
"""


def test_stop_ends_a_blocking_cell_and_keeps_what_had_come(open_notebook):
    notebook = open_notebook(CHAT, "chat.ask('Go on for long.')", "print(chat.conversation.turns().state.tolist())")
    notebook.run(1)
    cell = notebook.start(2)
    stop = cell.get_by_role("button", name="Stop")
    stop.wait_for()
    cell.get_by_text("word2").wait_for()
    assert cell.get_by_role("status").inner_text() == "writing,"  # and how long is for the eye only
    notebook.picture(cell.locator(".voxnb"), "live-reply")
    stop.click()
    notebook.ended(2)
    stop.wait_for(state="detached")
    (output,) = [o for o in notebook.outputs(2) if o["output_type"] == "display_data"]
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert "word0 word1" in output["data"]["text/plain"]
    assert "word399" not in output["data"]["text/plain"]
    assert "cancelled" in output["data"]["text/html"]
    notebook.run(3)
    assert "partial" in notebook.printed(3)
    assert notebook.problems == []


def test_hostile_text_neither_runs_nor_fetches_while_it_comes_and_after(open_notebook):
    notebook = open_notebook(HOSTILE, "chat.ask('Show me.')")
    dialogs = []
    notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_text("tokens in,").wait_for()
    notebook.picture(cell.locator(".jp-OutputArea"), "reply")
    assert "<script>alert(1)</script>" in cell.locator(".jp-OutputArea").inner_text()
    assert dialogs == []
    assert [url for url in notebook.requests if "evil.example" in url or "alert" in url] == []
    assert notebook.problems == []
