"""What the project says of itself holds: trees, tables, commands, names; and it speaks of itself alone."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib.util
import inspect
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

TOP_LEVEL = {"pyproject.toml", "voxnb", "notebooks", "tests", "data", "README.md"}

# Where files of one machine live. Written so that the patterns do not find themselves.
MACHINE_PATHS = re.compile(
    r"(?<![\w.~])/(?:work|root|opt|mnt|srv|home/\w+|Users/\w+)/(?=[\w.])|\b[A-Z]:\\(?:Users|Windows)\\|\bsite-packages/\w"
)
INDEX_HOSTS = re.compile(
    r"pypi\.(?:org|python)|python(?:hosted)\.org|deb(?:ian)\.org/|registry\.npm(?:js)|"
    r"--(?:extra-)?index-(?:url)|--find-(?:links)|huggingface\.(?:co)\b",
)
# The project speaks of the project: not of who made it, when, or from which notes.
WORKPLACE = re.compile(
    r"\b(?:sub-?agents?|(?:another|other|the|an?) agents?(?!['\w-])|this (?:workplace|brief)|code(?:name)|"
    r"co-?workers?|(?:my|earlier|previous) (?:sessions?)(?= (?:of|did|has|had|wrote))|design\.(?:md)|"
    r"shared/(?:design|lessons|reference|seed|hooks|data)|lessons/\w|style\.(?:md)|contract\.(?:md))\b|"
    r"\bissues?\s+#?\d+\b|\b(?:fix(?:es)?|clos(?:es)?|see|resolves?) #\d+\b|\bthe (?:lead|CEO)\b(?! time)|\b(?-i:owner: [A-Z]{3,})\b",
    re.IGNORECASE,
)
PROSE = {".py", ".md", ".toml", ".ipynb", ".js", ".css", ".html", ".sh", ".json", ""}


def texts(root, files, suffixes=None):
    for name in files:
        if suffixes is not None and name.suffix not in suffixes:
            continue
        try:
            yield name, (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, a compressed table


def found(pattern, root, files, suffixes=None):
    return [
        f"{name}:{number}: {hit.group(0)}"
        for name, text in texts(root, files, suffixes)
        for number, line in enumerate(text.splitlines(), 1)
        for hit in pattern.finditer(line)
    ]


def test_no_file_names_a_folder_of_one_machine(root, files):
    assert found(MACHINE_PATHS, root, files) == []


def test_no_file_names_a_package_index(root, files):
    assert found(INDEX_HOSTS, root, files) == []


def test_the_text_speaks_of_the_project_alone(root, files):
    assert found(WORKPLACE, root, files, PROSE) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATHS, "see /root" + "/notes.txt"),
        (MACHINE_PATHS, 'open("/home' + '/ann/x.db")'),
        (INDEX_HOSTS, "from https://pypi" + ".org/simple"),
        (WORKPLACE, "closes issue" + " 12"),
        (WORKPLACE, "as the" + " lead asked"),
        (WORKPLACE, "# written by another" + " agent"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, line):
    assert pattern.search(line)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATHS, "https://example.com/home/ann/page"),
        (MACHINE_PATHS, "/dev/full is a disk that is always full"),
        (WORKPLACE, "openai-agents SQLiteSession"),
        (WORKPLACE, "user_agent, misleading, the leading messages"),
        (WORKPLACE, "a session ends at its token limit"),
        (WORKPLACE, "color: #123456; see langchain#38352"),
    ],
)
def test_the_patterns_leave_the_subject_alone(pattern, line):
    assert not pattern.search(line)


def test_the_top_level_holds_only_what_belongs_there(files):
    assert {n.parts[0] for n in files if not n.parts[0].startswith(".")} <= TOP_LEVEL


def test_a_test_lies_in_the_room_it_is_about(files, modules):
    rooms = {m.room for m in modules.values()}
    loose = [n for n in files if n.parts[0] == "tests" and len(n.parts) == 2 and n.name != "conftest.py"]
    assert [str(n) for n in loose if n.stem.removeprefix("test_") not in rooms] == []


def requirements(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return project, [(group, Requirement(text)) for group, texts in groups.items() for text in texts]


def test_dependencies_have_lower_bounds_and_no_upper_ones(root):
    project, wanted = requirements(root)
    wrong = [
        f"[{group}] {r}"
        for group, r in wanted
        if (r.name != project["name"] and [s.operator for s in r.specifier] != [">="]) or r.url
    ]
    assert wrong == []
    assert re.fullmatch(r">=3\.\d+", project["requires-python"])


def test_what_is_imported_is_asked_for(root, modules):
    _, wanted = requirements(root)
    names = {r.name.lower().replace("-", "_") for _, r in wanted}
    # Import names that differ from the package's, what a dependency brings for itself, and optional finds.
    names |= {"markdown_it", "pil", "ipython", "numpy", "httpx2", "nest_asyncio2", "comm", "hibari", "webrtcvad"}
    names |= {"vl_convert"}  # vl-convert-python
    third_party = {i.target.split(".")[0] for m in modules.values() for i in m.imports} - {"voxnb", "?", "__future__"}
    assert {n for n in third_party if n not in sys.stdlib_module_names and n.lower() not in names} == set()


def drawn_tree(docstring):
    """``(name, parents)`` of the tree drawn in a docstring: nesting by indentation, further bases in brackets."""
    path: list[str] = []
    out = {}
    for line in docstring.splitlines():
        node = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?(\w+Error)(?:\((\w+)\))?", line)
        if not node:
            continue
        depth = len(node[1]) // 4 + (1 if "── " in line else 0)
        path[depth:] = [node[2]]
        out[node[2]] = {path[depth - 1] if depth else "Exception"} | ({node[3]} if node[3] else set())
    return out


def test_the_tree_of_errors_is_the_one_that_is_drawn():
    from voxnb import errors

    real = {
        name: {base.__name__ for base in value.__bases__}
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.VoxnbError)
    }
    assert drawn_tree(errors.__doc__) == real


def test_event_namespaces_have_as_many_events_as_they_say():
    from voxnb import events

    said = {
        value: int(number[1])
        for value in vars(events).values()
        if inspect.isclass(value) and issubclass(value, events.EventNamespace)
        if (number := re.search(r"\((\d+)[);]", inspect.getdoc(value) or ""))
    }
    assert len(said) >= 6
    assert {space.__name__: len(space) for space in said} == {space.__name__: n for space, n in said.items()}


def test_examples_in_docstrings_are_true(modules):
    wrong = {}
    for name in modules:
        if name.endswith("__main__"):
            continue
        result = doctest.testmod(
            importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        )
        if result.failed:
            wrong[name] = result
    assert wrong == {}


def test_every_module_says_what_it_is(modules):
    assert [m.name for m in modules.values() if not ast.get_docstring(m.tree)] == []


def test_every_suppression_gives_its_reason(modules):
    marker = re.compile(r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w,\s-]+\])?)")
    bare = [
        f"{m.name}:{number}"
        for m in modules.values()
        for number, line in enumerate(m.source.splitlines(), 1)
        if (hit := marker.search(line)) and len(re.findall(r"[a-z]{2,}", marker.sub("", line[hit.start() :]))) < 2
    ]
    assert bare == []


def test_nothing_is_left_to_do(root, files):
    words = re.compile(r"\b(?:TO(?:DO)|FIX(?:ME)|X(?:XX))\b")
    assert found(words, root, files, {".py", ".md", ".js", ".css", ".toml"}) == []


@pytest.mark.parametrize("mark", ["demo", "test"])
def test_the_readme_has_the_command_that_the_gate_runs(mark, root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    block = re.search(rf"<!-- command: {mark} -->\n```bash\n(.+)\n```", readme)
    assert block, f"README.md has no command marked {mark!r}"
    assert "\n" not in block[1], "one line, so that it can be pasted"
    assert "<!-- command: $1 -->" in (root / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readme_names_every_public_name(root):
    import voxnb

    readme = (root / "README.md").read_text(encoding="utf-8")
    assert [n for n in voxnb.__all__ if n != "__version__" and not re.search(rf"\b{n}\b", readme)] == []


def test_the_readme_names_nothing_that_is_not_there(root):
    import voxnb

    readme = (root / "README.md").read_text(encoding="utf-8")
    # `https://…/voxnb.x` and file names are not names of the package.
    said = set(re.findall(r"(?<![\w./])voxnb\.([A-Za-z_]\w*)", readme))
    assert {n for n in said if not hasattr(voxnb, n) and importlib.util.find_spec(f"voxnb.{n}") is None} == set()
    policy = {f.name for f in dataclasses.fields(voxnb.ContextPolicy)}
    assert set(re.findall(r"[(,] *(\w+)=", "".join(re.findall(r"ContextPolicy\(([^)]*)\)", readme)))) <= policy
