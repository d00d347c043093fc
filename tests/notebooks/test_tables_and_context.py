"""The notebooks that run from a tape: without a key or a model, on every kernel, and readable where pages are stripped."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest
from nbconvert import HTMLExporter

from tests.notebooks.saved import ROOT, Notebook, output

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own

CONTEXT = Notebook("04_context_inspector.ipynb")
TABLES = Notebook("05_tables.ipynb")
BOTH = pytest.mark.parametrize("notebook", [CONTEXT, TABLES], ids=lambda notebook: notebook.name)
MOST_BYTES = 250_000

# What a reader of the saved file must find, whatever his page leaves out.
READS = {
    "01_quickstart.ipynb": ["folded ---", "rebuilt exactly", "all holds: 1 conversation"],
    "02_port_a_scenario.ipynb": ["I fly to Oslo on Friday", "SK 1463 is 25 minutes late", "rebuilt exactly"],
    CONTEXT.name: ["turns 1-6 folded", "rebuilt exactly", "covers turns 1-10", "over the threshold", "folds at 520", "all holds: 1 conversation"],
    TABLES.name: ["SmolLM2-135M-Instruct", "imported 2 conversations", "9:12", "folds at 180", "the copy says the same: True", "all holds: 4 conversations"],
}  # fmt: skip


class Stripped(HTMLParser):
    """A page as the strictest hosts show it: no style, no script, no attribute, and so no picture."""

    def __init__(self, page):
        super().__init__()
        self.text, self._hidden = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in ("style", "script", "svg")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("style", "script", "svg")

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)

    def __str__(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def html_outputs(made):
    return [
        "".join(one["data"]["text/html"])
        for cell in made.cells
        for one in cell.get("outputs", ())
        if "text/html" in one.get("data", {})
    ]


@BOTH
def test_it_is_saved_as_it_ran_from_its_tape(notebook):
    assert re.search(r"replay, stopped: \d\d replayed, 0 recorded", output(notebook.cells[-1]))


@BOTH
def test_its_file_and_its_tape_stay_small_and_hold_no_widget_state(notebook):
    assert notebook.path.stat().st_size < MOST_BYTES
    assert notebook.path.with_suffix(".tape").stat().st_size < MOST_BYTES
    assert "widgets" not in notebook.made.metadata
    kinds = {kind for cell in notebook.cells for one in cell.outputs for kind in one.get("data", {})}
    assert kinds <= {"text/plain", "text/html"}


@BOTH
def test_its_outputs_need_no_style_and_no_script(notebook):
    for page in html_outputs(notebook.made):
        # What pandas draws for a table that is no longer ours brings a style that says nothing.
        page = re.sub(r"<style scoped>.*?</style>", "", page, flags=re.DOTALL) if 'class="dataframe"' in page else page
        page = page.replace(' style="text-align: right;"', "")
        assert not re.search(r"<(?:script|style|iframe|link|object)\b|\son\w+=|\sstyle=", page), page[:300]
        assert not re.search(r"(?:src|href)=\"(?!data:image/svg)", page), page[:300]


@pytest.mark.parametrize("name", READS)
def test_exported_it_reads_without_style_script_attributes_and_pictures(name):
    page, _ = HTMLExporter().from_notebook_node(Notebook(name).made)
    text = str(Stripped(page))
    for words in READS[name]:
        assert words in text


def kernels():
    """The interpreters on whose kernels it is tried: this one, and those in VOXNB_KERNELS (paths, parted like PATH)."""
    more = [path for path in os.environ.get("VOXNB_KERNELS", "").split(os.pathsep) if path]
    return [pytest.param(None, id="this kernel"), *(pytest.param(path, id=path.split("/")[-3]) for path in more)]


def offered(python, folder, monkeypatch):
    """Offer an interpreter's kernel; returns its name."""
    if python is None:
        return "python3"
    place = folder / "jupyter" / "kernels" / "other"
    place.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    return "other"


@pytest.mark.local
@pytest.mark.kernel
@pytest.mark.timeout(420)
@pytest.mark.parametrize("python", kernels()[1:])
@pytest.mark.parametrize("name", ["01_quickstart.ipynb", "02_port_a_scenario.ipynb"])
def test_those_with_the_embedded_model_run_on_older_kernels(name, python, tmp_path, monkeypatch):
    kernel = offered(python, tmp_path, monkeypatch)
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "s.db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = Notebook(name).run(tmp_path, kernel=kernel)
    assert again.streams() <= {"stdout"}
    text = " ".join(output(cell) for cell in again.cells)
    assert "rebuilt exactly" in text


@pytest.mark.kernel
@pytest.mark.timeout(300)
@pytest.mark.parametrize("python", kernels())
@BOTH
def test_it_runs_from_its_tape_and_says_the_same(notebook, python, tmp_path, monkeypatch):
    shutil.copy(notebook.path.with_suffix(".tape"), tmp_path)
    name = offered(python, tmp_path, monkeypatch)
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VOXNB_TAPE", "replay")
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "s.db"))
    monkeypatch.setenv("VOXNB_CACHE", str(tmp_path / "no-weights-here"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = notebook.run(tmp_path, kernel=name)
    assert again.streams() <= {"stdout"}
    assert output(again.cells[-1]).count("0 recorded") >= 1
    assert not (tmp_path / "no-weights-here").exists(), "no model was fetched or started"
    text = " ".join(output(cell) for cell in again.cells)
    for words in READS[notebook.name]:
        assert words in text
    printed = [(a.source, b.source) for a, b in zip(notebook.cells, again.cells, strict=True) if prints(a) != prints(b)]
    assert printed == []


def prints(cell):
    return "".join(one["text"] for one in cell.outputs if one.output_type == "stream")
