"""The store's widget in a real JupyterLab: find, read, compare, fork, export, delete."""

import pytest

from tests.notebook.test_render import PAYLOADS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

STORE = """
def answer(request):
    if "summary" in str(request.messages[0]).lower():
        return f"Ann studies the iris data set: 150 flowers of 3 species; this is round {len(server.requests)}."
    return "Noted: " + "some more words " * 12
server = testing.server(answer)
store = voxnb.ContextStore(":memory:")
policy = voxnb.ContextPolicy(window_tokens=1400, fold_at_tokens=900, keep_last_turns=1, summary_max_tokens=100)
options = dict(base_url=server.base_url, api_key="k", store=store, policy=policy)
for name, count in (("iris", 6), ("titanic: who was saved", 3), ("wine", 1)):
    with voxnb.chat("gpt-4o-mini", conversation=name, **options) as chat:
        for n in range(count):
            chat.ask(f"Question {n} on {name}: what of its columns and its rows?").result()
        if count > 4:
            chat.conversation.fold(2).result()
            chat.conversation.fold(4).result()
store["iris"].fork(at=5, name="iris, other plots")
"""


def test_conversations_are_found_read_compared_forked_exported_and_deleted(open_notebook):
    notebook = open_notebook(
        STORE, "w = store.widget()\nw", "print(sorted(store))\nprint(open('wine.html').read()[:15])", "w.close()"
    )
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_text("4 conversations").wait_for()
    cell.get_by_role("searchbox", name="Search").fill("columns")
    cell.get_by_role("button", name="wine, turn 1").wait_for()
    assert notebook.picture(cell.locator(".voxnb"), "store-search") == []
    cell.get_by_role("button", name="titanic: who was saved, turn 2").click()
    cell.get_by_text("turns 1–2 of 3").wait_for()
    assert notebook.picture(cell.locator(".voxnb"), "store-read") == []
    cell.get_by_role("tab", name="Conversations").click()
    cell.get_by_role("searchbox", name="Search").fill("")
    cell.get_by_role("button", name="Fork wine").click()
    cell.get_by_role("textbox", name="Name of the fork").press("Escape")
    cell.get_by_role("button", name="Export wine").click()
    cell.get_by_role("button", name="Export", exact=True).click()
    cell.get_by_text("wine.html").wait_for()
    cell.get_by_role("button", name="Delete wine").click()
    cell.get_by_text("Nothing brings it back").wait_for()
    assert notebook.picture(cell.locator(".voxnb"), "store-delete") == []
    cell.get_by_role("button", name="Delete for good").click()
    cell.get_by_role("button", name="Delete wine").wait_for(state="detached")
    cell.get_by_role("checkbox", name="Choose iris, other plots").check()
    cell.get_by_role("checkbox", name="Choose iris", exact=True).check()
    cell.get_by_role("button", name="Compare two").click()
    cell.get_by_role("combobox", name="Summary on the left").select_option("1")
    cell.locator("ins").first.wait_for()
    assert notebook.picture(cell.locator(".voxnb"), "store-compare") == []
    notebook.run(3)
    assert notebook.printed(3) == "['iris', 'iris, other plots', 'titanic: who was saved']\n<!DOCTYPE html>\n"
    notebook.run(4)
    (output,) = notebook.outputs(2)
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert "titanic: who was saved" in cell.locator(".jp-OutputArea").inner_text()
    assert notebook.problems == []


def test_nothing_of_hostile_names_and_words_runs_or_is_fetched(open_notebook):
    source = f"""
store = voxnb.ContextStore(":memory:")
for n, text in enumerate({PAYLOADS!r}):
    store.append(f"{{text}} {{n}}", [{{"role": "user", "content": text + " needle"}}, {{"role": "assistant", "content": text}}])
"""
    notebook = open_notebook(source, "w = store.widget()\nw", "w.close()")
    dialogs = []
    notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_text(f"{len(PAYLOADS)} conversations").wait_for()
    cell.get_by_role("searchbox", name="Search").fill("needle")
    cell.get_by_text("Said:").wait_for()
    for n in (0, 4, 9):
        cell.locator(".voxnb-hits button").nth(n).click()
        cell.get_by_text("turn 1 of 1").wait_for()
        cell.get_by_role("tab", name="Conversations").click()
    cell.get_by_role("searchbox", name="Search").fill("")
    cell.locator(".voxnb-list").get_by_role("button", name="Delete").first.click()
    cell.get_by_text("Nothing brings it back").wait_for()
    cell.get_by_role("tab", name="Compare").click()
    cell.get_by_role("combobox", name="Conversation on the left").select_option(index=3)
    cell.get_by_text("never folded").wait_for()
    notebook.run(3)
    assert dialogs == []
    assert [url for url in notebook.requests if "evil.example" in url or "alert" in url] == []
    assert notebook.problems == []
