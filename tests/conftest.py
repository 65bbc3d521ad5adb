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


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """What a test encodes is not remembered in the next, which may use the same numbers (nodes/glue/reading/made.py); and what
    it draws without a generator is the same in whatever order the tests run."""
    import torch
    torch.manual_seed(0)
    if made := sys.modules.get("vsf_pack.nodes.glue.reading.made"):  # tests/server alone does not load it
        made._made.clear()


LONGEST = ("server", "test_testbed", "test_commands", "test_training_runs_and_resumes")
SHORTEST = ("test_families", "test_contexts")


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What one process runs when several share the tests: a file; all of tests/server, for one ComfyUI; of the long files
    that go over all models, one model; the testbed's training, which shares nothing with the rest of its file. What takes
    longest begins first, and what comes in many small pieces last, so that all processes are busy to the end."""
    places = {}
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        name = item.path.parent.name if item.path.parent.name == "server" else item.path.stem
        place = (*LONGEST, None, *SHORTEST).index(name if name in LONGEST + SHORTEST else None)
        if name in SHORTEST:
            name = getattr(case, "name", name)
        if item.name in LONGEST:
            name, place = item.name, LONGEST.index(item.name)
        item.add_marker(pytest.mark.xdist_group(name))
        places[item] = place
    items.sort(key=places.get)


def pytest_sessionfinish() -> None:
    """Let go of models while ComfyUI is still whole: their finalisers print errors when the interpreter is half gone."""
    import comfy.model_management
    comfy.model_management.unload_all_models()
    comfy.model_management.current_loaded_models.clear()
    sys.modules["tiny"].cached.cache_clear() if "tiny" in sys.modules else None
    gc.collect()
