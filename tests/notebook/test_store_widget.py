"""The store's widget, with pages played by hand: every verb is one of the store or of a conversation."""

import re

import pytest

import voxnb
from tests.notebook.pages import Page
from tests.notebook.test_render import PAYLOADS, Inspector
from voxnb import testing

POLICY = voxnb.ContextPolicy(window_tokens=1400, fold_at_tokens=900, keep_last_turns=1, summary_max_tokens=100)


def said(*lines):
    return [
        m
        for line in lines
        for m in ({"role": "user", "content": line}, {"role": "assistant", "content": f"On {line}."})
    ]


@pytest.fixture
def store():
    with voxnb.ContextStore(":memory:") as made:
        made.append("iris", said("petals", "sepals", "species"))
        made.append("titanic", said("cabins", "fares"))
        yield made


@pytest.fixture
def page(store):
    widget = store.widget()
    page = Page(widget)
    yield page.until(lambda p: "list" in p.sections)
    widget.close()


def shown(page, condition):
    page.until(lambda p: condition({row["name"]: row for row in p.sections["list"]["rows"]}))
    return {row["name"]: row for row in page.sections["list"]["rows"]}


def test_the_list_is_the_stores_and_follows_it(store, page):
    rows = shown(page, lambda rows: len(rows) == 2)
    assert (rows["iris"]["turns"], rows["iris"]["folds"], rows["iris"]["cost"]) == (3, 0, "unknown")
    store.append("wine", said("acids"))
    rows = shown(page, lambda rows: "wine" in rows)
    assert rows["wine"]["turns"] == 1


def test_a_search_finds_names_and_words(page):
    found = page.ask("list.search", text="cabins")["value"]
    assert found["rows"] == []
    assert {(hit["name"], hit["turn"]) for hit in found["hits"]} == {("titanic", 1)}
    assert "[cabins]" in found["hits"][0]["text"]
    assert [row["name"] for row in page.ask("list.search", text="IRI")["value"]["rows"]] == ["iris"]
    assert page.ask("list.search", text='"((')["value"]["hits"] == []


def test_forks_renames_exports_and_deletes_as_the_methods_do(store, page, tmp_path):
    iris = store["iris"].id
    assert page.ask("list.fork", talk=iris, name="iris, again")["value"] == "iris, again"
    rows = shown(page, lambda rows: "iris, again" in rows)
    assert rows["iris, again"]["fork"] == ["iris", 3]
    assert "exist" in page.ask("list.fork", talk=iris, name="iris, again")["error"]
    path = tmp_path / "iris.html"
    assert "iris.html" in page.ask("list.export", talk=iris, path=str(path))["value"]
    assert "petals" in path.read_text()
    assert "error" in page.ask("list.export", talk=iris, path=str(path))
    assert "error" not in page.ask("list.export", talk=iris, path=str(path), overwrite=True)
    assert "no file name" in page.ask("list.export", talk=iris, path=" ")["error"]
    assert "iris, again" in page.ask("list.delete", talk=iris)["error"]
    assert len(store) == 3
    assert sorted(page.ask("list.delete", talk=iris, forks=True)["value"]) == ["iris", "iris, again"]
    assert list(store) == ["titanic"]
    page.ask("list.rename", talk=store["titanic"].id, name="ship")
    assert list(store) == ["ship"]


@pytest.mark.parametrize(
    "verb", ["list.fork", "list.export", "list.delete", "list.rename", "read.open", "compare.choose"]
)
@pytest.mark.parametrize("key", ["no such", None, 7])
def test_what_is_not_there_is_an_error_that_says_so(page, verb, key):
    assert "no conversation" in page.ask(verb, talk=key, path="x.html", name="x", side="left")["error"]


def test_a_conversation_is_read_page_by_page(store, page):
    store.append("long", said(*(f"q{n}" for n in range(70))))
    page.ask("show", tab="read")
    page.ask("read.open", talk=store["long"].id)
    page.until(lambda p: p.sections.get("read", {}).get("last") == 70)
    read = page.sections["read"]
    assert (read["first"], read["count"]) == (41, 70)
    assert "q69" in read["html"]
    page.ask("read.open", talk=store["long"].id, upto=read["first"] - 1)
    page.until(lambda p: p.sections["read"]["last"] == 40)
    store["long"].delete()
    page.until(lambda p: p.sections["read"]["id"] is None)


def test_two_summaries_stand_side_by_side_with_what_is_different(store, page):
    def answer(request):
        if "summary" in str(request.messages[0]).lower():
            return f"Ann studies iris, round {len(server.requests)}."
        return "Noted, " + "some more words " * 12

    with testing.server(answer) as server:
        with voxnb.chat(
            "m", base_url=server.base_url, api_key="k", store=store, conversation="told", policy=POLICY
        ) as chat:
            for n in range(6):
                chat.ask(f"Question {n} about the iris data").result()
            chat.conversation.fold(2).result()
            chat.conversation.fold(4).result()
    told = store["told"].id
    page.ask("show", tab="compare")
    page.ask("compare.choose", side="left", talk=told, round=1)
    page.ask("compare.choose", side="right", talk=told)
    page.until(lambda p: p.sections.get("compare", {}).get("diff"))
    compare = page.sections["compare"]
    assert (compare["left"]["round"], compare["right"]["round"], compare["right"]["rounds"]) == (1, 2, 2)
    assert [kind for kind, text in compare["diff"] if text.strip()] == ["same", "gone", "new", "same"]
    page.ask("compare.choose", side="right", talk=store["iris"].id)
    page.until(lambda p: p.sections["compare"]["diff"] is None)
    assert page.sections["compare"]["right"]["rounds"] == 0
    assert "left and right" in page.ask("compare.choose", side="up", talk=told)["error"]


def test_the_text_that_stands_in_for_it_is_a_table_without_script(store):
    for n, payload in enumerate(PAYLOADS):
        store.append(f"{payload}{n}", said(payload))
    widget = store.widget()
    bundle = widget._bundle()
    inspector = Inspector()
    inspector.feed(bundle["text/html"])
    assert set(inspector.tags) <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert "iris" in "".join(inspector.text)
    assert any(re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", text) for text in inspector.text), (
        "it is read on another day"
    )
    widget.close()


def test_a_closed_store_is_said_and_breaks_nothing():
    store = voxnb.ContextStore(":memory:")
    widget = store.widget()
    page = Page(widget)
    page.until(lambda p: "list" in p.sections)
    store.close()
    assert "closed" in page.ask("list.search", text="x")["error"]
    page.until(lambda p: p.sections["head"]["closed"])
    assert "closed" in widget._bundle()["text/plain"]
    widget.close()


def test_a_store_whose_file_was_removed_is_said_and_breaks_nothing(tmp_path):
    with voxnb.ContextStore(tmp_path / "store.db") as store:
        store.append("iris", said("petals"))
        widget = store.widget()
        page = Page(widget)
        page.until(lambda p: "list" in p.sections)
        (tmp_path / "store.db").unlink()
        assert "was removed" in page.ask("list.search", text="x")["error"]
        page.until(lambda p: "was removed" in p.sections["head"]["closed"])
        assert "removed" in widget._bundle()["text/plain"]
        widget.close()
