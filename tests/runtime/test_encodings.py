"""Counts are tiktoken's own, offline; a damaged rank file is an error; no text is too odd."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiktoken
import tiktoken.model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from voxnb.errors import ParameterError, VoxnbError
from voxnb.runtime import encodings

NAMES = ("o200k_base", "cl100k_base")

ODD = [
    "",
    " ",
    "tiktoken is great!",
    "<|endoftext|>",
    "before<|endoftext|><|fim_prefix|><|endofprompt|>after",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ok",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם",
    "お誕生日おめでとう 昨天晚上我们讨论了明年的计划",
    "a\u0301e\u0301 \u200b\ufeff\u2028 \x00\x07",
    "x = [1, 22, 333, 4444]\n\tif x:\r\n\r\n        return  None   \n",
    "   trailing   \n\n\n",
    "don't WE'LL I'VE o'clock 'tis",
    "3.14159e-10,2,718;1'000'000",
]


def published_file(ranks):
    """The rank file as OpenAI publishes it."""
    return b"".join(b"%b %d\n" % (b64encode(token), rank) for token, rank in ranks.items())


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    """Our counter, and tiktoken's encoding as tiktoken itself would build it."""
    name = request.param

    def ranks(_url: str, expected_hash: str):
        ranks = encodings.unpack((encodings.RANKS / f"{name}.ranks").read_bytes(), name=name)
        assert hashlib.sha256(published_file(ranks)).hexdigest() == expected_hash
        return ranks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", ranks)
        reference = tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[name]())
    return encodings.counter(name), reference


@pytest.mark.parametrize("text", ODD)
def test_a_count_is_tiktokens_own(pair, text):
    count, reference = pair
    assert count(text) == len(reference.encode(text, disallowed_special=()))


@given(text=st.text(max_size=400))
@settings(max_examples=150)
def test_a_count_is_tiktokens_own_for_any_text(pair, text):
    count, reference = pair
    assert count(text) == len(reference.encode_ordinary(text))


def test_the_special_tokens_are_tiktokens_own(pair):
    _, reference = pair
    ours = encodings.load(reference.name)
    assert ours.special_tokens_set == reference.special_tokens_set
    assert ours.n_vocab == reference.n_vocab


@pytest.mark.parametrize("name", NAMES)
def test_special_token_text_is_counted_as_its_characters(name):
    count = encodings.counter(name)
    assert count("<|endoftext|>") > 1
    assert count("say <|endoftext|> aloud") > count("say aloud")


@pytest.mark.parametrize("name", NAMES)
def test_a_lone_surrogate_is_counted_as_the_replacement_character(name):
    count = encodings.counter(name)
    assert count("a\ud800b") == count("a\ufffdb")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["a", " ", "\n", "7", "-", "é", "中", "👍"])
def test_a_hundred_thousand_repeated_characters_are_counted_quickly(name, text):
    encodings.load(name)
    started = time.process_time()
    assert encodings.counter(name)(text * 100_000) > 0
    assert time.process_time() - started < 2


def test_two_megabytes_of_prose_are_counted_quickly():
    count = encodings.counter("o200k_base")
    text = "The quick brown fox jumps over the lazy dog, again. " * 40_000
    encodings.load("o200k_base")
    started = time.process_time()
    tokens = count(text)
    assert time.process_time() - started < 5
    assert abs(tokens - 40_000 * 12) <= 1


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000"])
def test_a_run_of_blanks_that_tiktoken_panics_on_is_counted(blank):
    count = encodings.counter("o200k_base")
    short = count("word" + blank * 400_000 + "word")
    long = count("word" + blank * 1_200_000 + "word")
    assert long == pytest.approx(3 * short, rel=0.01)


@pytest.mark.slow
def test_counting_needs_no_network_and_no_cache(tmp_path):
    code = (
        "import socket\n"
        "def no(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = no; socket.create_connection = no; socket.getaddrinfo = no\n"
        "from voxnb.runtime.encodings import counter\n"
        "print(counter('o200k_base')('tiktoken is great!'), counter('cl100k_base')('tiktoken is great!'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TIKTOKEN_CACHE_DIR": str(tmp_path), "PATH": ""},
        cwd=Path(encodings.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["6", "6"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_the_module_does_not_import_tiktoken():
    code = "import sys, voxnb.runtime.encodings; print('tiktoken' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(encodings.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_an_encoding_is_loaded_once_for_all_threads(monkeypatch):
    monkeypatch.setattr(encodings, "_encodings", {})
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(encodings.load, ["cl100k_base"] * 8))
    assert len({id(e) for e in loaded}) == 1


def test_a_counter_is_the_same_function_every_time():
    assert encodings.counter("o200k_base") is encodings.counter("o200k_base")


def test_an_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match=r"'r50k_base', expected one of o200k_base, cl100k_base"):
        encodings.counter("r50k_base")


class TestDamage:
    @pytest.fixture
    def packed(self):
        return (encodings.RANKS / "cl100k_base.ranks").read_bytes()

    def test_every_flipped_byte_that_was_tried_is_found(self, packed):
        for at in (0, 1, 5, 1000, len(packed) // 2, len(packed) - 1):
            bad = bytearray(packed)
            bad[at] ^= 0x10
            with pytest.raises(VoxnbError, match="install voxnb again"):
                encodings.unpack(bytes(bad), name="cl100k_base")

    def test_a_cut_file_is_found(self, packed):
        with pytest.raises(VoxnbError, match="'cl100k_base' cannot be unpacked"):
            encodings.unpack(packed[:-100], name="cl100k_base")

    def test_a_well_formed_file_with_other_ranks_is_found(self, packed):
        body = bytearray(zlib.decompress(packed))
        body[-1], body[-2] = body[-2], body[-1]
        with pytest.raises(VoxnbError, match="does not hold the published ranks"):
            encodings.unpack(zlib.compress(bytes(body)), name="cl100k_base")

    def test_bytes_after_the_last_token_are_found(self, packed):
        with pytest.raises(VoxnbError, match="published ranks"):
            encodings.unpack(zlib.compress(zlib.decompress(packed) + b"x"), name="cl100k_base")

    def test_an_empty_file_is_found(self):
        with pytest.raises(VoxnbError):
            encodings.unpack(zlib.compress(b""), name="o200k_base")

    def test_one_encodings_file_is_not_taken_for_the_other(self, packed):
        with pytest.raises(VoxnbError):
            encodings.unpack(packed, name="o200k_base")

    def test_a_missing_file_raises_when_counting_and_names_what_to_do(self, monkeypatch, tmp_path):
        monkeypatch.setattr(encodings, "_encodings", {})
        monkeypatch.setattr(encodings, "RANKS", tmp_path)
        count = encodings.counter("cl100k_base")
        with pytest.raises(VoxnbError, match="cannot be read") as caught:
            count("text")
        assert isinstance(caught.value.__cause__, FileNotFoundError)
        assert "pip install" in str(caught.value)


def test_packing_and_unpacking_give_the_published_file_back():
    ranks = encodings.unpack((encodings.RANKS / "cl100k_base.ranks").read_bytes(), name="cl100k_base")
    assert encodings.unpack(encodings.pack(published_file(ranks)), name="cl100k_base") == ranks


def test_ranks_that_skip_a_number_cannot_be_packed():
    with pytest.raises(ValueError, match="line 2 has rank 2, expected 1"):
        encodings.pack(b"IQ== 0\nIg== 2\n")


class TestEncodingOfAModel:
    @pytest.mark.parametrize(
        ("model", "encoding"),
        [
            pair
            for table in (tiktoken.model.MODEL_TO_ENCODING, tiktoken.model.MODEL_PREFIX_TO_ENCODING)
            for pair in table.items()
            if pair[1] in NAMES and not pair[0].startswith("ft:")
        ],
    )
    def test_it_is_what_tiktoken_maps(self, model, encoding):
        assert encodings.encoding_for(model) == (encoding, True)

    @pytest.mark.parametrize(
        "model",
        ["gpt-5.4-mini", "gpt-5.6-sol", "gpt-4.1-nano", "chatgpt-4o-latest", "o3-mini", "o4-mini-2025-04-16", "o1-pro",
         "ft:gpt-4o-2024-08-06:acme::x1", "openai/gpt-4o", "GPT-4o", "codex-mini-latest", "gpt-audio-mini"],
    )  # fmt: skip
    def test_newer_openai_models_are_exact_in_o200k(self, model):
        assert encodings.encoding_for(model) == ("o200k_base", True)

    @pytest.mark.parametrize("model", ["ft:gpt-3.5-turbo-0125:acme::x1", "ft:gpt-4-0613:acme", "gpt-35-turbo-16k"])
    def test_older_openai_models_are_exact_in_cl100k(self, model):
        assert encodings.encoding_for(model) == ("cl100k_base", True)

    @pytest.mark.parametrize(
        "model",
        [None, "", "SmolLM2-135M-Instruct", "llama3.1:8b", "qwen2.5", "claude-opus-5", "gpt2", "gpt4all", "gpt-6-sol",
         "text-davinci-003", "gpt-oss-20b", "olmo-2"],
    )  # fmt: skip
    def test_other_models_are_estimated(self, model):
        assert encodings.encoding_for(model) == ("o200k_base", False)


class TestCut:
    @given(text=st.text(max_size=200), limit=st.integers(0, 60))
    @settings(max_examples=150)
    def test_a_cut_is_the_start_of_the_text_and_within_the_limit(self, text, limit):
        count = encodings.counter("o200k_base")
        cut = encodings.cut_to_tokens(text, limit)
        assert text.startswith(cut)
        assert count(cut) <= limit
        if count(text) <= limit:
            assert cut == text
        else:
            assert count(cut) >= limit - 8  # one character may take several tokens

    def test_a_long_text_is_cut_without_being_counted_whole(self):
        text = "word " * 400_000
        started = time.process_time()
        assert encodings.cut_to_tokens(text, 100).startswith("word word")
        assert time.process_time() - started < 1

    def test_no_limit_left_gives_nothing(self):
        assert encodings.cut_to_tokens("text", 0) == ""
        assert encodings.cut_to_tokens("text", -5) == ""
