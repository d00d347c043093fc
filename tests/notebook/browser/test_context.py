"""The Context tab in a real JupyterLab: watch the budget, fold, read the chain, explain a past turn."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CHAT = """
def answer(request):
    if "summary" in str(request.messages[0]).lower():
        return f"Ann studies iris: 150 flowers, round {len(server.requests)}."
    return "Noted: " + "some more words " * 12
server = testing.server(answer)
policy = voxnb.ContextPolicy(window_tokens=1400, fold_at_tokens=900, keep_last_turns=1, summary_max_tokens=100)
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris",
                  policy=policy, instructions="You are terse.")
for n in range(6):
    chat.ask(f"Question {n}: what of the iris data set, its 150 flowers and 3 species?").result()
chat.conversation.fold(2).result()
chat.conversation.fold(4).result()
"""


def focus(cell):
    return cell.evaluate("() => document.activeElement.getAttribute('aria-label')")


def test_the_budget_is_read_turns_are_pinned_and_folded_and_past_requests_explained(open_notebook):
    notebook = open_notebook(CHAT, "w = chat.widget()\nw", "w.close()")
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_role("tab", name="Chat").press("ArrowRight")
    cell.get_by_text("The next request has").wait_for()
    assert cell.get_by_role("tab", name="Context").get_attribute("aria-selected") == "true"
    cell.get_by_role("button", name="Pin turn 1", exact=True).click()
    cell.get_by_role("button", name="Unpin turn 1", exact=True).wait_for()
    cell.get_by_role("button", name="Request of turn 3", exact=True).click()
    cell.get_by_text("rebuilt exactly").wait_for()
    cell.get_by_text("What changed since summary 1").click()
    assert notebook.picture(cell.locator(".voxnb"), "context") == []
    # By keyboard: what is drawn anew keeps the focus and what is unfolded, and what is closed gives the focus back.
    cell.get_by_role("button", name="Close").press("Enter")
    assert focus(cell) == "Request of turn 3"
    cell.get_by_role("button", name="Pin turn 2", exact=True).press("Enter")
    cell.get_by_role("button", name="Unpin turn 2", exact=True).wait_for()
    assert focus(cell) == "Unpin turn 2"
    assert cell.locator(".voxnb-chain ins").first.is_visible()
    cell.get_by_role("button", name="Unpin turn 2", exact=True).press("Enter")
    cell.get_by_role("button", name="Pin turn 2", exact=True).wait_for()
    cell.get_by_role("button", name="Fold up to turn 5", exact=True).click()
    cell.get_by_text("Summary 3:").wait_for()
    cell.get_by_role("button", name="Take the newest summary back").click()
    cell.get_by_text("Summary 3:").wait_for(state="detached")
    cell.get_by_role("textbox", name="A message to try").fill("And virginica?")
    cell.get_by_role("button", name="Dry run").click()
    cell.get_by_text("nothing is sent").wait_for()
    assert notebook.problems == []
