"""What ``ask(text, attach=…)`` sends beside the text: files, tables, pictures, sound, as message parts.

pandas, PIL and matplotlib are recognised by where an object's class comes from and are never imported: whoever has
such an object has imported them.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.clients.table import render_table
from voxnb.errors import ParameterError
from voxnb.runtime import config

Part = dict[str, Any]
Count = Callable[[str], int]

MOST_TEXT_BYTES: Final = 8 * 1024 * 1024
"""Some two million tokens: no window takes more."""

MOST_MEDIA_BYTES: Final = 32 * 1024 * 1024
"""A picture, a recording, a PDF; services take 20 to 50 MB a request."""

_IMAGES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"))
_FOREIGN: Final = (
    (b"PK\x03\x04", "a zip or Office file", "open it (pandas.read_excel, zipfile) and attach what is inside"),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "open it with pandas.read_excel and attach the table"),
    (b"PAR1", "a Parquet file", "attach pandas.read_parquet(…)"),
    (b"OggS", "Ogg audio", "convert it to wav or mp3"),
    (b"fLaC", "FLAC audio", "convert it to wav or mp3"),
    (b"BM", "a BMP picture", "convert it to PNG (PIL.Image.open(…).save('x.png'))"),
    (b"II*\x00", "a TIFF picture", "convert it to PNG (PIL.Image.open(…).save('x.png'))"),
    (b"MM\x00*", "a TIFF picture", "convert it to PNG (PIL.Image.open(…).save('x.png'))"),
    (b"\x1f\x8b", "a gzip file", "unpack it first (gzip.open)"),
    (b"SQLite format 3\x00", "an SQLite database", "attach pandas.read_sql(…) of what is asked about"),
)
_MEANT: Final = "a path, bytes, a DataFrame or Series, a PIL image, a matplotlib figure, a dict or a list"


def render_attachments(attach: Any, *, count: Count, limit_tokens: int) -> list[Part]:
    r"""Turn what is attached into the parts of a user message.

    - A **path** (``str`` or ``Path``) or **bytes**: by what is inside, not by the file's name. Text goes as text under
      its name, PNG, JPEG, GIF and WebP as ``image_url``, WAV and MP3 as ``input_audio``, PDF as ``file``.
    - A **DataFrame** or **Series**: CSV, cut between rows to `limit_tokens`; the part says which rows it shows.
    - A **PIL image** or **matplotlib figure**: PNG.
    - A **dict**, or a list inside the list: JSON.

    Args:
        attach: one of these, or a list or tuple of them.
        count: tokens of a text.
        limit_tokens: how long one table may be, its heading included.

    Returns:
        Parts of the Chat Completions API, in order.

    Raises:
        ParameterError: a file is missing, is a folder, cannot be read or is too large; a format or a type that no
            model takes; a table of which not one row fits. The message says which one and what to do.

    >>> render_attachments({"answer": 42}, count=len, limit_tokens=100)
    [{'type': 'text', 'text': 'JSON:\n```json\n{"answer": 42}\n```'}]
    """
    single = not isinstance(attach, list | tuple)
    things = [attach] if single else list(attach)
    return [
        part
        for index, thing in enumerate(things)
        for part in _render(
            thing, where="attach" if single else f"attach[{index}]", count=count, limit_tokens=limit_tokens
        )
    ]


def _render(thing: Any, *, where: str, count: Count, limit_tokens: int) -> Iterable[Part]:
    if isinstance(thing, str | os.PathLike):
        return [_file(os.fspath(thing), where=where)]
    if isinstance(thing, bytes | bytearray | memoryview):
        return [_sniffed(bytes(thing), name=None, where=where)]
    if _comes_from(thing, "pandas", "DataFrame", "Series"):
        return [_text(render_table(thing, count=count, limit_tokens=limit_tokens, where=where))]
    if _comes_from(thing, "PIL", "Image"):
        return [_picture(thing, where=where)]
    if _comes_from(thing, "matplotlib", "Figure"):
        return [_figure(thing)]
    if _comes_from(thing, "matplotlib", "Axes"):
        return [_figure(thing.get_figure())]
    if isinstance(thing, Mapping | list | tuple):
        return [_json(thing, where=where)]
    raise _bad(where, f"is {_name_of(thing)}; give {_MEANT}{_advice(thing)}")


def _comes_from(thing: Any, package: str, *names: str) -> bool:
    return any(c.__name__ in names and c.__module__.split(".")[0] == package for c in type(thing).__mro__)


def _advice(thing: Any) -> str:
    name = getattr(thing, "__name__", "")
    if name == "matplotlib.pyplot":
        return ": plt.gcf() is the current figure"
    if hasattr(thing, "to_pandas"):
        return f": .to_pandas() of this {type(thing).__name__}"
    if type(thing).__module__.split(".")[0] == "numpy":
        return ": pandas.DataFrame(array) for numbers, PIL.Image.fromarray(array) for a picture"
    if hasattr(thing, "savefig"):
        return f": .figure of this {type(thing).__name__}"
    if hasattr(thing, "read"):
        return ": its path, or what .read() returns as bytes"
    return ""


# -- files ----------------------------------------------------------------------------------------


def _file(text: str | bytes, *, where: str) -> Part:
    given = os.fsdecode(text)
    if "\n" in given or len(given) > 4_096:
        raise _bad(where, f"is a text of {len(given):,} characters, expected a path; put text into the question itself")
    if re.match(r"(https?|ftp|file|s3|gs)://|data:[a-z]+/", given):
        raise _bad(where, f"is the URL {given[:80]!r}; load it first and attach the bytes")
    path = config.expanded(given)
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise _bad(where, f"is the folder {given!r}; attach its files: sorted(Path({given!r}).glob('*'))")
        if not stat.S_ISREG(facts.st_mode):
            raise _bad(where, f"is {given!r}, which is no file; read it yourself and attach the bytes")
        if facts.st_size > MOST_MEDIA_BYTES:
            raise _too_large(where, given, facts.st_size)
        with path.open("rb") as file:
            data = file.read(MOST_MEDIA_BYTES + 1)
    except FileNotFoundError as error:
        raise _bad(where, f"names no file: {given!r} ({_nearest(path)})") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _bad(where, f"cannot be read: {given!r} ({reason})") from error
    if len(data) > MOST_MEDIA_BYTES:
        raise _too_large(where, given, len(data))
    return _sniffed(data, name=path.name, where=where)


def _nearest(path: Path) -> str:
    """What to look at when a file is missing."""
    import difflib

    folder = path.parent
    try:
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else None
    except OSError:
        names = []
    if names is None:
        return f"there is no folder {str(folder)!r}; the working directory is {str(Path.cwd())!r}"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"looked in {str(folder.resolve())!r}"


def _too_large(where: str, name: str, size_bytes: int) -> ParameterError:
    most = MOST_MEDIA_BYTES // 1024**2
    return _bad(
        where,
        f"is {name!r} with {size_bytes / 1024**2:,.0f} MB, more than the {most} MB a request takes; attach the part "
        "that matters (a DataFrame's rows, some pages, a smaller picture)",
    )


def _sniffed(data: bytes, *, name: str | None, where: str) -> Part:
    """The part for some bytes, by what they are."""
    shown = repr(name) if name else f"{len(data):,} bytes"
    if len(data) > MOST_MEDIA_BYTES:
        raise _too_large(where, name or "bytes", len(data))
    if not data:
        raise _bad(where, f"is empty ({shown}); leave it out")
    image = next((kind for mark, kind in _IMAGES if data.startswith(mark)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        image = "webp"
    if image is not None:
        return _image(data, image)
    audio = _audio_kind(data)
    if audio is not None:
        return {"type": "input_audio", "input_audio": {"data": _base64(data), "format": audio}}
    if data[:1024].lstrip().startswith(b"%PDF-"):
        url = f"data:application/pdf;base64,{_base64(data)}"
        return {"type": "file", "file": {"filename": name or "attachment.pdf", "file_data": url}}
    return _text_file(data, name=name, shown=shown, where=where)


def _audio_kind(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    # ID3, or a frame of MPEG layer III: eleven bits set, a version and layer that exist, a bit rate that does.
    if data[:3] == b"ID3" and data[3:4] in b"\x02\x03\x04":
        return "mp3"
    if (
        len(data) > 3
        and data[0] == 0xFF
        and data[1] & 0xE6 == 0xE2
        and data[1] & 0x18 != 0x08
        and data[2] & 0xF0 != 0xF0
    ):
        return "mp3"
    return None


def _text_file(data: bytes, *, name: str | None, shown: str, where: str) -> Part:
    if len(data) > MOST_TEXT_BYTES:
        size = f"{len(data) / 1024**2:,.0f} MB"
        raise _bad(where, f"is {size} of text ({shown}), more than any model reads; attach the part that matters")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\x00" in data[:8192] or data.startswith(b"\x1f\x8b"):
            raise _binary(data, shown=shown, where=where) from error
        raise _bad(
            where,
            f"is text that is not UTF-8 ({shown}, byte {error.start:,}); read it in its own encoding, "
            "Path(…).read_text(encoding='cp1252'), and put it into the question",
        ) from error
    if "\x00" in text:
        raise _binary(data, shown=shown, where=where)
    kind = Path(name).suffix.lstrip(".").lower() if name else ""
    return _text(fenced(text.replace("\r\n", "\n"), heading=f"File {name!r}:" if name else "Attached text:", kind=kind))


def _binary(data: bytes, *, shown: str, where: str) -> ParameterError:
    for mark, kind, advice in _FOREIGN:
        if data.startswith(mark):
            return _bad(where, f"is {kind} ({shown}), which models do not read; {advice}")
    return _bad(where, f"is of an unknown binary format ({shown}); give {_MEANT}")


# -- objects --------------------------------------------------------------------------------------


def _picture(image: Any, *, where: str) -> Part:
    # PNG knows these; the rest (CMYK, YCbCr, LAB, HSV, F …) is turned into plain colours.
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, format="PNG")
    if out.tell() > MOST_MEDIA_BYTES:
        size = f"{image.width:,} × {image.height:,} pixels"
        raise _bad(
            where, f"is a picture of {size}, {out.tell() / 1024**2:,.0f} MB as PNG; use image.thumbnail((2048, 2048))"
        )
    return _image(out.getvalue(), "png")


def _figure(figure: Any) -> Part:
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight")
    return _image(out.getvalue(), "png")


def _json(thing: Any, *, where: str) -> Part:
    try:
        text = json.dumps(thing, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad(where, f"cannot be written as JSON ({error}); give plain text, numbers, dicts and lists") from error
    if len(text) > MOST_TEXT_BYTES:
        raise _bad(
            where, f"is {len(text):,} characters of JSON, more than any model reads; attach the part that matters"
        )
    return _text(fenced(text, heading="JSON:", kind="json"))


def fenced(text: str, *, heading: str, kind: str = "") -> str:
    r"""A text between fences longer than any within it, under a heading.

    >>> fenced("x = 1\n", heading="File 'a.py':", kind="py")
    "File 'a.py':\n```py\nx = 1\n```"
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{heading}\n{fence}{kind}\n{text}{end}{fence}"


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _image(data: bytes, kind: str) -> Part:
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{_base64(data)}"}}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _name_of(thing: Any) -> str:
    module = type(thing).__module__
    name = type(thing).__qualname__
    return f"of type {name}" if module == "builtins" else f"of type {module.split('.')[0]}.{name}"


def _bad(where: str, what: str) -> ParameterError:
    return ParameterError(f"{where} {what}", name="attach")
