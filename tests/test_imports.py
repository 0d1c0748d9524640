"""What may import what, and what a light start does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "eagle3_plugin"
LAYERS = {
    "__init__": 0,
    "errors": 0,
    "settings": 0,
    "hub": 1,
    "draft": 1,
    "planning": 2,
    "engines": 3,
    "tiny": 3,
    "serving": 4,
    "measuring": 5,
    "report": 5,
    "watching": 5,
    "answers": 5,
    "arguments": 5,
    "console": 5,
    "show": 5,
    "demo": 5,
    "engine": 5,
    "cli": 6,
    "__main__": 7,
}
"""A part may import those of its own layer and of the layers below it."""

HEAVY = ("torch", "transformers", "vllm", "sglang")
ENGINES = ("vllm", "sglang")


def _files(repository: Path) -> list[Path]:
    return sorted((repository / PACKAGE).rglob("*.py"))


def _part(parts: tuple[str, ...]) -> str:
    """The part that a module (`eagle3_plugin`, `draft`, `config`) belongs to; hub_x is of hub."""
    part = parts[1] if len(parts) > 1 else "__init__"
    return part if part.startswith("__") else part.split("_")[0]


def _imports(file: Path, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All modules that a file imports, lazily or not, as absolute dotted names split up."""
    package = module if file.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*origin, alias.name) for alias in node.names)


def _edges(repository: Path) -> Iterator[tuple[str, str, str]]:
    """(file, its part, the part of ours that it imports)."""
    for file in _files(repository):
        name = file.relative_to(repository).with_suffix("")
        module = name.parts[:-1] if name.name == "__init__" else name.parts
        for imported in _imports(file, module):
            if imported[0] == PACKAGE:
                target = _part(imported)
                known = target in LAYERS
                yield str(name), _part(module), target if known else "__init__"


def test_every_part_of_the_package_has_a_layer(repository: Path) -> None:
    modules = [file.relative_to(repository).with_suffix("").parts for file in _files(repository)]
    assert {_part(module) for module in modules} - set(LAYERS) == set()


def test_no_part_imports_one_of_a_layer_above_it(repository: Path) -> None:
    edges = list(_edges(repository))
    assert edges
    assert [edge for edge in edges if LAYERS[edge[2]] > LAYERS[edge[1]]] == []


def test_draft_and_planning_never_import_an_engine(repository: Path) -> None:
    inner = [edge for edge in _edges(repository) if edge[1] in ("draft", "planning")]
    assert [edge for edge in inner if edge[2] == "engines"] == []


def test_only_the_engines_part_imports_vllm_or_sglang(repository: Path) -> None:
    guilty = {
        str(file.relative_to(repository))
        for file in _files(repository)
        for imported in _imports(file, file.relative_to(repository).parts)
        if imported[0] in ENGINES
    }
    assert [file for file in sorted(guilty) if not file.startswith(f"{PACKAGE}/engines/")] == []


@pytest.mark.parametrize(
    "start",
    [
        "import eagle3_plugin",
        "import eagle3_plugin.cli, sys; sys.argv = ['eagle3', '--help']; eagle3_plugin.cli.main()",
    ],
    ids=["import eagle3_plugin", "eagle3 --help"],
)
def test_a_light_start_loads_neither_torch_nor_an_engine(start: str) -> None:
    code = (
        "import atexit, sys\n"
        f"report = lambda: print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])\n"
        f"atexit.register(report)\n{start}"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.splitlines()[-1:]) == (0, ["loaded: []"]), run.stderr
