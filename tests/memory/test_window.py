"""Windows are known where they are certain, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.memory import window
from voxnb.memory.window import base_name, known_input_limit, known_output_limit, known_window, window_of


@pytest.mark.parametrize(
    ("model", "window_tokens", "output_tokens"),
    [
        ("gpt-3.5-turbo", 16_385, 4_096),
        ("gpt-3.5-turbo-0613", 4_096, 4_096),
        ("gpt-4", 8_192, 8_192),
        ("gpt-4-0613", 8_192, 8_192),
        ("gpt-4-32k", 32_768, 8_192),
        ("gpt-4-turbo-2024-04-09", 128_000, 4_096),
        ("gpt-4o", 128_000, 16_384),
        ("gpt-4o-2024-05-13", 128_000, 4_096),
        ("gpt-4o-mini-2024-07-18", 128_000, 16_384),
        ("openai/gpt-4.1-nano", 1_047_576, 32_768),
        ("ft:gpt-4.1-mini-2025-04-14:acme::x1", 1_047_576, 32_768),
        ("o1-mini", 128_000, 65_536),
        ("o1-2024-12-17", 200_000, 100_000),
        ("o3-mini", 200_000, 100_000),
        ("gpt-5-mini-2025-08-07", 400_000, 128_000),
        ("gpt-5-chat-latest", 128_000, 16_384),
        ("gpt-5.2-chat-latest", 128_000, 16_384),
        ("gpt-5.4-2026-03-05", 1_050_000, 128_000),
        ("gpt-5.4-mini", 400_000, 128_000),
        ("GPT-5.6-Sol", 1_050_000, 128_000),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 8_192, None),
        ("llama2:7b", 4_096, None),
    ],
)
def test_a_familys_longest_name_decides(model, window_tokens, output_tokens):
    assert (known_window(model), known_output_limit(model)) == (window_tokens, output_tokens)


@pytest.mark.parametrize(
    "model",
    [
        None,
        "",
        "my-deployment",
        "qwen2.5:7b",
        "llama3.1:8b",
        "gpt-5.9",
        "gpt-4.7-mini",
        "gpt-5x",
        "o1x",
        "claude-opus-5",
    ],
)
def test_what_is_not_certain_is_not_known(model):
    assert known_window(model) is None
    assert known_output_limit(model) is None
    assert known_input_limit(model) is None


def test_a_request_may_be_limited_beside_the_window():
    assert known_input_limit("gpt-5") == 272_000
    assert known_input_limit("gpt-4o") is None


def test_no_limit_exceeds_its_window():
    for family, limits in window._FAMILIES.items():
        assert window_of(family) == limits
        assert (limits.output_tokens or 0) <= limits.window_tokens
        assert (limits.input_tokens or 0) < limits.window_tokens


@given(name=st.text(max_size=30))
def test_any_text_can_be_asked_for(name):
    assert known_window(name) is None or known_window(name) > 0
    assert base_name(base_name(name)) == base_name(base_name(base_name(name)))
