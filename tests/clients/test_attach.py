"""Attachments: what each thing becomes, how tables are cut, and what is refused with advice."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxnb import errors
from voxnb.clients import attach as attach_module
from voxnb.clients.attach import fenced, render_attachments
from voxnb.messages import parse_messages


def words(text):
    """A stand-in for a tokenizer: words and signs."""
    return len(re.findall(r"\w+|[^\w\s]|\n", text))


def render(thing, *, count=words, limit_tokens=1000):
    return render_attachments(thing, count=count, limit_tokens=limit_tokens)


def one(thing, **given):
    (part,) = render(thing, **given)
    return part


def refused(thing, *, limit_tokens=1000):
    with pytest.raises(errors.ParameterError) as caught:
        render(thing, limit_tokens=limit_tokens)
    assert caught.value.name == "attach"
    return str(caught.value)


def data_of(url):
    head, _, data = url.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(data, validate=True)


def png(size=(2, 1), mode="RGB", kind="PNG"):
    from PIL import Image

    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


def wav():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 80)
    return out.getvalue()


# -- files -----------------------------------------------------------------------------------------


def test_a_text_file_goes_as_text_under_its_name(tmp_path):
    path = tmp_path / "analysis.py"
    path.write_text("print('Grüße, 世界')\n", encoding="utf-8")
    expected = {"type": "text", "text": "File 'analysis.py':\n```py\nprint('Grüße, 世界')\n```"}
    assert one(path) == one(str(path)) == expected
    assert render([path, str(path)]) == [expected, expected]


def test_text_files_are_never_cut(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 5000)
    assert one(path, limit_tokens=10)["text"].count("word") == 5000


def test_a_fence_is_longer_than_any_in_the_text(tmp_path):
    path = tmp_path / "readme.md"
    path.write_text("```py\nx\n```\nand `````five\n")
    text = one(path)["text"]
    assert text.startswith("File 'readme.md':\n``````md\n")
    assert text.endswith("\n``````")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_name_themselves_are_read(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("größe,wert\r\n1,2\r\n".encode(encoding))
    assert one(path)["text"] == "File 'a.csv':\n```csv\ngröße,wert\n1,2\n```"


def test_other_encodings_are_refused_with_advice(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("größe;1\n".encode("cp1252"))
    assert "cp1252" in refused(path)
    assert "excel.csv" in refused(path)


@pytest.mark.parametrize(
    ("kind", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")]
)
def test_pictures_are_told_by_their_bytes_not_by_their_names(tmp_path, kind, media):
    data = png(kind=kind)
    path = tmp_path / "chart.txt"
    path.write_bytes(data)
    for thing in (path, data, bytearray(data), memoryview(data)):
        part = one(thing)
        assert part["type"] == "image_url"
        assert data_of(part["image_url"]["url"]) == (media, data)


def test_sound_goes_as_input_audio():
    part = one(wav())
    assert part["type"] == "input_audio"
    assert part["input_audio"]["format"] == "wav"
    assert base64.b64decode(part["input_audio"]["data"]) == wav()
    for mp3 in (b"ID3\x04\x00\x00" + b"\0" * 20, b"\xff\xfb\x90\x00" + b"\0" * 20, b"\xff\xf3\x40\xc4" + b"\0" * 20):
        assert one(mp3)["input_audio"]["format"] == "mp3"


def test_text_that_begins_like_something_else_stays_text():
    for text in ("ID3,name\n1,2\n", "BMW sales\n", "PAR1 is a bar\n", "II*\n"):
        assert text in one(text.encode())["text"]


def test_a_pdf_goes_as_a_file(tmp_path):
    path = tmp_path / "paper.pdf"
    path.write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    part = one(path)
    assert part["type"] == "file"
    assert part["file"]["filename"] == "paper.pdf"
    assert data_of(part["file"]["file_data"]) == ("application/pdf", path.read_bytes())
    assert one(path.read_bytes())["file"]["filename"] == "attachment.pdf"


def test_the_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "n.txt").write_text("home")
    assert "home" in one("~/n.txt")["text"]


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    (tmp_path / "sales_2024.csv").write_text("a")
    assert "did you mean 'sales_2024.csv'?" in refused(tmp_path / "sales_2025.csv")
    assert str(tmp_path) in refused(tmp_path / "zzz")
    assert "working directory" in refused("no/such/folder/x.csv")
    with pytest.raises(errors.ParameterError) as caught:
        render(tmp_path / "zzz")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_is_refused_with_the_way_to_attach_its_files(tmp_path):
    assert "is the folder" in refused(tmp_path)
    assert "glob" in refused(tmp_path)


def test_a_file_of_half_a_gigabyte_is_refused_unread(tmp_path):
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.truncate(500 * 1024 * 1024)
    text = refused(path)
    assert "500 MB" in text
    assert "attach the part that matters" in text


def test_much_text_is_refused(monkeypatch):
    monkeypatch.setattr(attach_module, "MOST_TEXT_BYTES", 100)
    assert "of text" in refused(b"x" * 101)
    assert "characters of JSON" in refused({"a": "x" * 101})


def test_what_is_no_file_is_refused():
    if Path("/dev/zero").exists():
        assert "which is no file" in refused("/dev/zero")
    assert "cannot be read" in refused("a\0b")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable for root")
def test_an_unreadable_file_says_so(tmp_path):
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_text_and_urls_are_no_paths():
    assert "put text into the question" in refused("line one\nline two")
    assert "put text into the question" in refused("x" * 5000)
    for url in ("https://example.com/a.png", "data:image/png;base64,AAAA"):
        assert "load it first" in refused(url)


def zip_bytes():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.txt", "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zip_bytes(), "read_excel"),
        (b"PAR1\x15\x04\x15\x00\x15", "read_parquet"),
        (b"OggS\x00\x02" + b"\0" * 9, "wav or mp3"),
        (b"BM" + struct.pack("<IHHI", 58, 0, 0, 54), "PNG"),
        (b"\x1f\x8b\x08\x00abc", "unpack"),
        (b"SQLite format 3\x00" + b"\0" * 9, "read_sql"),
        (b"\x00\x01\x02", "unknown binary format"),
        (b"\x7fELF\x02\x01\x01\x00\x80", "unknown binary format"),
        (b"", "is empty"),
    ],
)
def test_formats_that_models_do_not_read_say_what_to_do(data, says):
    assert says in refused(data)


# -- tables ----------------------------------------------------------------------------------------


def rows_of(text):
    head, _, body = re.fullmatch(r"(.*)\n(`{3,})csv\n(.*?)\2", text, re.DOTALL).groups()
    return head, pd.read_csv(io.StringIO(body))


def test_a_small_table_goes_whole():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert one(frame) == {"type": "text", "text": "Table of 2 rows × 2 columns, as CSV:\n```csv\na,b\n1,x\n2,y\n```"}


def test_a_long_table_is_cut_between_rows_and_says_so():
    frame = pd.DataFrame({"n": range(1000), "text": ["some words here"] * 1000})
    text = one(frame, limit_tokens=300)["text"]
    assert words(text) <= 300
    head, found = rows_of(text)
    shown = len(found)
    assert head == f"Table of 1,000 rows × 2 columns, rows 1-{shown} of 1,000 as CSV, cut to 300 tokens:"
    pd.testing.assert_frame_equal(found, frame.head(shown))
    one_more = text.replace("```", f"{shown},some words here\n```")
    assert words(one_more) - words("```") > 300 - 10, "as many rows as fit"


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(70, 400), st.integers(1, 12))
def test_a_table_never_takes_more_than_its_limit_and_wastes_no_row(rows, limit, width):
    frame = pd.DataFrame({"n": range(rows), "t": ["w " * (i % width) for i in range(rows)]}, dtype=object)
    text = one(frame, limit_tokens=limit)["text"]
    assert words(text) <= limit
    found = re.search(r"rows 1-(\d+) of", text)
    if found:
        shown = int(found[1])
        longer = one(frame.head(shown + 1), limit_tokens=10**6)["text"]
        assert words(longer) > limit - 25, "one more row would not have fitted beside the remark"
    else:
        assert text.count("\n") == rows + 3


def test_a_cell_with_line_breaks_is_not_cut_in_two():
    frame = pd.DataFrame({"text": ["first\nsecond\nthird"] * 50})
    _, found = rows_of(one(frame, limit_tokens=120)["text"])
    assert 0 < len(found) < 50
    assert set(found["text"]) == {"first\nsecond\nthird"}


def test_a_long_table_is_not_written_out_whole():
    frame = pd.DataFrame({"n": range(2_000_000)})
    longest = []

    def count(text):
        longest.append(len(text))
        return words(text)

    render(frame, count=count, limit_tokens=500)
    assert max(longest) < 20_000


def test_an_index_that_says_something_is_shown():
    assert "city,n\nRome,1" in one(pd.DataFrame({"n": [1]}, index=pd.Index(["Rome"], name="city")))["text"]
    assert "```csv\nn\n1\n```" in one(pd.DataFrame({"n": [1]}))["text"]
    assert "5,1" in one(pd.DataFrame({"n": [1]}, index=[5]))["text"]


def test_a_series_goes_as_a_table_of_one_column():
    text = one(pd.Series([3, 4], name="height", index=["columns", "b"]))["text"]
    assert "2 rows × 1 column" in text
    assert ",height\ncolumns,3\nb,4\n" in text


def test_an_empty_table_goes_with_its_header():
    assert "0 rows × 2 columns" in one(pd.DataFrame({"a": [], "b": []}))["text"]
    assert "a,b" in one(pd.DataFrame({"a": [], "b": []}))["text"]


def test_a_table_of_which_not_one_row_fits_says_what_to_do():
    wide = pd.DataFrame({f"column {i}": [i] for i in range(500)})
    text = refused(wide, limit_tokens=100)
    assert "choose columns" in text
    assert "1 row × 500 columns" in text
    assert "choose columns" in refused(wide.head(0), limit_tokens=100)
    assert "choose columns" in refused(pd.DataFrame({"a": ["word " * 500]}), limit_tokens=100)


def test_a_subclass_of_a_table_is_a_table():
    class Measured(pd.DataFrame):
        pass

    assert "1 row" in one(Measured({"a": [1]}))["text"]


# -- objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F", "I"])
def test_a_picture_object_goes_as_png(mode):
    from PIL import Image

    media, data = data_of(one(Image.new(mode, (3, 2)))["image_url"]["url"])
    assert media == "image/png"
    assert Image.open(io.BytesIO(data)).size == (3, 2)


def test_an_opened_picture_file_is_a_picture_object(tmp_path):
    from PIL import Image

    path = tmp_path / "x.jpg"
    path.write_bytes(png(kind="JPEG"))
    with Image.open(path) as image:
        assert data_of(one(image)["image_url"]["url"])[0] == "image/png"


def test_a_figure_and_its_axes_go_as_png():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2])
    for thing in (figure, axes):
        media, data = data_of(one(thing)["image_url"]["url"])
        assert media == "image/png"
        assert data.startswith(b"\x89PNG")


def test_a_dict_and_an_inner_list_go_as_json():
    assert one({"a": [1, None, "ä"]})["text"] == 'JSON:\n```json\n{"a": [1, null, "ä"]}\n```'
    assert one([[1, 2]])["text"] == "JSON:\n```json\n[1, 2]\n```"


@pytest.mark.parametrize("thing", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\ud800"}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(thing):
    assert "cannot be written as JSON" in refused(thing)


def test_a_list_is_many_attachments_in_order(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    parts = render([path, png(), {"a": 1}, pd.DataFrame({"a": [1]})])
    assert [p["type"] for p in parts] == ["text", "image_url", "text", "text"]
    assert render(()) == render([]) == []
    assert refused([{"a": 1}, 5]).startswith("attach[1] is of type int")


def test_unknown_things_are_refused_with_advice():
    import matplotlib.pyplot as plt
    import numpy as np
    import pyarrow as pa

    assert "of type int; give a path, bytes, a DataFrame" in refused(5)
    assert "NoneType" in refused(None)
    assert "PIL.Image.fromarray" in refused(np.zeros((2, 2)))
    assert "plt.gcf()" in refused(plt)
    assert ".to_pandas()" in refused(pa.table({"a": [1]}))
    assert ".read()" in refused(io.BytesIO(b"x"))


def test_every_part_is_one_that_messages_take(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    parts = render([path, png(), wav(), b"%PDF-1.4", {"a": 1}, pd.DataFrame({"a": [1]})])
    (message,) = parse_messages([{"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}])
    assert len(message.parts) == 3
    json.dumps(parts)


@given(st.text(alphabet="`a\n ", max_size=60))
def test_no_text_can_end_its_own_fence(text):
    whole = fenced(text, heading="Heading")
    fence = whole.split("\n")[1]
    assert fence not in text
    assert whole.endswith(f"\n{fence}")


def test_nothing_is_imported_for_files_and_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    code = (
        "import sys\nfrom voxnb.clients.attach import render_attachments\n"
        f"render_attachments([{str(tmp_path / 'a.txt')!r}, {png()!r}, {{'a': 1}}], count=len, limit_tokens=9)\n"
        "print([m for m in ('pandas', 'numpy', 'PIL', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
