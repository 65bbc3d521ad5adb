"""The shipped workflows: they are what tools/build_workflows.py builds, and their testbed twins run in the real server."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import build_workflows
import numpy as np
import pytest
import testbed_workflows
from comfy_server import ComfyServer, PromptRefused, ServerError
from server_checks import LOADERS, check_only_models_missing, check_pair, pixels

RECIPES = pytest.mark.parametrize("recipe", build_workflows.RECIPES, ids=lambda recipe: recipe.title)


def pictures(server: ComfyServer, prompt: dict, seconds: float = 600) -> dict[str, np.ndarray]:
    """Run a prompt; the picture that each SaveImage node saved, by its title."""
    found = server.run(prompt, seconds)
    return {prompt[node]["_meta"]["title"]: pixels(files[0]) for node, files in found.items()}


@pytest.mark.parametrize("path", build_workflows.files(), ids=lambda path: path.stem)
def test_file_is_what_the_builder_builds(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == build_workflows.files()[path], "run tools/build_workflows.py"


def test_only_template_files_in_workflows() -> None:
    """Every *.json directly in workflows/ becomes a card, and a card needs a .jpg of its name."""
    names = {path.name for path in build_workflows.WORKFLOWS.iterdir()}
    titles = [recipe.title for recipe in build_workflows.RECIPES]
    assert names == {f"{title}.{kind}" for title in titles for kind in ("json", "jpg")}


@RECIPES
def test_workflow_is_well_formed(recipe: build_workflows.Recipe, object_info: dict) -> None:
    workflow = json.loads((build_workflows.WORKFLOWS / f"{recipe.title}.json").read_text(encoding="utf-8"))
    assert workflow["version"] == 0.4
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][out]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[source]["outputs"][out]["type"] == kind == nodes[target]["inputs"][slot]["type"]
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        ours = node["type"].startswith("VSF")
        assert node["properties"]["cnr_id"] == ("vsf-guidance" if ours else "comfy-core")
        assert node["properties"]["ver"]
        module = object_info[node["type"]]["python_module"]
        assert ours or module == "nodes" or module.startswith("comfy_extras."), f"{node['type']} is not a core node"
        outputs = object_info[node["type"]]["output"]
        assert [output["type"] for output in node["outputs"]] == outputs[: len(node["outputs"])]
        for model in node["properties"].get("models", []):
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert model["name"] in node["widgets_values"]
            assert model["url"] in "".join(n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
        assert ("models" in node["properties"]) == (node["type"] in LOADERS)


@RECIPES
def test_workflow_validates_up_to_the_missing_models(
    recipe: build_workflows.Recipe, server: ComfyServer, object_info: dict
) -> None:
    prompt = testbed_workflows.to_api(build_workflows.build(recipe), object_info)
    with pytest.raises(PromptRefused) as refused:
        server.queue(prompt)
    check_only_models_missing(refused.value.node_errors)


@RECIPES
def test_twin_runs_to_the_end(recipe: build_workflows.Recipe, server: ComfyServer, object_info: dict) -> None:
    """The loaders and the size are swapped; test_browser.py runs the twins at the shipped size."""
    small = testbed_workflows.with_values(
        testbed_workflows.twin(build_workflows.build(recipe)), {"EmptySD3LatentImage": [128, 128]}
    )
    check_pair(pictures(server, testbed_workflows.to_api(small, object_info)), 128)


def test_twin_swaps_loaders_alone() -> None:
    for recipe in build_workflows.RECIPES:
        before = build_workflows.build(recipe)
        after = testbed_workflows.twin(before)
        assert [n for n in before["nodes"] if n["type"] not in LOADERS] == [
            n for n in after["nodes"] if n["type"] not in LOADERS | {"VSFTestbedCLIPLoader"}
        ]
        assert len(before["links"]) == len(after["links"])
        for old, new in zip(before["links"], after["links"], strict=True):
            assert (old[0], *old[3:]) == (new[0], *new[3:])


@pytest.fixture(scope="module")
def demo_prompt(object_info: dict) -> dict:
    """The demo workflow in API form; four steps are enough here."""
    return testbed_workflows.to_api(testbed_workflows.demo(steps=4), object_info)


def changed(prompt: dict, kind: str, **values: object) -> dict:
    """The prompt with other inputs at every node of one type."""
    result = copy.deepcopy(prompt)
    for node in result.values():
        if node["class_type"] == kind:
            node["inputs"] |= values
    return result


def test_demo_runs_and_repeats(server: ComfyServer, demo_prompt: dict) -> None:
    first = pictures(server, demo_prompt)
    check_pair(first, 128)
    other = pictures(server, changed(demo_prompt, "PrimitiveInt", value=12345))
    assert (first["With VSF"] != other["With VSF"]).any(), "the seed changes nothing"
    again = pictures(server, demo_prompt | {})
    for title, picture in first.items():
        assert (picture == again[title]).all()


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"start_percent": 1.0, "end_percent": 1.0}], ids=["scale", "end"])
def test_off_is_the_plain_picture(server: ComfyServer, demo_prompt: dict, values: dict) -> None:
    found = pictures(server, changed(demo_prompt, "VSFGuidance", **values))
    assert (found["Without a negative"] == found["With VSF"]).all()


def test_empty_negative_is_the_plain_picture(server: ComfyServer, demo_prompt: dict) -> None:
    found = pictures(server, changed(demo_prompt, "VSFTextEncode", text=""))
    assert (found["Without a negative"] == found["With VSF"]).all()


@pytest.mark.parametrize("values", [{"scale": -1.0}, {"scale": 11.0}, {"bias": -0.1}, {"end_percent": 1.5}], ids=str)
def test_values_out_of_range_are_refused(server: ComfyServer, demo_prompt: dict, values: dict) -> None:
    with pytest.raises(PromptRefused) as refused:
        server.queue(changed(demo_prompt, "VSFGuidance", **values))
    kinds = {error["type"] for found in refused.value.node_errors.values() for error in found["errors"]}
    assert kinds <= {"value_smaller_than_min", "value_bigger_than_max"} and kinds


def insert(prompt: dict, kind: str, name: str, **values: object) -> dict:
    """The prompt with one more node between the negative and VSFGuidance."""
    result = copy.deepcopy(prompt)
    guidance = next(node for node in result.values() if node["class_type"] == "VSFGuidance")
    inputs = values | {name: guidance["inputs"]["negative"]}
    result["900"] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
    guidance["inputs"]["negative"] = ["900", 0]
    return result


def test_a_bad_negative_says_vsf(server: ComfyServer, demo_prompt: dict) -> None:
    """The message reaches the user, and the server goes on."""
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    with pytest.raises(ServerError, match="VSF: .*region"):
        server.run(insert(demo_prompt, "ConditioningSetArea", "conditioning", **area))
    with pytest.raises(ServerError, match="VSF: .*start_percent"):
        server.run(changed(demo_prompt, "VSFGuidance", start_percent=0.8, end_percent=0.2))
    check_pair(pictures(server, demo_prompt), 128)


def test_a_padded_negative_works_with_a_warning(server: ComfyServer, demo_prompt: dict) -> None:
    """From ComfyUI's own text node: its padding cannot be told from words here, so the log names VSF Text Encode."""
    before = len(server.log())
    prompt = copy.deepcopy(demo_prompt)
    for node in prompt.values():
        if node["class_type"] == "VSFTextEncode":
            node["class_type"] = "CLIPTextEncode"
    check_pair(pictures(server, prompt), 128)
    assert "VSF Text Encode" in server.log()[before:]
