"""Responses and items as the service sends them, for the tests of the reader and of the conversion."""

from __future__ import annotations

from hypothesis import strategies as st

WORD = st.text('ab \n"{}é🫖', max_size=6)
SAID = st.text('ab \n"{}é🫖', min_size=1, max_size=6)


def text(words, *, annotations=(), logprobs=()):
    return {"type": "output_text", "text": words, "annotations": list(annotations), "logprobs": list(logprobs)}


def message(*parts, identity="msg_1", status="completed", **more):
    content = [text(p) if isinstance(p, str) else p for p in parts]
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": content, **more}


def reasoning(identity="rs_1", *, summary=(), encrypted="gAAAAAB", **more):
    parts = [{"type": "summary_text", "text": t} for t in summary]
    return {"id": identity, "type": "reasoning", "summary": parts, "encrypted_content": encrypted, **more}


def function_call(call_id="call_1", name="f", arguments="{}", *, identity="fc_1", status="completed"):
    kept = {"call_id": call_id, "name": name, "arguments": arguments, "status": status}
    return {"id": identity, "type": "function_call", **kept}


def custom_call(call_id="call_2", name="shell", text="ls", *, identity="ctc_1"):
    return {"id": identity, "type": "custom_tool_call", "call_id": call_id, "name": name, "input": text}


def web_search(identity="ws_1", query="tea"):
    action = {"type": "search", "query": query}
    return {"id": identity, "type": "web_search_call", "status": "completed", "action": action}


def response(*output, status="completed", reason=None, error=None, **more):
    usage = {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 18,
    }
    return {
        "id": "resp_abc",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": "gpt-5-mini",
        "output": list(output),
        "service_tier": "default",
        "usage": usage if status in ("completed", "incomplete") else None,
        **more,
    }


@st.composite
def outputs(draw):
    """The output of a response: every kind that streams text, in any order, ids and call ids unique."""
    made = []
    for n in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["message", "reasoning", "function", "custom", "search", "code", "image", "mcp"]))
        if kind == "message":
            parts = draw(st.lists(st.one_of(SAID.map(text), SAID.map(_refusal)), min_size=1, max_size=2))
            made.append(message(*parts, identity=f"msg_{n}"))
        elif kind == "reasoning":
            made.append(reasoning(f"rs_{n}", summary=draw(st.lists(SAID, max_size=2))))
        elif kind == "function":
            made.append(function_call(f"call_{n}", "tool", draw(SAID), identity=f"fc_{n}"))
        elif kind == "custom":
            made.append(custom_call(f"call_{n}", "shell", draw(SAID), identity=f"ctc_{n}"))
        elif kind == "search":
            made.append(web_search(f"ws_{n}", draw(SAID)))
        elif kind == "code":
            made.append({**_built_in("code_interpreter_call", f"ci_{n}"), "container_id": "c", "code": draw(SAID)})
            made[-1]["outputs"] = [{"type": "logs", "logs": "3"}]
        elif kind == "image":
            made.append({**_built_in("image_generation_call", f"ig_{n}"), "result": "iVBORw0KGgo="})
        else:
            made.append({**_built_in("mcp_call", f"mcp_{n}"), "server_label": "s", "name": "f"})
            made[-1] |= {"arguments": draw(SAID), "output": "done"}
    return made


def _refusal(words):
    return {"type": "refusal", "refusal": words}


def _built_in(kind, identity):
    return {"id": identity, "type": kind, "status": "completed"}
