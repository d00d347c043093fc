"""The picture in README.md, made as all pictures are; ``README_PICTURE=1`` puts a new one in its place."""

import io
import os

import pytest

from tests.notebook.browser.jupyter import PICTURES, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CHAT = """
said = [
    ("Load the rentals of 2024: which columns are there?", "Twelve: date, station, bike, rider, minutes, weather, …"),
    ("Riders lost after 60 days without a ride: how many?", "1,204 of 12,480 riders, most of them after September."),
    ("Owner is Mara Lindqvist, the ticket is DS-417.", "Noted: Mara Lindqvist, DS-417."),
    ("Plot rides per week for each station.", "Small multiples, one panel per station, with a common scale."),
    ("Which station loses most riders?", "Harbour: 18 % of its riders are lost, against 9.6 % in the whole town."),
    ("And is it the weather?", "Hardly: the loss is the same in dry weeks."),
]
fold = "Owner Mara Lindqvist, ticket DS-417. 12,480 riders, 1,204 lost after 60 days."
more = " Harbour loses most, 18 % of its riders."
replies = dict(said)
server = testing.server(lambda request: replies.get(request.text) or fold + more * ("Harbour" in str(request.messages)))
policy = voxnb.ContextPolicy(window_tokens=600, fold_at_tokens=350, keep_last_turns=1, summary_max_tokens=80, background=False)
chat = voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", conversation="rentals",
                  policy=policy, instructions="You are a data scientist's terse colleague.")
for text, _ in said:
    chat.ask(text).result()
chat.conversation.fold(3).result()
chat.conversation.fold(5).result()
chat.conversation.pin(3)
"""


def test_the_readme_has_its_picture(open_notebook):
    image = pytest.importorskip("PIL.Image")
    notebook = open_notebook(CHAT, "w = chat.widget()\nw")
    notebook.run(1)
    cell = notebook.run(2)
    cell.get_by_role("tab", name="Context").click()
    cell.get_by_text("Summary 2:").wait_for()
    cell.get_by_text("What changed since summary 1").click()
    assert notebook.picture(cell.locator(".voxnb"), "readme") == []
    made = image.open(io.BytesIO((PICTURES / "readme-light.png").read_bytes())).convert("RGB").quantize(64)
    there = ROOT / "data" / "pictures" / "context.png"
    if os.environ.get("README_PICTURE"):
        there.parent.mkdir(exist_ok=True)
        made.save(there, optimize=True)
    with image.open(there) as kept:
        size = kept.size
    assert there.stat().st_size < 80_000
    assert abs(size[0] - made.width) < 40
    assert abs(size[1] - made.height) < 80, "it shows another widget: make it anew"
    assert "data/pictures/context.png" in (ROOT / "README.md").read_text(encoding="utf-8")
