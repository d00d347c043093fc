"""The Events tab in a real JupyterLab: read, filtered, paused, followed to its turn; and a flood of events."""

import pytest

from tests.kernel.lateness import late
from tests.notebook.test_render import PAYLOADS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CHAT = f"""
payloads = {PAYLOADS!r}
server = testing.server(lambda request: "You said: " + request.text)
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris")
name = chat.EVENTS.ContentDelta
def flood(count, per_s=None):
    began = time.monotonic()
    for n in range(count):
        chat.emit(name, {{"delta": f"word{{n}} ", "snapshot": "so far " * 40, "n": n}}, context=None)
        if per_s and (rest := began + n / per_s - time.monotonic()) > 0:
            time.sleep(rest)
"""


@pytest.fixture
def shown(open_notebook):
    notebook = open_notebook(
        CHAT,
        "w = chat.widget()\nw",
        "chat.ask('Which plot first?').result()\nchat.emit(chat.EVENTS.ChatCompletionsAPIError, {'message': 'No such model.'}, context=None)",
        "flood(2000, per_s=500)",
        "flood(100_000)",
        "for p in payloads: chat.emit(name, {p: [p]}, context=None)",
        "w.close()",
    )
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_role("tab", name="Events").click()
    cell.get_by_text("Nothing happened yet.").wait_for()
    return notebook, cell


def test_events_are_read_filtered_paused_and_followed_to_their_turn(shown):
    notebook, cell = shown
    notebook.run(3)
    cell.get_by_role("button", name="ContentDone").click()
    cell.locator("pre").get_by_text('"content": "You said: Which plot first?"').wait_for()
    assert notebook.picture(cell.locator(".voxnb"), "events") == []
    cell.get_by_role("searchbox", name="Filter").fill("content -delta")
    cell.get_by_role("button", name="ContentDone").wait_for()
    assert cell.get_by_role("button", name="ContentDelta").count() == 0
    cell.get_by_role("searchbox", name="Filter").fill("")
    cell.get_by_role("button", name="Pause").click()
    notebook.run(3)
    cell.get_by_text("paused,").wait_for()
    cell.get_by_role("button", name="ContentDone").press("ArrowUp")
    cell.get_by_role("button", name="Go on").click()
    notebook.page.wait_for_function("() => document.querySelectorAll('.voxnb-badrow').length === 2")
    cell.get_by_role("button", name="Go to turn 1").click()
    assert cell.get_by_role("tab", name="Chat").get_attribute("aria-selected") == "true"
    assert cell.get_by_label("Turn 1", exact=True).evaluate("node => node === document.activeElement")
    assert notebook.problems == []


def test_a_flood_of_events_is_at_most_twenty_messages_a_second_and_the_page_stays_quick(shown):
    notebook, cell = shown
    notebook.spy()
    notebook.run(4)
    cell.get_by_text("word1999").wait_for()
    assert notebook.told_per_s() <= 20
    told = cell.get_by_text("of 2,000 events").or_(cell.get_by_text("more came too fast")).inner_text()
    notebook.run(5)
    cell.get_by_text("more came too fast").wait_for()
    cell.get_by_role("searchbox", name="Filter").fill("word99999")
    cell.get_by_role("button", name="ContentDelta").first.wait_for()
    assert cell.locator(".voxnb-events tbody tr").count() < 60
    assert notebook.problems == []
    if (busy_ms := notebook.longest_task_ms()) >= 200:
        late(f"the page was busy with one thing for {busy_ms:.0f} ms")
    if "too fast" in told:
        late(f"of 2,000 events at 500 a second the page has {told}")


def test_nothing_of_a_hostile_payload_runs_or_is_fetched(shown):
    notebook, cell = shown
    dialogs = []
    notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    notebook.run(6)
    cell.get_by_text(f"of {len(PAYLOADS)} events").wait_for()
    for n in range(3, len(PAYLOADS) + 1, 7):
        cell.get_by_role("searchbox", name="Filter").fill(PAYLOADS[n - 1].split()[0][:9])
        cell.locator(f"[data-event='{n}']").click()
        cell.get_by_text(f"event {n} ·").wait_for()
        assert PAYLOADS[n - 1].split()[0][:9] in cell.locator("pre").inner_text()
    assert dialogs == []
    assert [url for url in notebook.requests if "evil.example" in url or "alert" in url] == []
    assert notebook.problems == []
