"""Loads the real ComfyUI and the pack, as ComfyUI itself loads it.

pytest runs with --import-mode=importlib and there is no tests/__init__.py: with any other import mode the pack's folder
`nodes` would shadow ComfyUI's nodes.py.
"""
from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load_comfyui() -> None:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise pytest.UsageError("COMFYUI_PATH is not set: run the tests with `python dev.py test`")
    sys.path.insert(0, path)
    argv, sys.argv = sys.argv, ["comfyui", "--cpu"]
    try:
        import comfy.options
        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401  parses --cpu
    finally:
        sys.argv = argv


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location("vsf_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["vsf_pack"] = module
    spec.loader.exec_module(module)


# at import, because the conftest files of the folders below already need ComfyUI
_load_comfyui()
_load_pack()
sys.path.insert(0, str(ROOT / "tests" / "helpers"))


LONGEST = {"testbed": 0, "server": 1}


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What one process runs when several share the tests: a file; all of tests/server, for one ComfyUI; of the long file that
    goes over all models, one model. What takes longest begins first."""
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        name = item.path.parent.name if item.path.parent.name == "server" else item.path.stem
        if name == "test_families":
            name = getattr(case, "name", name)
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: LONGEST.get(item.path.parent.name, len(LONGEST)))


def pytest_sessionfinish() -> None:
    """Let go of models while ComfyUI is still whole: their finalisers print errors when the interpreter is half gone."""
    import comfy.model_management
    comfy.model_management.unload_all_models()
    comfy.model_management.current_loaded_models.clear()
    sys.modules["tiny"].cached.cache_clear() if "tiny" in sys.modules else None
    gc.collect()
