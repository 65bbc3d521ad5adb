"""The testbed's twins of the workflows, the demo workflow made from one, and the API form of any of them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import build_workflows
from comfy_server import TESTBED_MODELS
from recipes import Recipe, recipe_of
from workflow_graph import dump

ROOT = Path(__file__).resolve().parent.parent
BASE = recipe_of("SD3.5 Large Turbo")  # the testbed's model has its architecture
DEMO = ROOT / "testbed" / "comfy_pack" / "workflows" / "VSF demo.json"

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
SIZE = 128
SCALE, BIAS = 1.75, 0.0  # of the paper's form

LORA = "vsf_testbed_lora.safetensors"  # testbed_lora.py makes it

# COMFY_DYNAMICCOMBO_V3: its first value; the choices here bring no further widgets
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")

WAN = "vsf_testbed_wan.safetensors"  # learned videos of one frame, and draws each of several alike
WAN_LATENT = 0.36  # what testbed/student.py says of its latents
FRAMES, WINDOW = 21, (13, 4)  # six frames of the latent; the first four of them, and the last

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

    A checkpoint loader becomes one loader for each output that is used; the first of them keeps its id and place. A LoRA
    loader takes the testbed's LoRA. A video is that of the testbed's Wan, whose latents are prepared for its VAE of pictures:
    each frame of the latent becomes one of the video.
    """
    result = copy.deepcopy(workflow)
    is_video = any(node["type"] == "CreateVideo" for node in result["nodes"])
    links = {link[0]: link for link in result["links"]}
    for node in [n for n in result["nodes"] if "models" in n["properties"]]:
        if node["type"] == "LoraLoaderModelOnly":
            node["widgets_values"][0] = LORA
            del node["properties"]["models"]
            continue
        used = [output for output in node["outputs"] if output["links"]]
        result["nodes"].remove(node)
        for place, output in enumerate(used):
            kind, widgets = _LOADERS[output["type"]]
            widgets = [WAN, "default"] if is_video and output["type"] == "MODEL" else widgets
            if place:
                result["last_node_id"] += 1
            number = result["last_node_id"] if place else node["id"]
            result["nodes"].append(node | {
                "id": number, "type": kind, "inputs": [], "outputs": [output], "widgets_values": list(widgets),
                "pos": [node["pos"][0], node["pos"][1] + 290 * place], "size": [node["size"][0], 82],
                "properties": {"Node name for S&R": kind},
            })  # fmt: skip
            for link in output["links"]:
                links[link][1:3] = [number, 0]
    for node in [n for n in result["nodes"] if is_video and n["type"] == "VAEDecode"]:
        _frame_by_frame(result, node)
    return result


def _frame_by_frame(workflow: dict, decode: dict) -> None:
    """Put between a sampler and this VAEDecode what makes a batch of pictures of the testbed's Wan latents."""
    link = next(link for link in workflow["links"] if link[0] == decode["inputs"][0]["link"])
    for kind, widgets in (("LatentMultiply", [WAN_LATENT]), ("LatentCutToBatch", ["t", 1])):
        workflow["last_node_id"] += 1
        workflow["last_link_id"] += 1
        number, target = workflow["last_node_id"], workflow["last_link_id"]
        workflow["nodes"].append(decode | {
            "id": number, "type": kind, "widgets_values": widgets, "properties": {"Node name for S&R": kind},
            "inputs": [{"name": "samples", "type": "LATENT", "link": link[0]}],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [target]}],
        })  # fmt: skip
        link[3:5] = [number, 0]
        link = [target, number, 0, decode["id"], 0, "LATENT"]
        workflow["links"].append(link)
    decode["inputs"][0]["link"] = link[0]


def shrink(recipe: Recipe) -> int:
    """How many of a recipe's pixels become one in its twin's picture.

    A cell of Flux.2's latent is 16 pixels wide and one of the testbed's 8: ComfyUI gives the empty latent the testbed's
    channels and leaves its cells, so that the twin's picture is half as wide.
    """
    return 2 if recipe.latent == "EmptyFlux2LatentImage" else 1


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
    recipe: Recipe = BASE,
    **changes: object,
) -> dict:
    """A recipe's twin at the testbed's picture size with words that the testbed knows, its comparison switched on. A video is
    one of few frames, without a LoRA, for which it has none.

    ModelSamplingAuraFlow makes a model count time from 0 to 1, and the testbed's counts to 1000 as SD3 does: its place is
    taken by ModelSamplingSD3, which is the same otherwise.
    """
    size = SIZE * shrink(recipe)
    if recipe.checkpoint:  # three loaders, as the testbed's models have: each has a place
        changes = {"vae": "/vae", "text": ("/text",), "text_type": "sd3", **changes}
    if recipe.video:
        plain = tuple(dataclasses.replace(expert, lora="") for expert in recipe.experts)
        changes = {"shift": ("ModelSamplingSD3", 3.0), "experts": plain, "frames": FRAMES, "window": WINDOW, **changes}
    elif recipe.shift:
        changes = {"shift": ("ModelSamplingSD3", recipe.shift[1]), **changes}
    values = {"positive": pair[0], "negative": pair[1], "seed": seed, "size": (size, size)}
    workflow = build_workflows.build(dataclasses.replace(recipe, **values | changes))
    return twin(build_workflows.with_comparison(workflow))


_DEMO_NOTE = """## The testbed's demo

The same workflow as *{title}* with the testbed's small models, and the comparison
switched on: it runs on a CPU in seconds.

It knows these subjects (the upper box of VSF Prompt) and their parts (the lower one: what must not be there):

{pairs}

Colours: red, blue, yellow, green, purple. Places: `in the center`, `on the left`, `on the right`. Light: `day`, `night`.

`strength` 0 is off: both pictures are the same."""


def demo_files() -> dict[Path, str]:
    """The demo workflow's file: a template card of the testbed's mini pack, which `dev.py comfy` loads."""
    workflow = demo()
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    how, links, compare = (note for note in notes if not note["flags"].get("collapsed"))  # the others: in other languages
    pairs = "\n".join(f"- `{prompt}` / `{part}`" for prompt, part in PAIRS)
    how["widgets_values"] = [_DEMO_NOTE.format(title=BASE.title, pairs=pairs)]
    compare["widgets_values"] = ["The same picture without the negative, from the same seed."]
    workflow["nodes"] = [node for node in workflow["nodes"] if node not in notes or node in (how, compare)]
    return {DEMO: dump(workflow)}


def to_api(workflow: dict, object_info: dict) -> dict:
    """A UI workflow's API form, as the frontend's own conversion gives it for the plain nodes used here: without those that
    are bypassed, from which no other takes anything."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["mode"] == build_workflows.BYPASSED:
            continue
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
            if isinstance(kind, list) or kind in WIDGETS:
                if not values:  # a workflow saved before the node had this input
                    inputs[name] = options["default"]
                    continue
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


def paper_form(prompt: dict, scale: float = SCALE, bias: float = BIAS) -> dict:
    """An API prompt with VSF Guidance, VSF Text Encode and CLIP Text Encode in the place of each VSF Prompt."""
    result, positives = copy.deepcopy(prompt), {}
    for number, node in prompt.items():
        if node["class_type"] == "VSFPrompt":
            inputs, shown, unwanted = node["inputs"], f"{number}01", f"{number}02"
            positives[number] = shown
            guidance = {"model": inputs["model"], "negative": [unwanted, 0], "scale": scale, "bias": bias,
                        "start_percent": 0.0, "end_percent": 1.0}  # fmt: skip
            for name, kind, values in (
                (number, "VSFGuidance", guidance),
                (shown, "CLIPTextEncode", {"clip": inputs["clip"], "text": inputs["prompt"]}),
                (unwanted, "VSFTextEncode", {"clip": inputs["clip"], "text": inputs["negative"]}),
            ):
                result[name] = {"class_type": kind, "inputs": values, "_meta": {"title": kind}}
    for node in result.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in positives and value[1] == 1:
                node["inputs"][name] = [positives[value[0]], 0]
    return result
