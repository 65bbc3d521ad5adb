"""VSF Heat Map in the real ComfyUI: what its caches and its queue do to it, and both renderers of the frontend."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import testbed_workflows
from comfy_server import ComfyServer
from frontend import SHOWS_FILE, load, use_renderer
from frontend import run as press
from recipes import SEE
from server_checks import RENDERERS, pixels


def demo(**changes: object) -> dict:
    """The workflow's twin: the testbed's model and words."""
    return testbed_workflows.demo(recipe=SEE, **changes)


def outcome(server: ComfyServer, prompt_id: str, prompt: dict) -> tuple[dict[str, bytes], str, set[str]]:
    """The values of the first picture of each node type, the numbers, and the types of the nodes that came from a cache."""
    outputs = server.wait(prompt_id)
    kinds = {number: node["class_type"] for number, node in prompt.items()}
    found = {kinds[n]: pixels(server.picture(out["images"][0])).tobytes() for n, out in outputs.items() if "images" in out}
    numbers = next((out["text"][0] for n, out in outputs.items() if kinds[n] == "PreviewAny"), "")
    messages = server.get_json(f"/history/{prompt_id}")[prompt_id]["status"]["messages"]
    cached = next(detail["nodes"] for kind, detail in messages if kind == "execution_cached")
    return found, numbers, {kinds[number] for number in cached}


def run(server: ComfyServer, prompt: dict) -> tuple[dict[str, bytes], str, set[str]]:
    return outcome(server, server.queue(prompt), prompt)


def with_inputs(prompt: dict, kind: str, /, **inputs: object) -> dict:
    result = copy.deepcopy(prompt)
    for node in result.values():
        if node["class_type"] == kind:
            node["inputs"] |= inputs
    return result


@pytest.fixture(scope="module")
def prompt(object_info: dict) -> dict:
    return testbed_workflows.to_api(demo(steps=4), object_info)


def test_a_heat_map_that_is_added_later(server: ComfyServer, prompt: dict) -> None:
    """The sampler runs once more, to the same picture, and then no more: whatever is changed on the heat map alone."""
    kinds = {number: node["class_type"] for number, node in prompt.items()}
    of_map = {"VSFHeatMap", "PreviewImage", "PreviewAny"}
    without = {number: node for number, node in prompt.items() if kinds[number] not in of_map}
    without, own = with_inputs(without, "PrimitiveInt", value=4711), with_inputs(prompt, "PrimitiveInt", value=4711)
    plain = run(server, without)[0]
    pictures, numbers, cached = run(server, own)
    assert not {"VSFPrompt", "KSampler"} & cached
    assert plain["SaveImage"] == pictures["SaveImage"], "the heat map changed the picture"
    assert numbers.startswith("all negatives: mean 0.") and '\nnegative 1 "wheels": mean 0.' in numbers

    again, same, cached = run(server, own)
    assert {"KSampler", "VSFHeatMap"} <= cached and (same, again["VSFHeatMap"]) == (numbers, pictures["VSFHeatMap"])
    paler, same, cached = run(server, with_inputs(own, "VSFHeatMap", opacity=0.2))
    assert "KSampler" in cached and "VSFHeatMap" not in cached
    assert same == numbers and paler["PreviewImage"] == pictures["PreviewImage"]
    assert paler["VSFHeatMap"] != pictures["VSFHeatMap"]
    assert "KSampler" not in run(server, without)[2], "what is sampled without a heat map is not recorded"


def test_queued_prompts_do_not_mix(server: ComfyServer, prompt: dict) -> None:
    """Two negatives on one model, queued at once and one after the other."""
    pairs = [testbed_workflows.PAIRS[i] for i in (0, 1, 0)]
    prompts = [with_inputs(prompt, "VSFPrompt", prompt=text, negative=words) for text, words in pairs]
    ids = [server.queue(p) for p in prompts]
    wheels, roof, again = (outcome(server, number, p) for number, p in zip(ids, prompts, strict=True))
    assert '"wheels"' in wheels[1] and '"roof"' in roof[1]
    assert again[1] == wheels[1] and again[0]["VSFHeatMap"] == wheels[0]["VSFHeatMap"]
    assert roof[0]["PreviewImage"] != wheels[0]["PreviewImage"]


@RENDERERS
def test_in_the_frontend(vue: bool, page, server: ComfyServer, artefacts: Path) -> None:
    """The picture is on the node, the map and the numbers beside it."""
    use_renderer(page, vue)
    workflow = demo(steps=4, seed=11 + vue)
    load(page, workflow)
    status, body = press(page, workflow)
    assert status == 200
    outputs = server.wait(body["prompt_id"])
    node = str(next(n["id"] for n in workflow["nodes"] if n["type"] == "VSFHeatMap"))
    file = outputs[node]["images"][0]
    page.wait_for_function(SHOWS_FILE, arg=[node, file["filename"], vue])
    text = next(out["text"][0] for out in outputs.values() if "text" in out)
    assert text.startswith("all negatives: mean 0.")
    page.screenshot(path=artefacts / f"heat map, {'nodes2' if vue else 'canvas'}.png")
    picture = pixels(server.picture(file))
    assert picture.shape == (128, 128, 3) and picture.std() > 10
