"""The source tree as the house tests read it: modules, their imports, the files that git would keep."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

UNTRACKED = frozenset(
    {".git", ".venv", "build", "dist", "node_modules", "output", ".hypothesis", ".voxnb", ".ipynb_checkpoints"}
)


@dataclass(frozen=True)
class Import:
    """One import statement: who, whom, where."""

    importer: str
    target: str
    names: tuple[str, ...]
    line: int
    kind: str  # "module": runs at import; "function": runs on call; "typing": never runs

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


@dataclass(frozen=True)
class Module:
    """One module of the package."""

    name: str
    path: Path
    source: str
    tree: ast.Module
    imports: tuple[Import, ...] = field(default=())

    @property
    def room(self) -> str:
        """``voxnb.store.ids`` → ``store``; the package itself is ``voxnb``."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else parts[0]

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())


def _dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    waiting = [(tree, "module")]
    while waiting:
        node, kind = waiting.pop()
        for child in ast.iter_child_nodes(node):
            inner = kind
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = "function"
            elif _is_typing_block(child):
                inner = "typing"
            yield child, inner
            if child._fields:
                waiting.append((child, inner))


def read_imports(tree: ast.Module, *, name: str, is_package: bool, known: frozenset[str]) -> tuple[Import, ...]:
    """Every import of a module; names are resolved to modules where such a module is `known`."""
    package = name if is_package else name.rpartition(".")[0]
    found: list[Import] = []

    def add(target: str, names: tuple[str, ...], node: ast.AST, kind: str) -> None:
        found.append(Import(name, target, names, node.lineno, kind))

    for node, kind in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, (), node, kind)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                add(inner if inner in known else base, (alias.name,), node, kind)
        elif isinstance(node, ast.Call) and (
            getattr(node.func, "attr", None) == "import_module"
            or getattr(node.func, "id", None) in ("import_module", "__import__")
        ):
            first = node.args[0] if node.args else None
            add(first.value if isinstance(first, ast.Constant) else "?", (), node, kind)
    return tuple(found)


@pytest.fixture(scope="session")
def modules(root: Path) -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    paths = {_dotted(p, root): p for p in sorted((root / "voxnb").rglob("*.py"))}
    assert "voxnb" in paths
    out = {}
    for name, path in paths.items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, str(path))
        imports = read_imports(tree, name=name, is_package=path.name == "__init__.py", known=frozenset(paths))
        out[name] = Module(name, path, source, tree, imports)
    return out


@pytest.fixture(scope="session")
def imports(modules: dict[str, Module]) -> list[Import]:
    """Every import of the package."""
    return [i for m in modules.values() for i in m.imports]


@pytest.fixture(scope="session")
def files(root: Path) -> list[Path]:
    """The project's files, relative: what git keeps or would keep; without git (an unpacked release) what lies there."""
    git = shutil.which("git")
    if git and (root / ".git").exists():
        done = subprocess.run(
            [git, "-c", f"safe.directory={root}", "ls-files", "-z", "-co", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        names = [Path(n) for n in done.stdout.decode().split("\0") if n]
        return sorted({n for n in names if (root / n).is_file()})
    found = []
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        cache = any(p in UNTRACKED or p.endswith(("_cache", "__pycache__", ".egg-info")) for p in relative.parts)
        if path.is_file() and not cache:
            found.append(relative)
    return sorted(found)
