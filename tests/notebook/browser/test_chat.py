"""The Chat tab in a real JupyterLab, used as a person would."""

import pytest

from tests.notebook.test_render import PAYLOADS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CHAT = """
def answer(request):
    text = request.text
    if "long" in text:
        return Paced(" ".join(f"word{n}" for n in range(600)), chunk_delay_s=0.05)
    return f"**You said:** {text}"
server = testing.server(answer)
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris")
chat.ask("I study the iris data set: 150 flowers.").result()
"""
# Ends when the page's question was answered: which it would not be, did the widget wait for the cell.
BLOCKED = "while 'complete' not in chat.conversation.turns().state.tolist()[1:]: time.sleep(0.05)\nprint('answered')"
COUNT = "print(len(chat.conversation), [m['content'] for m in server.requests[-1].messages][-1])"


@pytest.fixture
def shown(open_notebook):
    notebook = open_notebook(CHAT, "w = chat.widget()\nw", "chat.ask('Asked in a cell').result()", COUNT, BLOCKED)
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_text("I study the iris data set").first.wait_for()
    return notebook, cell


def say(cell, text):
    box = cell.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def test_a_conversation_is_read_continued_stopped_retried_edited_and_left_as_text(shown):
    notebook, cell = shown
    assert cell.locator("article strong").get_by_text("You said:").count() == 1
    say(cell, "Which plot first?")
    cell.get_by_label("Turn 2", exact=True).get_by_text("You said:").first.wait_for()
    assert cell.get_by_label("Turn 2", exact=True).locator(".voxnb-said").inner_text() == "Which plot first?"
    # what a cell asks is here, too
    notebook.run(3)
    cell.get_by_label("Turn 3", exact=True).get_by_text("Asked in a cell").first.wait_for()
    # Stop
    say(cell, "A long answer")
    cell.get_by_label("Turn 4", exact=True).get_by_text("word5 ").wait_for()
    cell.get_by_role("button", name="Stop").click()
    cell.get_by_label("Turn 4", exact=True).get_by_text("stopped").wait_for()
    assert "word599" not in cell.inner_text()
    assert notebook.picture(cell.locator(".voxnb"), "chat") == []
    # Retry, then stop again
    cell.get_by_role("button", name="Ask turn 4 again").click()
    cell.get_by_label("Turn 4", exact=True).get_by_text("word3 ").wait_for()
    cell.get_by_role("button", name="Stop").click()
    cell.get_by_label("Turn 4", exact=True).get_by_text("stopped").wait_for()
    cell.get_by_role("button", name="Edit turn 2").press("Enter")
    cell.get_by_role("textbox", name="Turn 2, in other words").press("Escape")
    assert cell.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Edit turn 2"
    # Edit in a fork, and back
    cell.get_by_role("button", name="Edit turn 2").click()
    draft = cell.get_by_role("textbox", name="Turn 2, in other words")
    draft.fill("Which table first?")
    cell.get_by_role("button", name="Ask in a fork").click()
    cell.get_by_text("a fork of iris").wait_for()
    cell.get_by_label("Turn 2", exact=True).get_by_text("You said: Which table first?").wait_for()
    assert cell.get_by_label("Turn 3", exact=True).count() == 0
    cell.get_by_role("button", name="Back to iris").click()
    cell.get_by_label("Turn 4", exact=True).wait_for()
    assert notebook.problems == []


def test_of_a_closed_client_the_conversation_is_read_and_nothing_offers_to_ask(open_notebook):
    notebook = open_notebook(CHAT, "w = chat.widget()\nw", "chat.close()", "w")
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_role("button", name="Edit turn 1").wait_for()
    notebook.run(3)
    cell.locator(".voxnb").wait_for(state="detached")  # the text takes its place
    shown = notebook.run(4)
    shown.get_by_text("The client was closed").wait_for()
    shown.get_by_text("I study the iris data set").first.wait_for()
    for name in ("Edit turn 1", "Ask turn 1 again", "Send"):
        assert shown.get_by_role("button", name=name).is_disabled()
    shown.get_by_role("tab", name="Context").click()
    shown.get_by_role("button", name="Pin turn 1", exact=True).click()
    shown.get_by_role("button", name="Unpin turn 1", exact=True).wait_for()
    assert shown.get_by_role("button", name="Fold up to turn 1").is_disabled()
    assert "The client was closed" in shown.get_by_role("alert").inner_text()
    assert notebook.problems == []


def test_it_answers_while_a_cell_blocks(shown):
    notebook, cell = shown
    notebook.start(5)
    say(cell, "Are you there?")
    cell.get_by_label("Turn 2", exact=True).get_by_text("You said: Are you there?").wait_for()
    notebook.ended(5)
    assert notebook.printed(5) == "answered\n"


def test_of_a_kernel_that_is_gone_nothing_is_offered_and_what_was_typed_comes_back(open_notebook):
    stop = "import os, signal, threading; threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSTOP)).start()"
    notebook = open_notebook(CHAT, "chat.widget()", "chat.store.widget()", stop)
    notebook.run(1)
    cell, there = notebook.run(2), notebook.run(3)
    cell.get_by_role("tab", name="Context").click()
    cell.get_by_text("The next request has").wait_for()
    cell.get_by_role("tab", name="Chat").click()
    notebook.run(4)
    notebook.page.wait_for_timeout(1000)  # it is frozen by now
    say(cell, "Are you there?")
    notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    cell.get_by_text("is gone").wait_for()
    there.get_by_text("is gone").wait_for()
    assert cell.get_by_role("textbox", name="Message").input_value() == "Are you there?"
    cell.get_by_role("tab", name="Context").click()
    for place, name in (
        (cell, "Fold now"),
        (cell, "Dry run"),
        (cell, "Pin turn 1"),
        (there, "Open iris"),
        (there, "Delete iris"),
    ):
        assert place.get_by_role("button", name=name).is_disabled()
    assert notebook.problems == []


def test_files_are_attached_by_paste_and_reach_the_model(shown):
    notebook, cell = shown
    notebook.page.evaluate(
        """() => {
          const box = document.querySelector('.voxnb textarea'); const data = new DataTransfer();
          data.items.add(new File(['a,b\\n1,2\\n'], 'numbers.csv', {type: 'text/csv'}));
          box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
        }"""
    )
    cell.get_by_text("numbers.csv (8 bytes)").wait_for()
    say(cell, "Read this.")
    cell.get_by_label("Turn 2", exact=True).get_by_text("You said:").wait_for()
    notebook.run(4)
    told = notebook.printed(4)
    assert "numbers.csv" in told
    assert "a,b" in told


def test_nothing_of_hostile_text_runs_or_is_fetched_in_any_tab_nor_in_the_text_that_is_left(open_notebook):
    source = f"""
payloads = {PAYLOADS!r}
hostile = "\\n\\n".join(payloads)
tool = {{"tool_calls": [{{"name": hostile[:60], "arguments": {{"x": hostile}}}}], "content": hostile}}
server = testing.server([hostile, tool])
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation=payloads[0])
chat.ask(hostile).result(); chat.ask(hostile).result()
"""
    notebook = open_notebook(source, "w = chat.widget()\nw", "w.close()")
    dialogs = []
    notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_label("Turn 2", exact=True).get_by_text("1 tool call").first.wait_for()
    cell.get_by_role("tab", name="Context").click()
    cell.get_by_role("button", name="Request of turn 1", exact=True).click()
    cell.get_by_text("rebuilt exactly").wait_for()
    cell.locator(".voxnb-context .voxnb-detail details").last.locator("summary").click()
    cell.locator(".voxnb-context .voxnb-detail pre").last.wait_for()
    cell.get_by_role("tab", name="Events").click()
    cell.get_by_text("Nothing happened yet.").wait_for()
    notebook.run(3)
    cell.locator(".voxnb").wait_for(state="detached")
    (output,) = notebook.outputs(2)
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert "Turn 2" in cell.locator(".jp-OutputArea").inner_text()
    assert dialogs == []
    assert [url for url in notebook.requests if "evil.example" in url or "alert" in url] == []
    assert notebook.problems == []
