"""Estimates follow what a server reports: prose within a few percent after three calls, tables on the first one."""

from __future__ import annotations

import inspect
import json
import random
import re

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from voxnb.memory.calibration import PRIORS, WEIGHTS, Calibration, RequestCounts, kind_of, plausible
from voxnb.memory.tally import Features
from voxnb.memory.tokens import count_message
from voxnb.runtime.encodings import RANKS, counter, load, unpack

O200K = counter("o200k_base")

SENTENCES = """
The committee met on Thursday to talk about the remote control, and most of the hour went into the buttons.
I would rather keep the menu small, because nobody reads a manual before they switch the television on.
Could you summarise what the industrial designer said about rubber, and why the others disagreed with her?
Sure. She argued that a soft case survives being dropped, while the marketing expert worried about the price.
That reminds me of my grandmother, who still uses the first set she ever bought, knobs and all.
Let us assume the budget stays where it is; then the speech recognition has to wait for the next version.
The survey was small, but three quarters of the people asked said they lose the thing at least once a week.
What happens if the battery is empty? Does it warn me, or does it simply stop working in the middle of a film?
It blinks. The light was cheap, so it stayed in the design even after the display was taken out again.
Fine. Please write the minutes tonight and send them round, so that nobody can say they did not know.
He promised to bring drawings to the next meeting, together with a list of everything that could go wrong.
My own feeling is that we are solving the wrong problem, yet I cannot prove it with the figures we have.
Children prefer bright colours, older users large letters, and both of them hate having to press twice.
The supplier in the north answered quickly; the one we used last year has still not returned our calls.
In short: a wooden prototype by the end of the month, a working one in spring, and no promises before that.
You mentioned a beehive near the orchard. Did the neighbours complain, or was that somebody else's garden?
There was a long silence, after which everybody started talking at once about recycling and solar cells.
Thank you, that is clearer now. One more thing: who decides whether the logo goes on the front or the back?
""".strip().splitlines()


@pytest.fixture(scope="module")
def small() -> tiktoken.Encoding:
    """A vocabulary of 49,000 with GPT-2's pattern: what many small models have."""
    packed = (RANKS / "cl100k_base.ranks").read_bytes()
    ranks = {t: r for t, r in unpack(packed, name="cl100k_base").items() if r < 49_000}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def split_digits(encoding):
    """The encoding as a tokenizer that gives every digit its own token."""

    def count(text):
        pieces = re.split(r"([0-9])", text)
        return sum(len(encoding.encode_ordinary(piece)) for piece in pieces if piece)

    return count


class Server:
    """A chat template around a tokenizer: what ``usage.prompt_tokens`` comes from."""

    def __init__(self, count, *, message_tokens=5, request_tokens=3, default_system_tokens=20):
        self.count = count
        self.message_tokens = message_tokens
        self.request_tokens = request_tokens
        self.default_system_tokens = default_system_tokens

    def prompt_tokens(self, messages):
        system = 0 if messages[0]["role"] == "system" else self.default_system_tokens
        text = sum(self.count(m["content"]) + self.message_tokens for m in messages)
        return self.request_tokens + system + text


def prose(rng, sentences):
    return " ".join(rng.choice(SENTENCES) for _ in range(sentences))


def conversation(rng, *, turns, pasted=None, at=None, system=True):
    messages = [{"role": "system", "content": "You are a helpful assistant."}] if system else []
    for turn in range(turns):
        asked = prose(rng, rng.randint(1, 3)) if turn != at else f"Here is the table:\n{pasted}"
        messages.append({"role": "user", "content": asked})
        yield list(messages)
        messages.append({"role": "assistant", "content": prose(rng, rng.randint(2, 8))})


def counts_of(messages):
    return RequestCounts.of(count_message(m, O200K) for m in messages)


def errors(server, model, requests, *, prefix=lambda turn: ""):
    """Relative error of each call's estimate, in order."""
    calibration = Calibration.for_model(model)
    out = []
    for turn, messages in enumerate(requests):
        sent, reported = counts_of(messages), server.prompt_tokens(messages)
        out.append(calibration.estimate(sent, conversation="c", prefix=prefix(turn)) / reported - 1)
        calibration = calibration.observe(sent, reported, conversation="c", prefix=prefix(turn))
    return out


def csv(rng):
    return "\n".join(",".join(f"{rng.gauss(0, 100):.3f}" for _ in range(6)) for _ in range(60))


def printed(rng):
    rows = [[f"{rng.gauss(0, 1000):.4f}" for _ in range(6)] for _ in range(50)]
    return "\n".join(f"{n:<4}" + "".join(f"{value:>14}" for value in row) for n, row in enumerate(rows))


def markdown(rng):
    return "\n".join(f"| {n} | Berlin | {rng.random():.3f} | {rng.randint(0, 10**6)} |" for n in range(60))


def records(rng):
    return json.dumps([{"id": n, "city": "Kyiv", "value": round(rng.gauss(0, 50), 3)} for n in range(60)], indent=1)


def code(_rng):
    return inspect.getsource(json.decoder)[:6_000]


TOKENIZERS = {
    "SmolLM2-135M-Instruct": split_digits,
    "phi-4": lambda _small: counter("cl100k_base"),
    "qwen2.5:7b": lambda _small: split_digits(load("cl100k_base")),
}


@pytest.mark.parametrize("model", TOKENIZERS)
class TestForeignTokenizers:
    @pytest.mark.parametrize("system", [True, False])
    def test_prose_is_estimated_within_five_percent_after_three_calls(self, model, small, system):
        server = Server(TOKENIZERS[model](small))
        for seed in range(8):
            found = errors(server, model, conversation(random.Random(seed), turns=10, system=system))
            assert max(map(abs, found[3:])) < 0.05

    @pytest.mark.parametrize("table", [csv, printed, markdown])
    def test_the_call_that_pastes_a_table_and_the_one_after_are_within_five_percent(self, model, small, table):
        server = Server(TOKENIZERS[model](small))
        for seed in range(5):
            rng = random.Random(seed)
            pasted = table(rng)
            found = errors(server, model, conversation(rng, turns=6, pasted=pasted, at=3))
            assert abs(found[3]) < 0.05
            assert max(map(abs, found[4:])) < 0.01

    @pytest.mark.parametrize("text", [records, code])
    def test_the_call_that_pastes_code_or_json_is_within_fifteen_percent(self, model, small, text):
        server = Server(TOKENIZERS[model](small))
        rng = random.Random(0)
        found = errors(server, model, conversation(rng, turns=6, pasted=text(rng), at=3))
        assert abs(found[3]) < 0.15
        assert max(map(abs, found[4:])) < 0.02

    def test_a_request_that_no_longer_extends_the_last_one_is_within_ten_percent(self, model, small):
        server = Server(TOKENIZERS[model](small))
        for seed in range(8):
            rng = random.Random(seed)
            requests = list(conversation(rng, turns=8, pasted=csv(rng), at=3))
            folded = [requests[-1][0], {"role": "system", "content": prose(rng, 4)}, *requests[-1][-5:]]
            found = errors(server, model, [*requests, folded], prefix=lambda turn: str(turn // 8))
            assert abs(found[-1]) < 0.10


def test_one_scale_alone_could_not_do_it(small):
    count = split_digits(small)
    table, text = csv(random.Random(0)), " ".join(SENTENCES)
    assert (count(table) / O200K(table)) / (count(text) / O200K(text)) > 1.4


def test_an_unknown_model_is_not_underestimated_on_its_first_table(small):
    server = Server(split_digits(small))
    for seed in range(5):
        rng = random.Random(seed)
        pasted = csv(rng)
        found = errors(server, "a-model-nobody-knows", conversation(rng, turns=6, pasted=pasted, at=3))
        assert found[3] > -0.05
        assert max(map(abs, found[4:])) < 0.01


def test_another_language_is_learned(small):
    line = "Учора ввечері ми довго обговорювали плани на наступний рік і вирішили почати з дослідження ринку"
    words = line.split()
    rng = random.Random(1)
    messages = []
    requests = []
    for _ in range(8):
        messages.append({"role": "user", "content": " ".join(rng.choices(words, k=40))})
        requests.append(list(messages))
        messages.append({"role": "assistant", "content": " ".join(rng.choices(words, k=60))})
    found = errors(Server(small_count := lambda t: len(small.encode_ordinary(t))), "SmolLM2", requests)
    assert small_count(requests[0][0]["content"]) > 1.5 * O200K(requests[0][0]["content"])
    assert max(map(abs, found[3:])) < 0.05


class TestOpenAIsOwn:
    def test_the_first_estimate_is_the_published_recipe(self):
        sent = RequestCounts(messages=6, tokens=121)
        assert Calibration.for_model("gpt-4o").estimate(sent) == 124

    def test_images_that_another_server_counts_otherwise_do_not_change_the_weight_of_text(self):
        before = Calibration.for_model("gpt-4o")
        sent = RequestCounts(messages=2, tokens=1_000, features=Features(media=765))
        after = before.observe(sent, 3 + 235 + 300)
        assert after.estimate(RequestCounts(messages=20, tokens=2_000)) == pytest.approx(2_003, rel=0.02)
        assert after.weights[WEIGHTS.index("media")] < 0.8


class TestAnchors:
    start = RequestCounts(messages=3, tokens=1_000)
    longer = RequestCounts(messages=5, tokens=1_100)

    def observed(self):
        return Calibration.for_model("llama3").observe(self.start, 1_300, conversation="a", prefix="p")

    def test_a_repeated_request_costs_what_was_reported(self):
        assert self.observed().estimate(self.start, conversation="a", prefix="p") == 1_300

    def test_an_extended_request_costs_the_report_and_the_new_part(self):
        c = self.observed()
        new = 1_300 + 2 * c.weights[0 + 1] + 100 * c.weights[WEIGHTS.index("text")]
        assert c.estimate(self.longer, conversation="a", prefix="p") == pytest.approx(new, abs=1)

    def test_another_prefix_or_conversation_costs_the_weighed_total(self):
        c = self.observed()
        total = c.estimate(self.longer)
        assert c.estimate(self.longer, conversation="a", prefix="q") == total
        assert c.estimate(self.longer, conversation="b", prefix="p") == total
        assert total < c.estimate(self.longer, conversation="a", prefix="p")

    def test_conversations_do_not_disturb_each_other(self):
        c = self.observed().observe(self.longer, 1_200, conversation="b", prefix="p")
        assert c.estimate(self.start, conversation="a", prefix="p") == 1_300

    def test_old_conversations_are_forgotten(self):
        c = self.observed()
        for n in range(40):
            c = c.observe(self.longer, 1_250, conversation=f"other {n}")
        assert len(c.anchors) == 16
        assert len(json.dumps(c.to_dict())) < 3_000

    @given(
        messages=st.lists(st.tuples(st.integers(4, 3_000), st.integers(0, 200), st.integers(0, 200)), max_size=12),
        reported=st.integers(1_000, 4_000),
    )
    def test_weighed_messages_and_the_fixed_part_add_up_to_the_estimate(self, messages, reported):
        counted = [(t, Features(min(n, t), s)) for t, n, s in messages]
        c = self.observed().observe(self.longer, reported, conversation="a", prefix="p")
        parts = sum(c.weigh(tokens, features) for tokens, features in counted)
        parts += c.fixed_tokens(conversation="a", prefix="p")
        estimate = c.estimate(RequestCounts.of(counted), conversation="a", prefix="p")
        assert max(0, parts) == pytest.approx(estimate, abs=2 + len(counted) / 2)


class TestReportsThatTeachNothing:
    def test_a_prompt_that_the_server_cut_is_not_believed(self):
        c = Calibration.for_model("qwen2.5")
        sent = RequestCounts(messages=20, tokens=9_000)
        assert not plausible(sent, 4_096)
        assert c.observe(sent, 4_096) is c

    def test_a_longer_request_that_was_cheaper_is_not_believed(self):
        c = Calibration.for_model("qwen2.5").observe(RequestCounts(5, 4_000), 4_090, conversation="a")
        assert c.observe(RequestCounts(7, 4_500), 4_085, conversation="a") is c

    @pytest.mark.parametrize("reported", [0, -5, 10**9])
    def test_nonsense_is_not_believed(self, reported):
        c = Calibration()
        assert c.observe(RequestCounts(messages=2, tokens=500), reported) is c

    @given(
        reports=st.lists(
            st.tuples(st.integers(0, 50), st.integers(0, 20_000), st.integers(0, 5_000), st.integers(0, 60_000)),
            max_size=30,
        )
    )
    def test_no_reports_make_an_estimate_absurd(self, reports):
        c = Calibration()
        for messages, tokens, split, reported in reports:
            c = c.observe(RequestCounts(messages, tokens, Features(split=split)), reported, conversation="a")
        text = c.estimate(RequestCounts(messages=0, tokens=10_000))
        assert 2_000 < text < 70_000
        assert c.weigh(100, (0, 0, 0, 0)) > 0


class TestKeeping:
    def test_what_was_learned_comes_back_from_json(self):
        c = Calibration.for_model("mistral:7b")
        for n in range(1, 6):
            c = c.observe(RequestCounts(n, 300 * n, Features(3 * n, n, 2, 0)), 350 * n, conversation="a", prefix="p")
        back = Calibration.from_dict(json.loads(json.dumps(c.to_dict())))
        sent = RequestCounts(9, 3_000, Features(40, 20, 9, 0), 60)
        assert back.anchors == c.anchors
        assert back.reports == c.reports == 5
        assert back.estimate(sent) == pytest.approx(c.estimate(sent), abs=1)
        assert back.estimate(sent, conversation="a", prefix="p") == pytest.approx(
            c.estimate(sent, conversation="a", prefix="p"), abs=1
        )

    @pytest.mark.parametrize(
        "data", [{}, {"weights": [1], "spread": [], "anchors": [], "reports": 0}, {"weights": "no"}, [], None]
    )
    def test_what_is_not_a_calibration_is_refused(self, data):
        with pytest.raises(ValueError, match="stored calibration"):
            Calibration.from_dict(data)

    def test_the_default_is_the_unknown_model(self):
        assert Calibration() == Calibration.for_model(None)

    def test_it_is_a_value(self):
        c = Calibration.for_model("llama3")
        before = c.estimate(RequestCounts(2, 100))
        c.observe(RequestCounts(2, 100), 180)
        assert c.estimate(RequestCounts(2, 100)) == before


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-4o", "ours"), ("gpt-4", "ours"), ("gpt-35-turbo", "ours"), ("o3-mini", "ours"), ("gpt-5.4-mini", "ours"),
        ("chatgpt-4o-latest", "ours"), ("gpt-6-sol", "grouped"), ("gpt-oss-20b", "grouped"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "grouped"), ("llama3.2", "grouped"), ("SmolLM3-3B", "grouped"),
        ("deepseek-r1-distill-qwen-7b", "single"), ("gemma3:4b", "single"), ("mistral-nemo", "single"),
        ("SmolLM2-135M-Instruct", "single-bare"), ("Mistral-7B-Instruct-v0.3", "single-small"),
        ("llama-2-7b-chat", "single-small"), ("phi-3-mini", "single-small"), ("local", "unknown"), (None, "unknown"),
    ],
)  # fmt: skip
def test_a_models_name_tells_its_kind(model, kind):
    assert kind_of(model) == kind
    assert Calibration.for_model(model).weights == PRIORS[kind].mean


def test_counts_without_features_are_text():
    assert RequestCounts.of([(10, None), (5, (1, 2, 3, 0)), (1, ())]) == RequestCounts(3, 16, Features(1, 2, 3, 0))


def test_a_message_that_weighs_nothing_is_never_negative():
    assert Calibration.for_model("llama3").weigh(0, None) >= 0
    assert Calibration.for_model("llama3").weigh_tools(0) == 0
