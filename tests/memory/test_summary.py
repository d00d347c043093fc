"""What a summary model is shown, which of its answers are taken, and what is kept when it gives none."""

from __future__ import annotations

import copy
import json
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxnb.errors import SummaryError
from voxnb.memory.past import PastTurn, Said
from voxnb.memory.sentence import (
    REPEATED_LINES,
    cut_at_sentence,
    one_line,
    sentence_ends,
    sentences,
    shorten,
    without_repetition,
)
from voxnb.memory.summary import (
    CLOSING,
    MESSAGES,
    NO_PREVIOUS,
    PREVIOUS,
    accept,
    chunks,
    extract,
    prompt_warnings,
    request_messages,
    transcript,
)
from voxnb.params import DEFAULT_SUMMARY_PROMPT

MARK = "0badcafe"


def words(text):
    """A count that every test can follow: the words."""
    return len(text.split())


def said(role, text="", **extra):
    return Said(0, role, text, extra or None, 10)


def turn(*messages, seq=1, state="complete"):
    messages = tuple(m._replace(position=n) for n, m in enumerate(messages))
    return PastTurn(seq, f"t{seq}", seq, state, messages)


def call(identity, name="weather", arguments='{"city": "Zürich"}'):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


# -- transcript -------------------------------------------------------------------------------


def lines_of(*messages, **more):
    return list(transcript([turn(*messages, **more)]))


def test_every_message_is_one_line_of_who_said_what():
    assert lines_of(said("system", "Be brief."), said("user", " Hi \n"), said("assistant", "Hello.")) == [
        "System: Be brief.",
        "User: Hi",
        "Assistant: Hello.",
    ]


def test_a_name_stands_beside_the_role():
    assert lines_of(said("user", "Hi", name="alice")) == ["User alice: Hi"]


def test_calls_and_results_are_shown_once_with_name_arguments_and_text():
    lines = lines_of(
        said("user", "Weather?"),
        said("assistant", content=None, tool_calls=[call("a"), call("b", "time", '{"zone": "CET"}')]),
        said("tool", "noon", tool_call_id="b"),
        said("tool", "3 degrees", tool_call_id="a"),
        said("assistant", "Cold."),
    )
    assert lines == [
        "User: Weather?",
        'Assistant called weather({"city": "Zürich"})',
        'Assistant called time({"zone": "CET"})',
        "Result of time: noon",
        "Result of weather: 3 degrees",
        "Assistant: Cold.",
    ]


def test_calls_of_other_kinds_are_shown_too():
    custom = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    assert lines_of(said("assistant", tool_calls=[custom])) == ["Assistant called sql(SELECT 1)"]
    legacy = said("assistant", content=None, function_call={"name": "f", "arguments": "{}"})
    assert lines_of(legacy, said("function", "7", name="f")) == ["Assistant called f({})", "Result of f: 7"]


def test_arguments_that_are_no_text_keep_their_letters():
    strange = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"city": "東京"}}}
    assert lines_of(said("assistant", tool_calls=[strange])) == ['Assistant called f({"city": "東京"})']


def test_a_result_whose_call_is_unknown_is_still_shown():
    assert lines_of(said("tool", "42", tool_call_id="x")) == ["Result of tool: 42"]


PARTS = [
    ([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}], "User: look [image]"),
    ([{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "x"}], "User: look [image]"),
    ([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}], "User: [audio]"),
    ([{"type": "input_audio", "transcript": "Order 4711."}], "User: Order 4711."),
    ([{"type": "file", "file": {"filename": "report.pdf", "file_data": "AAAA"}}], "User: [file report.pdf]"),
    ([{"type": "input_file", "filename": "a.csv"}], "User: [file a.csv]"),
    ([{"type": "novel", "held": 1}], "User: [novel]"),
    ([{"type": "refusal", "refusal": "I will not."}], "User: (refused: I will not.)"),
]


@pytest.mark.parametrize(("content", "line"), PARTS)
def test_every_kind_of_content_has_its_rule(content, line):
    text = "\n".join(p["text"] for p in content if "text" in p)
    assert lines_of(said("user", text, content=content)) == [line]


def test_what_was_spoken_or_refused_is_a_fact_too():
    spoken = said("assistant", content=None, audio={"id": "audio_1", "transcript": "It is 3 degrees."})
    assert lines_of(spoken) == ["Assistant: It is 3 degrees."]
    assert lines_of(said("assistant", content=None, refusal="I will not.")) == ["Assistant refused: I will not."]


def test_a_reply_that_was_cut_off_is_said_to_be():
    assert lines_of(said("user", "Hi"), said("assistant", "Hel"), state="partial") == [
        "User: Hi",
        "Assistant: Hel",
        "(the assistant's reply was cut off here)",
    ]


def test_silence_makes_no_line():
    assert lines_of(said("user", "  "), said("assistant", content=None)) == []
    assert list(transcript([])) == []


facts = st.lists(st.integers(10_000, 99_999).map(lambda n: f"F{n}"), min_size=12, max_size=12, unique=True)


@given(facts, st.permutations(["a", "b", "c"]), st.booleans())
def test_every_fact_reaches_the_summary_model_exactly_once(said_facts, order, partial):
    f = iter(said_facts)
    past = turn(
        said("user", f"my number is {next(f)}", content=[{"type": "text", "text": "x"}]),
        said("assistant", f"checking {next(f)}", tool_calls=[call(i, next(f), f'{{"q": "{next(f)}"}}') for i in "abc"]),
        *(said("tool", f"found {next(f)}", tool_call_id=i) for i in order),
        said("assistant", f"it is {next(f)}"),
        state="partial" if partial else "complete",
    )
    text = "\n".join(transcript([past]))
    shown = "".join(m.text for m in past.messages) + json.dumps([m.extra for m in past.messages], ensure_ascii=False)
    for fact in said_facts:
        # A tool's name stands in its call and before its result; all else once.
        is_name = any(
            fact == c["function"]["name"] for m in past.messages for c in (m.extra or {}).get("tool_calls", ())
        )
        assert text.count(fact) == (2 if is_name else shown.count(fact))


# -- request ----------------------------------------------------------------------------------


def test_the_documented_prompt_is_the_system_message_and_the_rest_stands_around_it():
    messages = request_messages(DEFAULT_SUMMARY_PROMPT, previous=None, lines="User: Hi", mark=MARK)
    assert messages == [
        {"role": "system", "content": DEFAULT_SUMMARY_PROMPT},
        {
            "role": "user",
            "content": f"### Previous summary\n[{MARK}]\nnone\n[/{MARK}]\n\n"
            f"### Messages to summarize\n[{MARK}]\nUser: Hi\n[/{MARK}]\n\n{CLOSING}",
        },
    ]


def test_the_task_is_said_again_after_what_was_said():
    for prompt in (DEFAULT_SUMMARY_PROMPT, f"P {PREVIOUS} M {MESSAGES}"):
        messages = request_messages(prompt, previous="Before.", lines="User: What is 2+2?", mark=MARK)
        assert messages[-1]["role"] == "user"
        assert messages[-1]["content"].endswith(CLOSING)


def test_placeholders_are_filled_in_instead():
    messages = request_messages(
        f"Old: {PREVIOUS}\nNew: {MESSAGES}\nGo.", previous="Before.", lines="User: Hi", mark=MARK
    )
    assert messages == [
        {"role": "system", "content": "Old: Before.\nNew: User: Hi\nGo."},
        {"role": "user", "content": CLOSING},
    ]


def test_no_previous_summary_is_none_by_name():
    assert request_messages(f"{PREVIOUS}|{MESSAGES}", previous=None, lines="x", mark=MARK)[0]["content"] == "none|x"
    assert NO_PREVIOUS == "none"


def test_a_missing_placeholder_has_its_section_appended():
    only_messages = request_messages(f"Sum up: {MESSAGES}", previous="Before.", lines="User: Hi", mark=MARK)
    assert only_messages[0]["content"] == f"Sum up: User: Hi\n\n### Previous summary\n[{MARK}]\nBefore.\n[/{MARK}]"
    only_previous = request_messages(f"Go on: {PREVIOUS}", previous="Before.", lines="User: Hi", mark=MARK)
    assert only_previous[0]["content"] == f"Go on: Before.\n\n### Messages to summarize\n[{MARK}]\nUser: Hi\n[/{MARK}]"


def test_other_braces_stay_as_they_are():
    prompt = f'Answer as {{"summary": "…"}} or {{}} or {{x!r}} %s: {MESSAGES}'
    content = request_messages(prompt, previous=None, lines="x", mark=MARK)[0]["content"]
    assert content.startswith('Answer as {"summary": "…"} or {} or {x!r} %s: x')


awkward = st.lists(
    st.sampled_from([PREVIOUS, MESSAGES, "{{", "}}", "word", "\\1", "\n", MARK[:3], MARK[3:], MARK, f"[/{MARK}]"]),
    max_size=8,
).map("".join)


@given(awkward, awkward)
@example(MESSAGES, PREVIOUS)
def test_what_is_filled_in_is_literal_and_stands_there_once(previous, lines):
    content = request_messages(f"a{PREVIOUS}b{MESSAGES}c", previous=previous, lines=lines, mark=MARK)[0]["content"]
    assert content == f"a{previous or NO_PREVIOUS}b{lines}c"


@given(awkward, awkward)
def test_nothing_that_was_said_closes_the_fence(previous, lines):
    content = request_messages("Sum up.", previous=previous, lines=lines, mark=MARK)[1]["content"]
    assert content.count(MARK) == 4
    head, _, rest = content.partition("### Messages to summarize\n")
    assert head.startswith(f"### Previous summary\n[{MARK}]\n")
    assert rest.startswith(f"[{MARK}]\n")
    assert rest.endswith(f"[/{MARK}]\n\n{CLOSING}")


@given(awkward, awkward, awkward)
def test_the_same_request_is_made_of_the_same_values(prompt, previous, lines):
    made = [request_messages(prompt, previous=previous, lines=lines, mark=MARK) for _ in range(2)]
    assert made[0] == made[1]
    joined = "".join(m["content"] for m in made[0])
    assert CLOSING in joined


NEAR = [
    ("{messages}", MESSAGES),
    ("{{ messages }}", MESSAGES),
    ("{{message}}", MESSAGES),
    ("{{Messages}}", MESSAGES),
    ("{conversation}", MESSAGES),
    ("{{history}}", MESSAGES),
    ("{chat_history}", MESSAGES),
    ("{{transcript}}", MESSAGES),
    ("{previous_summary}", PREVIOUS),
    ("{{previous summary}}", PREVIOUS),
    ("{{previousSummary}}", PREVIOUS),
    ("{summary}", PREVIOUS),
    ("{{ prev_summary }}", PREVIOUS),
]


@pytest.mark.parametrize(("written", "meant"), NEAR)
def test_a_near_miss_of_a_placeholder_warns_and_names_what_was_meant(written, meant):
    assert prompt_warnings(f"Sum up {written} now.") == [
        f"summary_prompt has {written!r}, which is kept as it stands; did you mean {meant!r}?"
    ]


@pytest.mark.parametrize(
    "prompt",
    [DEFAULT_SUMMARY_PROMPT, f"{PREVIOUS} {MESSAGES}", "{}", "{x}", '{"summary": 1}', "{{name}}", "messages", ""],
)
def test_what_is_no_near_miss_does_not_warn(prompt):
    assert prompt_warnings(prompt) == []


# -- chunks -----------------------------------------------------------------------------------

transcripts = st.lists(st.text("ab 12.\n。é", max_size=60), max_size=12)


def squeezed(text):
    return "".join(text.split())


@given(transcripts, st.integers(2, 80), st.sampled_from([len, words, lambda t: len(t.encode()) // 2]))
def test_the_pieces_hold_all_characters_in_their_order(lines, limit, count):
    pieces = chunks(lines, limit_tokens=limit, count=count)
    assert "".join(pieces).replace("\n", "") == "".join(lines).replace("\n", "")
    assert squeezed("".join(pieces)) == squeezed("".join(lines))


@given(transcripts, st.integers(2, 80))
def test_every_piece_fits(lines, limit):
    for piece in chunks(lines, limit_tokens=limit, count=len):
        assert len(piece) <= limit


@given(transcripts)
def test_what_fits_is_one_piece_with_its_lines(lines):
    pieces = chunks(lines, limit_tokens=10_000, count=len)
    assert pieces == (["\n".join(lines)] if lines else [])


@given(st.lists(st.text("ab ", min_size=1, max_size=20), max_size=12), st.integers(25, 60))
def test_lines_that_fit_are_not_cut_and_pieces_are_filled(lines, limit):
    pieces = chunks(lines, limit_tokens=limit, count=len)
    assert [line for piece in pieces for line in piece.split("\n")] == lines
    for piece, following in pairwise(pieces):
        assert len(piece) + len(following.split("\n")[0]) + 2 > limit


def test_a_long_line_is_cut_at_a_space():
    pieces = chunks(["number 4711 " * 100], limit_tokens=50, count=words)
    assert all("4711" in piece for piece in pieces)
    assert "".join(pieces).count("4711") == 100


def test_a_line_without_spaces_is_cut_anyway():
    pieces = chunks(["x" * 1000], limit_tokens=100, count=len)
    assert max(map(len, pieces)) <= 100
    assert "".join(pieces).replace("\n", "") == "x" * 1000


@pytest.mark.parametrize("limit", [1, 0, -5])
def test_a_limit_that_holds_nothing_loses_nothing_and_ends(limit):
    assert squeezed("".join(chunks(["abc def"], limit_tokens=limit, count=len))) == "abcdef"


def test_two_megabytes_are_cut_in_linear_time():
    began = time.perf_counter()
    pieces = chunks(["word " * 400_000], limit_tokens=20_000, count=len)
    assert sum(map(len, pieces)) >= 2_000_000
    assert time.perf_counter() - began < 5.0


# -- an answer that is taken ------------------------------------------------------------------

SOURCE = "User: My name is Alice, order 4711 of 2024-05-01 costs 1,200 francs.\nAssistant: Noted."


def take(answer, **more):
    given_values = {
        "cut": False, "source": SOURCE, "previous": None, "last_user": "My name is Alice.", "max_tokens": 100,
        "replaced_tokens": 1000, "count": words,
    }  # fmt: skip
    return accept(answer, **(given_values | more))


def refused(answer, reason, **more):
    with pytest.raises(SummaryError) as caught:
        take(answer, **more)
    assert caught.value.reason == reason
    assert caught.value.text == answer
    return str(caught.value)


def test_a_good_summary_is_taken_as_it_is():
    accepted = take("  Alice asked about order 4711.\n- It costs 1,200 francs.\n")
    assert accepted.text == "Alice asked about order 4711.\n- It costs 1,200 francs."
    assert (accepted.quality, accepted.flags) == ("full", ())


def test_a_whole_summary_needs_no_full_stop():
    assert take("Order 4711, Alice").text == "Order 4711, Alice"


def test_thinking_is_taken_out():
    for answer in (
        "<think>\nHm, 99 bottles.\n</think>\n\nAlice has order 4711.",
        "<Thinking>a</Thinking><think>b</think>Alice has order 4711.",
        "Hm, let me see.\n</think>\nAlice has order 4711.",
    ):
        assert take(answer).text == "Alice has order 4711."
        assert take(answer).flags == ()


def test_a_summary_that_speaks_of_think_tags_keeps_them():
    text = "Alice asked what <think> and </think> mean."
    assert take(text).text == text


@pytest.mark.parametrize(
    "answer",
    ["", "  \n ", "<think>only this</think>", "<think>this never ended. It went on.", "...", "```\n```", "a</think>"],
)
def test_nothing_said_is_refused(answer):
    assert "wrote nothing" in refused(answer, "empty", cut=True)


def test_a_summary_that_saves_nothing_is_refused():
    text = "Alice has order 4711."
    assert "replaces 4: nothing would be saved" in refused(text, "growing", replaced_tokens=4)
    assert take(text, replaced_tokens=5).text == text


# -- an answer that is cut --------------------------------------------------------------------


def test_a_summary_cut_in_the_middle_of_a_sentence_ends_at_the_last_whole_one():
    accepted = take("Alice has order 4711. It costs 1,200 francs. She wants to kn", cut=True)
    assert (accepted.text, accepted.quality) == ("Alice has order 4711. It costs 1,200 francs.", "cut")


def test_a_summary_cut_where_a_sentence_ended_is_whole():
    assert take("Alice has order 4711.", cut=True).text == "Alice has order 4711."
    assert take('She said "yes."', cut=True).text == 'She said "yes."'


def test_a_summary_cut_at_the_end_of_a_line_keeps_the_line():
    assert take("- name: Alice\n- order: 4711\n", cut=True).text == "- name: Alice\n- order: 4711"
    assert take("- name: Alice\n- order: 47", cut=True).text == "- name: Alice"


def test_the_number_of_a_list_is_no_sentence():
    assert take("1. Alice has order 4711.\n2. She wan", cut=True).text == "1. Alice has order 4711."
    assert take("Facts:\n1. Ali", cut=True).text == "Facts:"


def test_a_decimal_point_ends_nothing():
    assert take("Order 4711 is there. It costs 3.5 fr", cut=True).text == "Order 4711 is there."


SCRIPTS = [
    ("日本語", "アリスは注文4711を持っている。値段は1200フラン。彼女は知り", "アリスは注文4711を持っている。値段は1200フラン。"),
    ("中文", "爱丽丝的订单是4711。它很贵！她想知道为什么？然后她", "爱丽丝的订单是4711。它很贵！她想知道为什么？"),
    ("quotes", "彼女は「はい。」と言った。次に「", "彼女は「はい。」と言った。"),
    ("العربية", "لدى أليس الطلب 4711. هل هو غال؟ نعم هو", "لدى أليس الطلب 4711. هل هو غال؟"),
    ("اردو", "ایلس کا آرڈر 4711 ہے۔ وہ مہنگا", "ایلس کا آرڈر 4711 ہے۔"),
    ("हिन्दी", "ऐलिस का ऑर्डर 4711 है। वह महँगा", "ऐलिस का ऑर्डर 4711 है।"),
    ("Русский", "У Алисы заказ 4711. Она хоч", "У Алисы заказ 4711."),
    ("Ελληνικά", "Η Αλίκη έχει την 4711. Θέλ", "Η Αλίκη έχει την 4711."),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "kept"), [row[1:] for row in SCRIPTS], ids=[row[0] for row in SCRIPTS])
def test_sentences_end_in_every_script(answer, kept):
    assert take(answer, cut=True, source=answer, count=len).text == kept


def test_a_summary_over_its_budget_is_cut_to_it():
    text = " ".join(f"Sentence number {n} is here." for n in range(10, 40))
    accepted = take(text, max_tokens=20, source=text)
    assert (words(accepted.text), accepted.quality) == (20, "cut")
    assert text.startswith(accepted.text)


def test_a_budget_without_a_whole_sentence_is_refused_with_what_to_change():
    message = refused("one two three four five six seven.", "long", max_tokens=3)
    assert "no whole sentence within 3 tokens; raise summary_max_tokens" in message
    refused("Alice has an order that never comes to an en", "long", cut=True)


bodies = st.lists(
    st.sampled_from(["Alice.", "Bob has 3.5!", "四。", "no end", "1.", '"Yes."', "x", "é…", "؟", "\n", "- item"]),
    min_size=1,
    max_size=12,
).map(" ".join)


@given(bodies, st.integers(0, 30), st.sampled_from([words, len]))
def test_a_cut_keeps_a_beginning_that_fits_and_ends_whole(text, limit, count):
    kept = cut_at_sentence(text, limit_tokens=limit, count=count)
    assert count(kept) <= limit
    assert text.strip().startswith(kept)
    assert kept == kept.strip()
    if kept and kept != text.strip():
        assert len(kept) in {len(text[:end].rstrip()) - (len(text) - len(text.lstrip())) for end in sentence_ends(text)}
    again = cut_at_sentence(kept + "\n", limit_tokens=limit, count=count)
    assert again == kept


@given(bodies, st.integers(0, 30))
def test_a_larger_budget_keeps_no_less(text, limit):
    assert cut_at_sentence(text, limit_tokens=limit + 1, count=words).startswith(
        cut_at_sentence(text, limit_tokens=limit, count=words)
    )


@given(bodies)
def test_sentences_hold_the_whole_text(text):
    assert squeezed("".join(sentences(text))) == squeezed(text)
    assert all(part == part.strip() and part for part in sentences(text))


# -- an answer that does not stop -------------------------------------------------------------


def test_one_line_again_and_again_is_refused():
    for count in (REPEATED_LINES, 40):
        refused("Order is here.\n" * count, "repeating")
        refused("- Order is here.\n\n" * count, "repeating")
    refused("The order. " * 30, "repeating", cut=True)
    refused("and then and then " * 30, "repeating", cut=True)


def test_what_was_said_before_the_loop_is_kept():
    good = "Alice asked about order 4711.\nIt costs 1,200 francs."
    for loop in ("\nShe waits." * 20, "\nShe waits.\nShe hopes." * 10, "\n1. She waits.\n2. She waits.\n3. She waits."):
        accepted = take(good + loop, cut=True)
        assert accepted.text.startswith(good)
        assert accepted.text.count("She waits.") == 1
        assert accepted.quality == "cut"


def test_a_loop_that_was_cut_in_its_last_line_is_a_loop():
    accepted = take("Alice asked what the order costs.\nShe waits.\nShe waits.\nShe wai", cut=True)
    assert accepted.text == "Alice asked what the order costs.\nShe waits."


def test_a_last_line_without_a_full_stop_survives_the_loop_after_it():
    assert take("- Alice asked\n" + "- order 4711 is open for her\n" * 9, cut=True).text == (
        "- Alice asked\n- order 4711 is open for her"
    )


def test_one_long_sentence_over_and_over_in_one_line_is_kept_once():
    long = "Alice, who has order 4711, asked what it costs and was told that it costs 1,200 francs in all. "
    accepted = take(long * 12, cut=True)
    assert accepted.text == long.strip()
    assert accepted.quality == "cut"


def test_lines_that_come_again_in_other_places_are_no_loop():
    text = "## A\n- Status: open\n## B\n- Status: open\n## C\n- Status: open\n## D\n- Status: done\n- Owner: Alice"
    assert take(text).text == text
    assert take(text).quality == "full"


def test_a_loop_makes_a_summary_a_cut_one_also_where_the_model_stopped_by_itself():
    accepted = take("Alice asked what the order costs.\n" + "She waits for an answer.\n" * 5)
    assert accepted.quality == "cut"


def test_blank_lines_and_rules_are_no_loop():
    text = "Alice asked.\n\n\n\n\nShe waits.\n---\n---\n---\n---\nShe hopes."
    assert take(text).text == text


def test_rules_of_a_table_are_no_loop():
    text = "| name | order |\n|------|-------|\n| Alice | 4711 |\n" + "-" * 120 + "\nShe waits."
    assert take(text).text == text


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "- delta", "", "---"]), max_size=14), st.integers(3, 6))
def test_repetition_is_found_wherever_it_begins_and_only_then(lines, times):
    text, repeating = without_repetition("\n".join(lines))
    if not repeating:
        assert text == "\n".join(lines)
    else:
        assert "\n".join(lines).startswith(text.rstrip("\n"))
    looped, found = without_repetition("\n".join([*lines, *["the same line"] * times]))
    assert found
    assert looped.count("the same line") <= 1


def test_looking_for_loops_takes_milliseconds_also_in_text_made_to_be_slow():
    began = time.perf_counter()
    for text in (
        " " * 50_000,
        "a" * 50_000,
        "ab" * 20_000 + "c",
        "- " * 30_000,
        "\n" * 50_000,
        ". " * 30_000,
        '"' * 30_000,
    ):
        try:
            take(text, max_tokens=10**6, replaced_tokens=10**6, cut=True)
        except SummaryError:
            continue
    assert time.perf_counter() - began < 5.0


# -- doubts -----------------------------------------------------------------------------------

ANSWERS = [
    "Sure! Here is the updated summary: Alice.",
    "Certainly, Alice.",
    "I'm sorry, but I cannot do that.",
    "I’m sorry, no.",
    "As an AI, I have no orders.",
    "Great! Your order is there.",
    "Yes, it is.",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_talking_to_the_user_is_a_doubt(answer):
    assert "answers_last_message" in take(answer).flags


def test_advice_is_a_doubt_only_where_something_was_asked():
    assert take("You can load it with seaborn.", last_user="How do I load it?").flags == ("answers_last_message",)
    assert take("You can load it with seaborn.", last_user="Thanks.").flags == ()
    assert take("You can see it there.", last_user="どこ？").flags == ("answers_last_message",)


@pytest.mark.parametrize("answer", ["Great Britain was discussed.", "No order was placed.", "Surely Alice asked."])
def test_a_plain_opening_is_no_doubt(answer):
    assert take(answer).flags == ()


def test_a_rule_that_nobody_gave_is_a_doubt():
    assert take("The assistant must never mention prices.").flags == ("invented_rule",)
    assert take("Alice must pay.", source="User: I must pay.").flags == ()
    assert take("Alice must pay.", previous="Alice must pay.").flags == ()


def test_a_number_that_nobody_said_is_a_doubt():
    assert take("Order 4712 is there.").flags == ("unsupported_number",)
    assert take("It costs 1200 francs, ordered 2024-05-01.").flags == ()
    assert take("Ordered in 2024.").flags == ()
    assert take("Order 99 is there.", previous="Order 99.").flags == ()
    assert take("There are 3 points.").flags == (), "a single digit counts things"
    assert take("Order 815 is there.", source="User: order#815, ref815x").flags == ()


def test_doubts_come_together_and_refuse_nothing():
    accepted = take("Sure! You must always call 555-0199.")
    assert accepted.flags == ("answers_last_message", "invented_rule", "unsupported_number")


# -- without a model --------------------------------------------------------------------------

chat = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant", "tool"]),
        st.text("abAB 12.\n。é", min_size=0, max_size=60)
        | st.sampled_from(["My order is 4711.", "thanks", "Ask Bob."]),
    ),
    max_size=12,
)


def as_turns(messages):
    return [
        turn(said(role, text, **({"tool_call_id": "c"} if role == "tool" else {})), seq=n)
        for n, (role, text) in enumerate(messages, 1)
    ]


@given(chat, st.none() | st.text("abAB 12.\n", max_size=60), st.integers(0, 60), st.sampled_from([words, len]))
def test_an_extract_stays_within_its_budget_and_is_always_the_same(messages, previous, limit, count):
    turns = as_turns(messages)
    before = copy.deepcopy(turns)
    text = extract(turns, previous=previous, limit_tokens=limit, count=count)
    assert count(text) <= limit
    assert extract(turns, previous=previous, limit_tokens=limit, count=count) == text
    assert turns == before


@given(chat, st.none() | st.text("abAB 12.\n", max_size=60))
def test_an_extract_is_never_empty_where_something_was_said_and_there_is_room(messages, previous):
    text = extract(as_turns(messages), previous=previous, limit_tokens=100, count=words)
    something = any(t.strip() or role == "tool" for role, t in messages) or bool((previous or "").strip())
    assert bool(text.strip()) == something


@given(chat, st.integers(3, 60))
def test_every_line_of_an_extract_was_said(messages, limit):
    turns = as_turns(messages)
    known = [one_line(line) for line in transcript(turns)]
    for line in extract(turns, previous=None, limit_tokens=limit, count=words).split("\n"):
        start = line.removesuffix(" …")
        assert not line or any(whole.startswith(start) for whole in known)


def test_the_newest_facts_are_kept_and_stand_in_the_order_they_were_said():
    turns = [turn(said("user", f"Order {n} is for Alice."), said("assistant", "Noted."), seq=n) for n in range(10, 20)]
    text = extract(turns, previous="Order 1 was for Bob.", limit_tokens=21, count=words)
    assert text == "User: Order 17 is for Alice.\nUser: Order 18 is for Alice.\nUser: Order 19 is for Alice."


def test_lines_with_facts_go_before_lines_without():
    turns = [turn(said("user", "my order is 4711")), turn(said("user", "thanks a lot for that"), seq=2)]
    assert extract(turns, previous=None, limit_tokens=6, count=words) == "User: my order is 4711"


def test_without_any_fact_the_newest_line_is_kept():
    turns = [turn(said("user", "hello there")), turn(said("user", "thanks a lot"), seq=2)]
    assert extract(turns, previous=None, limit_tokens=5, count=words) == "User: thanks a lot"


def test_facts_that_only_a_tool_said_are_kept():
    turns = [
        turn(
            said("user", "look"), said("assistant", tool_calls=[call("a")]), said("tool", "3 degrees", tool_call_id="a")
        )
    ]
    assert extract(turns, previous=None, limit_tokens=50, count=words) == "Result of weather: 3 degrees"


def test_the_previous_summary_is_kept_where_there_is_room():
    turns = [turn(said("user", "Order 4711."))]
    text = extract(turns, previous="alice asked. she waits.\n- for bob", limit_tokens=50, count=words)
    assert text == "alice asked.\nshe waits.\n- for bob\nUser: Order 4711."
    text = extract(turns, previous="alice asked. " + "she waits " * 50 + ".", limit_tokens=9, count=words)
    assert text == "alice asked.\nUser: Order 4711.", "a sentence that is too long does not take the others with it"


def test_a_fact_longer_than_the_budget_is_shortened():
    turns = [turn(said("user", "Order 4711 " + "and more " * 40))]
    text = extract(turns, previous=None, limit_tokens=6, count=words)
    assert text == "User: Order 4711 and more …"


def test_where_the_user_said_nothing_in_words_the_assistant_is_quoted():
    turns = [turn(said("assistant", "Welcome to shop 17."))]
    assert extract(turns, previous=None, limit_tokens=50, count=words) == "Assistant: Welcome to shop 17."


FACTS = [
    ("call bob at 5", True), ("ask Bob about it", True), ("it is in data/raw", True), ("see snake_case", True),
    ("bob@example.com", True), ("Thanks a lot.", False), ("ok. Great. thanks", False), ("спасибо большое", False),
    ("спроси Ивана об этом", True), ("アリスに聞いて", True), ("قل لأحمد ذلك", True), ("问问王先生", True), ("спасибо. Хорошо", False),
]  # fmt: skip


@pytest.mark.parametrize(("line", "holds"), FACTS)
def test_names_numbers_paths_and_addresses_are_facts_in_every_script(line, holds):
    turns = [turn(said("user", line)), turn(said("user", "Order 4711."), seq=2)]
    text = extract(turns, previous=None, limit_tokens=50, count=words)
    assert text == (f"User: {line}\nUser: Order 4711." if holds else "User: Order 4711.")


def test_a_long_result_gives_its_beginning_and_its_end():
    text = one_line("start " + "x" * 5_000 + " end")
    assert len(text) <= 404
    assert text.startswith("start x")
    assert text.endswith("x end")
    assert one_line(" a\n\n b\t c ") == "a b c"


@given(st.text(max_size=80), st.integers(0, 30))
def test_a_shortened_text_fits_and_says_that_it_is_one(text, limit):
    short = shorten(text, limit_tokens=limit, count=len)
    assert len(short) <= limit
    assert not short or (short.endswith(" …") and text.startswith(short.removesuffix(" …")))
