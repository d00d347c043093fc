"""The Events tab: what is noted, how much is kept, and what a page gets."""

import json

import pytest

import voxnb
from tests.notebook.pages import Page
from voxnb import testing
from voxnb.notebook.events_tab import EventLog, cut


@pytest.fixture
def chat():
    with testing.server(lambda request: f"You said {request.text}.") as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=":memory:", conversation="iris") as made:
            made.server = server
            yield made


def test_a_page_gets_the_events_of_a_turn_in_order_and_a_payload_on_demand(chat):
    widget = chat.widget()
    page = Page(widget)
    page.ask("show", tab="events")
    chat.ask("Hi").result()
    rows = {}

    def done(page):
        rows.update({row[0]: row for row in page.sections.get("events", {}).get("rows", ())})
        return any(row[2].endswith(".ContentDone") for row in rows.values())

    page.until(done)
    assert sorted(rows) == list(range(1, len(rows) + 1))
    delta = next(row for row in rows.values() if row[2].endswith(".ContentDelta") and "said" in row[5])
    assert (delta[3], delta[4]) == (1, chat.conversation.turns().turn_id[0])
    payload = json.loads(page.ask("events.payload", event=delta[0])["value"])
    assert "said" in payload["delta"]
    widget.close()


def test_of_a_private_client_names_are_kept_and_nothing_that_was_said(chat):
    with voxnb.chat("m", base_url=chat.server.base_url, api_key="k", privacy=True) as private:
        widget = private.widget()
        page = Page(widget)
        private.ask("Xylophone").result()
        page.ask("show", tab="events")
        page.until(lambda page: "events" in page.sections)
        payloads = [page.ask("events.payload", event=number)["value"] for number in (1, 2, 3, 4)]
        assert page.sections["events"]["rows"][0][2].endswith("ContextPlanned")
        assert {json.loads(payload)["privacy"] for payload in payloads} == {"what it says is not kept"}
        widget.close()


@pytest.mark.parametrize("number", [0, -1, 10_000, None, "1", 1.5])
def test_an_event_that_is_not_kept_is_an_error_that_says_so(chat, number):
    widget = chat.widget()
    page = Page(widget)
    assert "is not kept" in page.ask("events.payload", event=number)["error"]
    widget.close()


def test_what_nobody_listens_to_is_built_only_while_a_widget_watches(chat):
    assert not chat.wanted
    widget = chat.widget()
    assert chat.EVENTS.Chunk.value in chat.wanted
    widget.close()
    assert not {name for name in (e.value for e in chat.EVENTS) if name in chat.wanted}


def test_memory_is_bounded_in_events_and_in_characters():
    log = EventLog(kept=1000, kept_characters=50_000)
    for n in range(100_000):
        log.note("A.Event", {"n": n})
    assert log.count == 100_000
    assert [e.number for e in log.since(0, most=10**9)] == list(range(99_001, 100_001))
    for n in range(1000):
        log.note("A.Event", {"text": "x" * 500})
    assert sum(len(e.payload) for e in log.since(0, most=10**9)) <= 50_000
    assert json.loads(log.find(log.count).payload) == {"text": "x" * 500}


def test_of_a_huge_payload_only_a_little_is_looked_at():
    looked = 0

    class Item(str):
        __slots__ = ()

        def __len__(self):
            nonlocal looked
            looked += 1
            return super().__len__()

    small = cut({"items": [[Item("a")] * 100] * 10_000, "deep": [[[[[[[[[[1]]]]]]]]]]})
    assert looked < 1000
    assert len(json.dumps(small)) < 20_000
