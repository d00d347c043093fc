"""Images, audio and files are priced by what their headers say."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxnb.memory.parts import (
    PDF_PAGE_TOKENS,
    UNKNOWN_FILE_TOKENS,
    Blob,
    audio_tokens,
    blob,
    file_tokens,
    image_size,
    image_tokens,
)


def picture(width, height, *, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, kind, **options)
    return buffer.getvalue()


def url(data: bytes, mime="image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def of_size(width, height) -> str:
    """A PNG's first bytes: all that is read."""
    return url(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big"))


class TestSize:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("PNG", {}),
            ("GIF", {}),
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("JPEG", {"exif": b"Exif\0\0" + bytes(60_000)}),
            ("JPEG", {"icc_profile": bytes(200_000)}),
            ("WEBP", {"lossless": True}),
            ("WEBP", {"lossless": False}),
            ("WEBP", {"lossless": False, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ],
    )
    def test_it_is_read_from_the_header(self, kind, options):
        assert image_size(blob(url(picture(613, 217, kind=kind, **options)))) == (613, 217)

    def test_line_breaks_and_the_url_alphabet_are_understood(self):
        data = base64.urlsafe_b64encode(picture(40, 30)).decode()
        broken = "\n".join(data[at : at + 76] for at in range(0, len(data), 76))
        assert image_size(Blob("image/png", broken)) == (40, 30)

    @pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a", b"\xff\xd8\xff\xe0", b"RIFF1234WEBPVP8 ", b"<svg/>"])
    def test_a_cut_or_foreign_header_tells_nothing(self, data):
        assert image_size(Blob("", base64.b64encode(data).decode())) is None

    @given(
        data=st.binary(max_size=300), head=st.sampled_from([b"", b"\xff\xd8", b"RIFF", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
    )
    def test_no_bytes_can_break_it(self, data, head):
        size = image_size(Blob("", base64.b64encode(head + data).decode()))
        assert size is None or min(size) > 0

    @given(text=st.text(max_size=100))
    def test_no_text_can_break_it(self, text):
        image_size(Blob("", text))
        audio_tokens(Blob("", text))
        assert image_tokens("data:image/png;base64," + text) > 0


class TestImages:
    @pytest.mark.parametrize(
        ("size", "detail", "model", "tokens"),
        [
            # OpenAI's worked examples
            ((1024, 1024), "high", "gpt-4o", 765),
            ((2048, 4096), "high", "gpt-4o", 1105),
            ((4096, 8192), "low", "gpt-4o", 85),
            ((1024, 1024), "high", "gpt-5.4", 1229),
            ((2048, 2048), "high", "gpt-5.4", 3000),
            # the same rules
            ((1024, 1024), None, None, 765),
            ((512, 512), "auto", "gpt-4.1", 255),
            ((1024, 1024), "high", "gpt-5", 630),
            ((1024, 1024), "high", "gpt-5.1-2025-11-13", 630),
            ((1024, 1024), "high", "o3", 675),
            ((1024, 1024), "high", "gpt-4o-mini", 25501),
            ((1024, 1024), "high", "gpt-4.1-mini", 1659),
            ((1024, 1024), "low", "o4-mini", 1762),
            ((4000, 3000), "low", "gpt-5.5", 231),
            ((3000, 3000), "original", "gpt-5.5", 10604),
            ((3000, 3000), "auto", "gpt-5.5", 10604),
            ((3000, 3000), "auto", "gpt-5.4", 3000),
            ((3000, 3000), "auto", "gpt-5.6-sol", 10604),
            ((4000, 4000), "original", "gpt-5.5", 12000),
        ],
    )
    def test_they_cost_what_the_guide_says(self, size, detail, model, tokens):
        assert image_tokens(of_size(*size), detail=detail, model=model) == tokens

    def test_the_published_patch_example_is_reached(self):
        # 1800 x 2400 pixels under 1,536 patches become 1056 x 1408: 33 x 44 patches, times 1.5.
        assert image_tokens(of_size(1800, 2400), model="gpt-5-nano") == 1452 * 1.5

    def test_an_image_of_unknown_size_is_taken_as_1024_pixels_square(self):
        known = image_tokens(of_size(1024, 1024), detail="high")
        assert image_tokens("https://example.com/a.png", detail="high") == known
        assert image_tokens("data:image/svg+xml;base64,PHN2Zy8+", detail="high") == known

    @given(width=st.integers(1, 20_000), height=st.integers(1, 20_000))
    def test_no_size_exceeds_its_models_budget(self, width, height):
        image = of_size(width, height)
        assert 85 + 170 <= image_tokens(image, model="gpt-4o") <= 85 + 170 * 8
        assert 1 <= image_tokens(image, detail="high", model="gpt-5.4") <= 3000
        assert 1 <= image_tokens(image, model="gpt-4.1-nano") <= 3779


class TestAudio:
    def test_a_wav_costs_ten_tokens_a_second(self):
        form = bytes.fromhex("01000100803e0000007d000002001000")  # PCM, mono, 16 kHz, 32,000 bytes a second
        chunks = b"LIST" + (4).to_bytes(4, "little") + b"INFO" + b"fmt " + len(form).to_bytes(4, "little") + form
        sound = b"RIFF\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff" + bytes(32_000 * 30)
        assert audio_tokens(Blob("", base64.b64encode(sound).decode())) == 301

    @pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)])
    def test_an_mp3_is_timed_by_its_bitrate(self, tag):
        frame = b"\xff\xfb\x90\x00"  # MPEG 1 layer III, 128 kbit/s
        sound = tag + frame + bytes(16_000 * 10 - 4)
        assert audio_tokens(Blob("", base64.b64encode(sound).decode())) in (100, 101)

    def test_sound_without_a_header_is_timed_as_slow_speech(self):
        assert audio_tokens(Blob("", base64.b64encode(bytes(4_000 * 10)).decode())) == 100


class TestFiles:
    def test_a_pdf_is_counted_by_its_pages(self):
        pdf = b"%PDF-1.7\n<< /Type /Pages /Count 3 >>\n" + b"<< /Type /Page /Parent 1 0 R >>\n" * 3
        assert file_tokens(Blob("application/pdf", base64.b64encode(pdf).decode())) == 3 * PDF_PAGE_TOKENS

    def test_a_pdf_whose_pages_are_hidden_is_counted_by_its_length(self):
        pdf = b"%PDF-1.7\n" + bytes(120_000)
        assert file_tokens(Blob("application/pdf", base64.b64encode(pdf).decode())) == 3 * PDF_PAGE_TOKENS

    def test_a_file_named_by_an_id_has_a_documented_price(self):
        assert file_tokens(None) == UNKNOWN_FILE_TOKENS


@pytest.mark.parametrize("address", ["https://example.com/a.png", "", "data:image/png,plain", "data:text/plain;base64"])
def test_an_ordinary_address_is_no_data(address):
    assert blob(address) is None
