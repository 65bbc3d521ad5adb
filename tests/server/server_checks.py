"""What the tests of this folder share."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import build_workflows
import numpy as np
import pytest
import testbed_workflows
from build_workflows import WITH, WITHOUT
from PIL import Image
from recipes import RECIPES, TEMPLATES, Recipe


def title(recipe: Recipe) -> str:
    """A recipe's name in a test's."""
    return recipe.title


EVERY_TEMPLATE = pytest.mark.parametrize("recipe", TEMPLATES, ids=title)
PICTURE_RECIPES = pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not recipe.video], ids=title)
RELEASED = sorted((Path(__file__).resolve().parents[1] / "released").glob("*/workflows/*.json"))
EVERY_RELEASED = pytest.mark.parametrize("file", RELEASED, ids=lambda file: f"{file.parts[-3]} {file.stem}")
RENDERERS = pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
WIDE_MODEL = "vsf_testbed_sd3_wide.safetensors"  # conftest.py makes it
CLIP_LOADERS = {"CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader"}
LOADERS = {"CheckpointLoaderSimple", "UNETLoader", "LoraLoaderModelOnly", "VAELoader", *CLIP_LOADERS}


def pixels(file: bytes) -> np.ndarray:
    """A PNG file's RGB values."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def check_pair(found: dict[str, np.ndarray], size: int) -> None:
    """Two real pictures of the right size that differ."""
    assert set(found) == {WITHOUT, WITH}
    for picture in found.values():
        assert picture.shape == (size, size, 3)
        assert picture.std() > 10, "a picture of one colour"
    assert (found[WITHOUT] != found[WITH]).mean() > 0.01, "the negative changed nothing"


def check_only_models_missing(node_errors: dict) -> None:
    """Loaders miss their files; nothing else is wrong."""
    assert node_errors
    for found in node_errors.values():
        assert found["class_type"] in LOADERS
        assert {error["type"] for error in found["errors"]} == {"value_not_in_list"}


def small(recipe: Recipe) -> dict:
    """A recipe's twin at the testbed's own size, with words that the testbed knows: others hardly move its pictures."""
    size = testbed_workflows.SIZE * testbed_workflows.shrink(recipe)
    words = dict(zip(("positive", "negative"), testbed_workflows.PAIRS[0], strict=True))
    workflow = build_workflows.build(dataclasses.replace(recipe, size=(size, size), **words))
    return testbed_workflows.twin(build_workflows.with_comparison(workflow))
