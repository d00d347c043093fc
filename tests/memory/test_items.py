"""Items cost what is sent back of them, and never twice."""

from __future__ import annotations

from voxnb.memory.items import ENCRYPTED_CHARS_PER_TOKEN, ITEM_TOKENS
from voxnb.memory.parts import image_tokens
from voxnb.memory.tokens import count_message


def words(text):
    return len(text.split())


def beside(item, **message):
    """What an item adds to its message: (tokens, those kept apart as media)."""
    bare = {"role": "assistant", "content": "Hi", **message}
    without, found = (count_message(m, words) for m in (bare, {**bare, "items": [item]}))
    return found.tokens - without.tokens, found.features.media - without.features.media


def test_a_text_is_counted_once():
    text = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hi"}]}
    assert beside(text) == (0, 0)


def test_a_call_is_counted_once():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    item = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    assert beside(item, tool_calls=[call]) == (0, 0)


def test_a_result_is_counted_once():
    bare = {"role": "tool", "tool_call_id": "c1", "content": "4 2"}
    item = {"type": "function_call_output", "call_id": "c1", "output": "4 2"}
    assert count_message({**bare, "items": [item]}, words) == count_message(bare, words)


def test_reasoning_is_estimated_by_its_length_and_kept_apart():
    item = {"type": "reasoning", "id": "r", "encrypted_content": "x" * (100 * ENCRYPTED_CHARS_PER_TOKEN)}
    assert beside(item) == (100, 100)


def test_reasoning_that_is_not_sent_back_costs_nothing():
    assert beside({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "a b c"}]}) == (0, 0)


def test_a_reference_costs_nothing_known():
    assert beside({"type": "item_reference", "id": "m"}) == (0, 0)


def test_a_built_in_call_costs_its_json_without_ids():
    item = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"query": "two words"}}
    assert beside(item) == (ITEM_TOKENS + 2, 0)


def test_code_costs_its_text_and_what_it_wrote():
    outputs = [{"type": "logs", "logs": "a b"}, {"type": "image", "url": "https://x.test/a.png"}]
    item = {"type": "code_interpreter_call", "id": "ci", "container_id": "c", "code": "x = 1", "outputs": outputs}
    assert beside(item) == (ITEM_TOKENS + 3 + 2 + image_tokens(""), image_tokens(""))


def test_a_picture_costs_an_image_and_no_text():
    item = {"type": "image_generation_call", "id": "ig", "result": "A" * 100_000, "revised_prompt": "a cat"}
    assert beside(item) == (ITEM_TOKENS + 2 + image_tokens(""), image_tokens(""))


def test_an_item_that_is_all_a_message_says_is_counted():
    item = {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}
    bare = {"role": "user", "content": ""}
    assert count_message({**bare, "items": [item]}, words).tokens > count_message(bare, words).tokens


def test_what_is_no_item_is_counted_by_its_json():
    assert beside(7) == (1, 0)
    assert beside({"type": "something_new", "text": "one two"}) == (ITEM_TOKENS + 2, 0)
