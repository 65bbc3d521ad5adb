"""The pack as people get it: the registry's zip, unpacked into a folder of any name."""
from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType

import pytest
import shipped
import vsf
from comfy_config.config_parser import extract_node_configuration
from shipped import ROOT

MOST_BYTES = 3_000_000
NEEDED = {  # folders -> kinds of files in them
    ".": {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml"},
    "nodes": {".py"},
    "nodes/glue": {".py"},
    "nodes/glue/*": {".py"},
    "vsf_core": {".py"},
    "locales/*": {"nodeDefs.json"},
    "subgraphs": {".json"},
    "web/docs": {".md", ".jpg"},
    "web/docs/*": {".md"},
    "workflows": {".json", ".jpg"},
}
SECURITY_RULES = "S102,S307,E702"  # comfy-cli's `node validate`


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip."""
    path = tmp_path_factory.mktemp("registry") / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in shipped.shipped():
            file.write(ROOT / name, str(name))
    return path


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked under a name that is no Python identifier, as a Manager or a person might name it."""
    folder = tmp_path_factory.mktemp("custom_nodes") / "comfyui-VSF guidance.v2-main"
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def files(folder: Path) -> set[PurePath]:
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"}


@pytest.fixture
def pack(installed: Path) -> Iterator[ModuleType]:
    """Imported as ComfyUI does it (nodes.py, load_custom_node): under its path, with dots replaced."""
    name = str(installed).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, installed / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[loaded]


def test_only_what_is_needed():
    met = set()
    for path in shipped.shipped():
        folder = next((pattern for pattern in NEEDED if fnmatchcase(str(path.parent), pattern)), None)
        assert folder and {path.name, path.suffix} & NEEDED[folder], path
        met.add(folder)
    assert met == set(NEEDED), "is something left out that people need?"


def test_is_small(archive):
    assert archive.stat().st_size < MOST_BYTES


def test_all_that_is_imported_is_there():
    """Relative imports end in files that are shipped too, and nothing is imported by the folder's own name."""
    there = set(shipped.shipped())
    for path in shipped.sources():
        for dots, name in re.findall(r"^\s*from (\.+)([\w.]*) import", (ROOT / path).read_text(encoding="utf-8"), re.M):
            module = path.parents[len(dots) - 1].joinpath(*name.split(".")) if name else path.parents[len(dots) - 1]
            assert {PurePosixPath(f"{module}.py"), module / "__init__.py"} & there, f"{path}: {dots}{name}"


def test_sources_can_be_read_on_any_system():
    """Tools on Windows read and write them as cp1252."""
    for path in shipped.shipped():
        if path.suffix in {".py", ".toml"}:
            (ROOT / path).read_text(encoding="utf-8").encode("cp1252")


def test_the_registrys_rules(installed):
    """As `comfy node validate` asks them; the rules of this repository's own pyproject.toml do not count."""
    ruff = Path(sys.executable).with_name("ruff" + (".exe" if sys.platform == "win32" else ""))
    command = [str(ruff), "check", "--isolated", "--no-cache", "--select", SECURITY_RULES, str(installed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_pack_imports_nothing_else(installed):
    """Alone in a Python without ComfyUI, torch or anything: a fault in it costs ComfyUI's start nothing, and no time."""
    code = ("import importlib.util, json, sys; before = set(sys.modules); "
            f"spec = importlib.util.spec_from_file_location('pack', {str(installed / '__init__.py')!r}, "
            f"submodule_search_locations=[{str(installed)!r}]); module = importlib.util.module_from_spec(spec); "
            "sys.modules['pack'] = module; spec.loader.exec_module(module); "
            "print(json.dumps([sorted(set(sys.modules) - before), sorted(module.__all__)]))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["pack"], ["WEB_DIRECTORY", "comfy_entrypoint"]]


def test_runs_under_another_name(pack, installed):
    """Nodes, all adapters and the web folder, from the unpacked files alone; and nothing is written among them."""
    before = files(installed)

    async def load() -> list[type]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    nodes = {node.GET_SCHEMA().node_id for node in vsf.apart(asyncio.run, load())}
    assert nodes == set(vsf.node_classes())
    families = importlib.import_module(f"{pack.__name__}.nodes.glue.families")
    for module, _ in families.FAMILIES.values():
        assert Path(importlib.import_module(f"{families.__name__}.{module}").__file__).is_relative_to(installed)
    assert {path.stem for path in (installed / pack.WEB_DIRECTORY / "docs").glob("*.md")} == nodes
    assert files(installed) == before


def test_metadata(installed):
    """By ComfyUI's own reader."""
    found = extract_node_configuration(str(installed))
    assert re.fullmatch(r"[a-z][a-z0-9._-]{2,99}", found.project.name) and "comfyui" not in found.project.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.project.version)
    assert found.project.supported_os == ["OS Independent"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", found.project.supported_comfyui_version)
    assert not found.project.dependencies and not (installed / "requirements.txt").exists()
    assert found.project.description and found.tool_comfy.display_name


def test_the_changelog_begins_with_this_version(installed):
    versions = re.findall(r"^## (\S+)", (installed / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == extract_node_configuration(str(installed)).project.version
