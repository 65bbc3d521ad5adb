"""The testbed's twins of the workflows, the demo workflow made from one, and the API form of any of them."""

from __future__ import annotations

import copy
from pathlib import Path

import build_workflows
from comfy_server import TESTBED_MODELS

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "testbed" / "comfy_pack" / "workflows" / "VSF demo - remove a part.json"

# What the demo shows: (prompt, negative). The testbed knows these words: see testbed/scenes.py.
PAIRS = (
    ("a red car in the center, day", "wheels"),
    ("a blue house on the left, night", "roof"),
    ("a yellow face in the center, day", "eyes"),
    ("a green tree on the right, day", "apples"),
    ("a purple sailboat in the center, day", "sails"),
    ("a blue cup in the center, night", "handle"),
)
SEEDS = (7, 8)
SIZE, STEPS, SCALE, BIAS = 128, 8, 1.5, 0.0

_FILES = {
    "MODEL": TESTBED_MODELS["diffusion_models"],
    "VAE": TESTBED_MODELS["vae"],
    "CLIP": TESTBED_MODELS["text_encoders"],
}
_LOADERS = {  # output's type -> (loader's type, its widgets)
    "MODEL": ("UNETLoader", [_FILES["MODEL"], "default"]),
    "VAE": ("VAELoader", [_FILES["VAE"]]),
    "CLIP": ("VSFTestbedCLIPLoader", [_FILES["CLIP"]]),
}


def twin(workflow: dict) -> dict:
    """The same workflow with the loaders swapped for the testbed's, and nothing else.

    A checkpoint loader becomes one loader for each output that is used; the first of them keeps its id and place.
    """
    result = copy.deepcopy(workflow)
    links = {link[0]: link for link in result["links"]}
    for node in [n for n in result["nodes"] if "models" in n["properties"]]:
        used = [output for output in node["outputs"] if output["links"]]
        result["nodes"].remove(node)
        for place, output in enumerate(used):
            kind, widgets = _LOADERS[output["type"]]
            if place:
                result["last_node_id"] += 1
            number = result["last_node_id"] if place else node["id"]
            result["nodes"].append(node | {
                "id": number, "type": kind, "inputs": [], "outputs": [output], "widgets_values": list(widgets),
                "pos": [node["pos"][0], node["pos"][1] + 270 * place], "size": [node["size"][0], 82],
                "properties": {"Node name for S&R": kind},
            })  # fmt: skip
            for link in output["links"]:
                links[link][1:3] = [number, 0]
    return result


def with_values(workflow: dict, values: dict[str, list]) -> dict:
    """The same workflow with other widget values, by node type (a None leaves a value as it is)."""
    result = copy.deepcopy(workflow)
    for node in result["nodes"]:
        for place, value in enumerate(values.get(node["type"], [])):
            if value is not None:
                node["widgets_values"][place] = value
    return result


def demo(
    pair: tuple[str, str] = PAIRS[0],
    seed: int = SEEDS[0],
    size: int = SIZE,
    steps: int = STEPS,
    scale: float = SCALE,
    bias: float = BIAS,
) -> dict:
    """The SD3.5 workflow's twin at the testbed's picture size, with words that the testbed knows."""
    return with_values(twin(build_workflows.build(build_workflows.RECIPES[0])), {
        "CLIPTextEncode": [pair[0]], "VSFTextEncode": [pair[1]], "EmptySD3LatentImage": [size, size], "PrimitiveInt": [seed],
        "KSampler": [seed, None, steps], "VSFGuidance": [scale, bias],
    })  # fmt: skip


_DEMO_NOTE = """## The testbed's demo

The same workflow as *SD3.5 Large Turbo - VSF negative* with the testbed's small models: it runs on a CPU in seconds.

It knows these subjects; name the part in the red box to have it left out:

{pairs}

Colours: red, blue, yellow, green, purple. Places: `in the center`, `on the left`, `on the right`. Light: `day`, `night`.

Turn `scale` up and down to see how strength works; 0 is exactly the left picture."""


def demo_files() -> dict[Path, str]:
    """The demo workflow's file: a template card of the testbed's mini pack, which `dev.py comfy` loads."""
    workflow = demo()
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    notes[0]["widgets_values"] = [_DEMO_NOTE.format(pairs="\n".join(f"- `{prompt}` / `{part}`" for prompt, part in PAIRS))]
    workflow["nodes"].remove(notes[1])
    return {DEMO: build_workflows.dump(workflow)}


def to_api(workflow: dict, object_info: dict) -> dict:
    """A UI workflow's API form, as the frontend's own conversion gives it for the plain nodes used here."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] not in object_info:
            if node["type"] in ("MarkdownNote", "Note"):
                continue
            raise ValueError(f"the server has no node {node['type']}")
        info = object_info[node["type"]]
        spec = info["input"].get("required", {}) | info["input"].get("optional", {})
        order = [name for kind in ("required", "optional") for name in info["input_order"].get(kind, [])]
        values, inputs = list(node["widgets_values"]), {}
        for name in order:
            kind, options = spec[name][0], spec[name][1] if len(spec[name]) > 1 else {}
            if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                inputs[name] = values.pop(0)
                if options.get("control_after_generate") or name in ("seed", "noise_seed"):
                    values.pop(0)
        inputs |= {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", node["type"])},
        }
    return prompt
