"""Who may import whom, as docs/architecture.md says it: read from the sources, lazy imports too."""
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from shipped import ROOT
from vsf_pack.nodes.glue.families import FAMILIES

MAY_IMPORT = {  # room -> rooms
    "vsf_core": set(),
    "nodes/glue": set(),  # said.py, conditioning.py
    "nodes/glue/attention": {"vsf_core"},
    "nodes/glue/reading": {"vsf_core", "nodes/glue"},
    "nodes/glue/families": {"vsf_core", "nodes/glue", "nodes/glue/attention", "nodes/glue/reading"},
    "nodes/glue/sampling": {"vsf_core", "nodes/glue", "nodes/glue/attention", "nodes/glue/reading", "nodes/glue/families"},
    "nodes": {"vsf_core", "nodes/glue", "nodes/glue/reading", "nodes/glue/families", "nodes/glue/sampling"},
    ".": {"nodes"},
}
WORKSHOP = ("benchmarks", "testbed", "tests/helpers", "tools")
PACK = sorted(p.relative_to(ROOT) for room in MAY_IMPORT for p in (ROOT / room).glob("*.py") if p.name != "dev.py")
WORKSHOPS = {".".join(p.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__"): p.relative_to(ROOT)
             for folder in WORKSHOP for p in (ROOT / folder).rglob("*.py")}  # by name: each of its folders is on the path
ADAPTERS = {Path(f"nodes/glue/families/{module}.py") for module, _ in FAMILIES.values()}


@cache
def imports(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Of one file, by its path from the repository."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def file_of(module: Path) -> Path | None:
    """The file of a module of this repository."""
    return next((p for p in (Path(f"{module}.py"), module / "__init__.py") if (ROOT / p).is_file()), None)


def within(path: Path) -> Iterator[Path]:
    """The files that the relative imports of a file end in."""
    for node in imports(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for alias in node.names:
                yield file_of(base / alias.name) or file_of(base) or base


def outside(path: Path) -> Iterator[str]:
    """The modules that a file imports by their full name."""
    for node in imports(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not node.level:
            yield node.module


def check_no_cycle(graph: dict[Path, set[Path]]) -> None:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(" -> ".join(map(str, e.args[1])))


@pytest.mark.parametrize("path", PACK, ids=str)
def test_a_room_knows_only_those_below_it(path):
    room = path.parent.as_posix()
    for found in within(path):
        other = found.parent.as_posix()
        assert other == room or other in MAY_IMPORT[room], f"{path} imports {found}"


def test_every_folder_of_the_pack_is_a_room():
    folders = {p.parent.relative_to(ROOT).as_posix() for top in ("nodes", "vsf_core") for p in (ROOT / top).rglob("*.py")}
    assert folders == MAY_IMPORT.keys() - {"."}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_has_a_door(room):
    """What is behind it, in words: the docstring of its package."""
    assert ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))


def test_adapters_are_found_by_the_class_of_the_model_alone():
    """No module imports one, another adapter least of all: what two families need is a module of its own."""
    assert all((ROOT / path).is_file() for path in ADAPTERS)
    for path in PACK:
        assert not ADAPTERS & set(within(path)), path


def test_no_cycles():
    check_no_cycle({path: set(within(path)) for path in PACK})


def test_no_cycles_in_the_workshop():
    check_no_cycle({path: set(within(path)) | {WORKSHOPS[name] for name in outside(path) if name in WORKSHOPS}
                    for path in WORKSHOPS.values()})


def test_the_pack_never_imports_the_workshop():
    workshop = {name.partition(".")[0] for name in WORKSHOPS} | {"benchmarks", "dev", "testbed", "tests", "tools"}
    for path in PACK:
        for name in outside(path):
            assert name.partition(".")[0] not in workshop, f"{path} imports {name}"


def test_the_core_needs_torch_and_nothing_else():
    for path in PACK:
        if path.parts[0] == "vsf_core":
            for name in outside(path):
                assert name.partition(".")[0] in {*sys.stdlib_module_names, "torch", "einops"}, f"{path} imports {name}"
