"""Every event of the Responses API as the service sends it, in streams that it could send.

The fields are those of the reference; that the payloads are the SDK's is a test of `test_responses_events`.
"""

from __future__ import annotations

# Wire type → fields beside it; ``?`` marks those that may be missing.
FIELDS = {
    "response.code_interpreter_call_code.delta": "delta item_id output_index sequence_number",
    "response.code_interpreter_call_code.done": "code item_id output_index sequence_number",
    "response.code_interpreter_call.completed": "item_id output_index sequence_number",
    "response.code_interpreter_call.in_progress": "item_id output_index sequence_number",
    "response.code_interpreter_call.interpreting": "item_id output_index sequence_number",
    "response.completed": "response sequence_number",
    "response.content_part.added": "content_index item_id output_index part sequence_number",
    "response.content_part.done": "content_index item_id output_index part sequence_number",
    "response.created": "response sequence_number",
    "error": "code? message param? sequence_number",
    "response.file_search_call.completed": "item_id output_index sequence_number",
    "response.file_search_call.in_progress": "item_id output_index sequence_number",
    "response.file_search_call.searching": "item_id output_index sequence_number",
    "response.function_call_arguments.delta": "delta item_id output_index sequence_number",
    "response.function_call_arguments.done": "arguments item_id name output_index sequence_number",
    "response.in_progress": "response sequence_number",
    "response.failed": "response sequence_number",
    "response.incomplete": "response sequence_number",
    "response.output_item.added": "item output_index sequence_number",
    "response.output_item.done": "item output_index sequence_number",
    "response.reasoning_summary_part.added": "item_id output_index part sequence_number summary_index",
    "response.reasoning_summary_part.done": "item_id output_index part sequence_number summary_index status?",
    "response.reasoning_summary_text.delta": "delta item_id output_index sequence_number summary_index",
    "response.reasoning_summary_text.done": "item_id output_index sequence_number summary_index text",
    "response.reasoning_text.delta": "content_index delta item_id output_index sequence_number",
    "response.reasoning_text.done": "content_index item_id output_index sequence_number text",
    "response.refusal.delta": "content_index delta item_id output_index sequence_number",
    "response.refusal.done": "content_index item_id output_index refusal sequence_number",
    "response.output_text.delta": "content_index delta item_id logprobs output_index sequence_number",
    "response.output_text.done": "content_index item_id logprobs output_index sequence_number text",
    "response.web_search_call.completed": "item_id output_index sequence_number",
    "response.web_search_call.in_progress": "item_id output_index sequence_number",
    "response.web_search_call.searching": "item_id output_index sequence_number",
    "response.image_generation_call.completed": "item_id output_index sequence_number",
    "response.image_generation_call.generating": "item_id output_index sequence_number",
    "response.image_generation_call.in_progress": "item_id output_index sequence_number",
    "response.image_generation_call.partial_image": "item_id output_index partial_image_b64 partial_image_index sequence_number background? output_format? quality? size?",
    "response.mcp_call_arguments.delta": "delta item_id output_index sequence_number",
    "response.mcp_call_arguments.done": "arguments item_id output_index sequence_number",
    "response.mcp_call.completed": "item_id output_index sequence_number",
    "response.mcp_call.failed": "item_id output_index sequence_number",
    "response.mcp_call.in_progress": "item_id output_index sequence_number",
    "response.mcp_list_tools.completed": "item_id output_index sequence_number",
    "response.mcp_list_tools.failed": "item_id output_index sequence_number",
    "response.mcp_list_tools.in_progress": "item_id output_index sequence_number",
    "response.output_text.annotation.added": "annotation? annotation_index content_index item_id output_index sequence_number",
    "response.queued": "response sequence_number",
    "response.custom_tool_call_input.delta": "delta item_id output_index sequence_number",
    "response.custom_tool_call_input.done": "input item_id output_index sequence_number",
}

PICTURE = "iVBORw0KGgoAAAANSUhEUg=="
NOTE = {"type": "url_citation", "url": "https://x.test", "title": "X", "start_index": 0, "end_index": 2}
CODE = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": None}
MCP = {"type": "mcp_call", "server_label": "db", "name": "query"}
CALLS = {
    "web": {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "tea"}},
    "file": {"type": "file_search_call", "id": "fs_1", "queries": ["tea"], "results": None},
    "image": {"type": "image_generation_call", "id": "ig_1", "result": None},
    "function": {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""},
    "custom": {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "shell", "input": ""},
    "list": {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "db", "tools": []},
    "lost_list": {"type": "mcp_list_tools", "id": "mcpl_2", "server_label": "no", "tools": [], "error": "gone"},
    "mcp": {**MCP, "id": "mcp_1", "arguments": ""},
    "lost_mcp": {**MCP, "id": "mcp_2", "arguments": "{}"},
}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}


def text(words, *notes):
    return {"type": "output_text", "text": words, "annotations": list(notes), "logprobs": []}


def response(status, *output, **more):
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-5-mini",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if status in ("completed", "incomplete") else None,
        **more,
    }


class Script:
    """Events in the order in which they are said, numbered as the service numbers them."""

    def __init__(self):
        self.events = []
        self.output = []

    def say(self, kind, **fields):
        self.events.append({"type": kind, "sequence_number": len(self.events), **fields})

    def begin(self, item):
        """An item that begins; what is said of it until `end` names it."""
        self._item = {**item, "status": "in_progress"}
        self.say("response.output_item.added", output_index=len(self.output), item=self._item)

    def of_item(self, kind, **fields):
        self.say(kind, item_id=self._item["id"], output_index=len(self.output), **fields)

    def of_part(self, kind, **fields):
        self.of_item(kind, content_index=0, **fields)

    def end(self, status="completed", **found):
        self._item = {**self._item, "status": status, **found}
        self.say("response.output_item.done", output_index=len(self.output), item=self._item)
        self.output.append(self._item)

    def call(self, name, *steps, last="completed", **found):
        """A built-in tool's call that goes through its steps."""
        self.begin(CALLS[name])
        for step in (*steps, last):
            self.of_item(f"response.{CALLS[name]['type']}.{step}")
        self.end("failed" if last == "failed" else "completed", **found)

    def start(self, *, background=False):
        status = "queued" if background else "in_progress"
        self.say("response.created", response=response(status))
        if background:
            self.say("response.queued", response=response(status))
        self.say("response.in_progress", response=response("in_progress"))

    def stop(self, status, **more):
        self.say(f"response.{status}", response=response(status, *self.output, **more))


def everything():
    """One answer that uses every tool there is: reasoning, searches, code, a picture, MCP, calls, a cited text."""
    script = Script()
    script.start(background=True)
    _reasoning(script)
    script.call("web", "in_progress", "searching")
    script.call("file", "in_progress", "searching", results=[])
    _code(script)
    _picture(script)
    script.call("list", "in_progress")
    script.call("lost_list", "in_progress", last="failed")
    _mcp(script)
    lost = {"type": "http_error", "code": 502, "message": "gone"}
    script.call("lost_mcp", "in_progress", last="failed", error=lost)
    _message(script)
    _calls(script)
    script.stop("completed")
    return script.events


def _reasoning(script):
    script.begin(REASONING)
    part = {"type": "summary_text", "text": ""}
    script.of_item("response.reasoning_summary_part.added", summary_index=0, part=part)
    for piece in ("Let me ", "think."):
        script.of_item("response.reasoning_summary_text.delta", summary_index=0, delta=piece)
    script.of_item("response.reasoning_summary_text.done", summary_index=0, text="Let me think.")
    script.of_item("response.reasoning_summary_part.done", summary_index=0, part={**part, "text": "Let me think."})
    raw = {"type": "reasoning_text", "text": "Hm."}
    script.of_part("response.content_part.added", part={**raw, "text": ""})
    script.of_part("response.reasoning_text.delta", delta="Hm.")
    script.of_part("response.reasoning_text.done", text="Hm.")
    script.of_part("response.content_part.done", part=raw)
    script.end(summary=[{**part, "text": "Let me think."}], content=[raw], encrypted_content="gAAAAAB")


def _code(script):
    script.begin({**CODE, "code": ""})
    script.of_item("response.code_interpreter_call.in_progress")
    script.of_item("response.code_interpreter_call_code.delta", delta="1 + 2")
    script.of_item("response.code_interpreter_call_code.done", code="1 + 2")
    script.of_item("response.code_interpreter_call.interpreting")
    script.of_item("response.code_interpreter_call.completed")
    script.end(code="1 + 2", outputs=[{"type": "logs", "logs": "3"}])


def _picture(script):
    script.begin(CALLS["image"])
    for step in ("in_progress", "generating"):
        script.of_item(f"response.image_generation_call.{step}")
    about = {"background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"}
    kind = "response.image_generation_call.partial_image"
    script.of_item(kind, partial_image_index=0, partial_image_b64=PICTURE, **about)
    script.of_item("response.image_generation_call.completed")
    script.end(result=PICTURE, output_format="png")


def _mcp(script):
    script.begin(CALLS["mcp"])
    script.of_item("response.mcp_call.in_progress")
    script.of_item("response.mcp_call_arguments.delta", delta="{}")
    script.of_item("response.mcp_call_arguments.done", arguments="{}")
    script.of_item("response.mcp_call.completed")
    script.end(arguments="{}", output="7")


def _message(script):
    script.begin(MESSAGE)
    script.of_part("response.content_part.added", part=text(""))
    for piece in ("It", " is", " 3."):
        script.of_part("response.output_text.delta", delta=piece, logprobs=[])
    script.of_part("response.output_text.annotation.added", annotation=NOTE, annotation_index=0)
    script.of_part("response.output_text.done", text="It is 3.", logprobs=[])
    script.of_part("response.content_part.done", part=text("It is 3.", NOTE))
    script.end(content=[text("It is 3.", NOTE)])


def _calls(script):
    script.begin(CALLS["function"])
    for piece in ('{"x"', ": 1}"):
        script.of_item("response.function_call_arguments.delta", delta=piece)
    script.of_item("response.function_call_arguments.done", name="f", arguments='{"x": 1}')
    script.end(arguments='{"x": 1}')
    script.begin(CALLS["custom"])
    script.of_item("response.custom_tool_call_input.delta", delta="ls")
    script.of_item("response.custom_tool_call_input.done", input="ls")
    script.end(input="ls")


def refused():
    """An answer that is cut by the content filter while the model refuses."""
    script = Script()
    script.start()
    script.begin(MESSAGE)
    part = {"type": "refusal", "refusal": "No."}
    script.of_part("response.content_part.added", part={**part, "refusal": ""})
    script.of_part("response.refusal.delta", delta="No.")
    script.of_part("response.refusal.done", refusal="No.")
    script.of_part("response.content_part.done", part=part)
    script.end("incomplete", content=[part])
    script.stop("incomplete", incomplete_details={"reason": "content_filter"})
    return script.events


def failed():
    """An answer that fails."""
    script = Script()
    script.start()
    script.stop("failed", error={"code": "server_error", "message": "The model broke."})
    return script.events


def broken():
    """A stream that ends in an error."""
    script = Script()
    script.start()
    script.say("error", code="server_error", message="The server broke.", param=None)
    return script.events


def unmapped():
    """Events that have no constant, in an answer that ends well."""
    script = Script()
    script.start()
    script.say("response.audio.delta", delta="AA==")
    script.say("response.shell_call_command.delta", delta="ls", command_index=0, output_index=0)
    script.say("keepalive")
    _message(script)
    script.stop("completed")
    return script.events
