"""README's table of VoxEngine's API is the one that the code gives, and it is complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.docs import voxengine_table
from tests.voxengine import reference
from voxnb.events import NAMESPACES


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def shown(readme):
    return readme[readme.index(voxengine_table.BEGIN) : readme.index(voxengine_table.END)]


def test_it_is_up_to_date(readme):
    assert readme == voxengine_table.written(readme), voxengine_table.REGENERATE


def test_it_has_every_class_and_factory_of_the_reference(shown):
    for name in reference.METHODS:
        assert f"`OpenAI.create{name}({{…}})`" in shown
        assert f"`OpenAI.{name}`" in shown


def test_it_has_every_method_of_the_reference_with_its_clients(shown):
    block = shown.partition("Every method")[2].partition("</details>")[0]
    rows = dict(re.findall(r"^\| `(\w+\([\w, ?]*\))` \| ([^|]+) \|", block, re.MULTILINE))
    for name, methods in reference.METHODS.items():
        for method in methods:
            bare, _, _ = method.partition("(")
            (row,) = (who for said, who in rows.items() if said.startswith(f"{bare}("))
            assert voxengine_table.SHORT[name] in row


def test_it_has_every_parameter_of_the_reference_with_its_default(shown):
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| `(\w+)` \|", shown, re.MULTILINE)
    for name, given in reference.PARAMETERS.items():
        for parameter, default in given.items():
            text = {reference.REQUIRED: "required", reference.NOT_STATED: "none"}.get(default, f"`{default}`")
            (row,) = (r for r in rows if r[0] == parameter and voxengine_table.SHORT[name] in r[1])
            assert row[2] == text


def test_it_has_every_event_of_the_reference(shown):
    seed = {name: space for name, space in NAMESPACES.items() if name.startswith("OpenAI.")}
    assert sum(map(len, seed.values())) == 144
    for name, space in seed.items():
        head = f"`{name}`, as the value `"
        listed = shown[shown.index(head) :].partition(":\n")[2].partition("\n\n")[0]
        assert re.findall(r"\w+", listed) == list(space.__members__)


@pytest.mark.slow
def test_a_readme_that_is_out_of_date_is_told_how_to_be_written_anew(root, tmp_path):
    copy = tmp_path / "README.md"
    shutil.copy(root / "README.md", copy)
    copy.write_text(copy.read_text(encoding="utf-8").replace("| `apiKey` |", "| `apikey` |"), encoding="utf-8")

    def run(*options):
        command = [sys.executable, voxengine_table.__file__, "--readme", str(copy), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout.strip(), done.stderr

    assert run("--check") == (1, "README.md is out of date; run: python tests/docs/voxengine_table.py", "")
    assert run() == (0, "written", "")
    assert run("--check") == (0, "up to date", "")
    assert copy.read_text(encoding="utf-8") == (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", voxengine_table.BEGIN, voxengine_table.END + voxengine_table.BEGIN])
def test_a_readme_without_the_marks_is_refused(text):
    with pytest.raises(ValueError, match="once each, in this order"):
        voxengine_table.written(text)
