"""A workflow in ComfyUI's UI format 0.4 in the making: nodes, columns of them, links and groups."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

PYPROJECT = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8")
# so that "install missing nodes" finds the pack, in a version that has its nodes
PACK_ID, PACK_VERSION = (re.search(rf'^{key} = "(.+)"', PYPROJECT, re.MULTILINE)[1] for key in ("name", "version"))
GREEN, RED, BLUE, DARK = ("#232", "#353"), ("#322", "#533"), ("#2a363b", "#3f5159"), ("#222", "#000")
ORANGE = "#b06634"

Node = dict
Out = tuple[Node, str]
"""A node's output, by its name."""


class Shape(NamedTuple):
    """A node type: "name TYPE" of its inputs (a widget's type in lower case) and outputs, and its height on the canvas.
    `more`: inputs that a node has in a workflow that uses them."""

    inputs: str
    outputs: str
    height: int
    more: str = ""

    def sockets(self) -> list[tuple[str, str]]:
        """Name and type of the inputs that are not widgets."""
        return [(name, kind) for name, kind in _pairs(self.inputs) if not kind.islower()]

    def gives(self) -> list[tuple[str, str]]:
        """Name and type of the outputs."""
        return _pairs(self.outputs)

    def widgets(self) -> list[str]:
        """The names of the widgets."""
        return [name for name, kind in _pairs(self.inputs) if kind.islower()]


def _pairs(text: str) -> list[tuple[str, str]]:
    """ "a X, B" -> [("a", "X"), ("B", "B")]."""
    return [(words[0], words[-1]) for words in map(str.split, text.split(",")) if words]


SHAPES = {  # in ComfyUI's order; tests/server holds them against its /object_info
    "CheckpointLoaderSimple": Shape("ckpt_name combo", "MODEL, CLIP, VAE", 106),
    "UNETLoader": Shape("unet_name combo, weight_dtype combo", "MODEL", 82),
    "LoraLoaderModelOnly": Shape("model MODEL, lora_name combo, strength_model float", "MODEL", 94),
    "VAELoader": Shape("vae_name combo", "VAE", 58),
    "CLIPLoader": Shape("clip_name combo, type combo, device combo", "CLIP", 106),
    "DualCLIPLoader": Shape("clip_name1 combo, clip_name2 combo, type combo, device combo", "CLIP", 130),
    "TripleCLIPLoader": Shape("clip_name1 combo, clip_name2 combo, clip_name3 combo", "CLIP", 118),
    "ModelSamplingAuraFlow": Shape("model MODEL, shift float", "MODEL", 58),
    "ModelSamplingSD3": Shape("model MODEL, shift float", "MODEL", 58),
    "VSFPrompt": Shape(
        "model MODEL, clip CLIP, prompt string, negative string, strength float",
        "MODEL, positive CONDITIONING",
        340,
        "mask MASK",
    ),
    "VSFConditioning": Shape("clip CLIP, prompt string, negative string, strength float", "positive CONDITIONING", 250),
    "VSFGuidance": Shape(
        "model MODEL, negative CONDITIONING, scale float, bias float, start_percent float, end_percent float", "MODEL", 222
    ),
    "VSFTextEncode": Shape("clip CLIP, text string", "CONDITIONING", 150),
    "CLIPTextEncode": Shape("text string, clip CLIP", "CONDITIONING", 150),
    "ConditioningCombine": Shape("conditioning_1 CONDITIONING, conditioning_2 CONDITIONING", "CONDITIONING", 46),
    "WanContextWindowsManual": Shape(
        "model MODEL, context_length int, context_overlap int, context_schedule combo, context_stride int, "
        "closed_loop boolean, fuse_method combo, freenoise boolean, retain_first_frame boolean, split_conds_to_windows boolean",
        "MODEL",
        274,
    ),
    "SolidMask": Shape("value float, width int, height int", "MASK", 106),
    "MaskComposite": Shape("destination MASK, source MASK, x int, y int, operation combo", "MASK", 126),
    "MaskPreview": Shape("mask MASK", "", 250),
    "PrimitiveStringMultiline": Shape("value string", "STRING", 150),
    "FluxGuidance": Shape("conditioning CONDITIONING, guidance float", "CONDITIONING", 58),
    "ConditioningZeroOut": Shape("conditioning CONDITIONING", "CONDITIONING", 26),
    "EmptyLatentImage": Shape("width int, height int, batch_size int", "LATENT", 106),
    "EmptySD3LatentImage": Shape("width int, height int, batch_size int", "LATENT", 106),
    "EmptyFlux2LatentImage": Shape("width int, height int, batch_size int", "LATENT", 106),
    "EmptyHunyuanLatentVideo": Shape("width int, height int, length int, batch_size int", "LATENT", 130),
    "LoadImage": Shape("image combo, upload button", "IMAGE, MASK", 330),
    "WanImageToVideo": Shape(
        "positive CONDITIONING, negative CONDITIONING, vae VAE, width int, height int, length int, batch_size int, "
        "clip_vision_output CLIP_VISION_OUTPUT, start_image IMAGE",
        "positive CONDITIONING, negative CONDITIONING, latent LATENT",
        230,
    ),
    "PrimitiveInt": Shape("value int", "INT", 82),
    "KSampler": Shape(
        "model MODEL, positive CONDITIONING, negative CONDITIONING, latent_image LATENT, seed int, steps int, cfg float, "
        "sampler_name combo, scheduler combo, denoise float",
        "LATENT",
        262,
    ),
    "KSamplerAdvanced": Shape(
        "model MODEL, positive CONDITIONING, negative CONDITIONING, latent_image LATENT, add_noise combo, noise_seed int, "
        "steps int, cfg float, sampler_name combo, scheduler combo, start_at_step int, end_at_step int, "
        "return_with_leftover_noise combo",
        "LATENT",
        334,
    ),
    "RandomNoise": Shape("noise_seed int", "NOISE", 82),
    "KSamplerSelect": Shape("sampler_name combo", "SAMPLER", 58),
    "Flux2Scheduler": Shape("steps int, width int, height int", "SIGMAS", 106),
    "EmptyMiniMaxH3LatentAV": Shape("width int, height int, length int", "LATENT", 106),
    "BasicScheduler": Shape("model MODEL, scheduler combo, steps int, denoise float", "SIGMAS", 106),
    "BasicGuider": Shape("model MODEL, conditioning CONDITIONING", "GUIDER", 46),
    "VAEDecodeAudio": Shape("samples LATENT, vae VAE", "AUDIO", 46),
    "CFGGuider": Shape("model MODEL, positive CONDITIONING, negative CONDITIONING, cfg float", "GUIDER", 98),
    "SamplerCustomAdvanced": Shape(
        "noise NOISE, guider GUIDER, sampler SAMPLER, sigmas SIGMAS, latent_image LATENT",
        "output LATENT, denoised_output LATENT",
        114,
    ),
    "VAEDecode": Shape("samples LATENT, vae VAE", "IMAGE", 46),
    "CreateVideo": Shape("images IMAGE, audio AUDIO, fps float, bit_depth int", "VIDEO", 102),
    "SaveImage": Shape("images IMAGE, filename_prefix string", "", 440),
    "VSFHeatMap": Shape(
        "model MODEL, latent LATENT, negative int, show combo, opacity float, brightest float, image IMAGE",
        "overlay IMAGE, map IMAGE, mask MASK, numbers STRING",
        560,
    ),
    "PreviewImage": Shape("images IMAGE", "", 330),
    "PreviewAny": Shape("source *", "STRING", 260),
    "SaveVideo": Shape("video VIDEO, filename_prefix string, format combo, codec combo", "", 490),
    "MarkdownNote": Shape("", "", 380),
}


class Graph:
    """The workflow."""

    def __init__(self, core_version: str) -> None:
        self.core_version = core_version  # the oldest ComfyUI that has all its nodes
        self.nodes: list[Node] = []
        self.links: list[list] = []
        self.groups: list[dict] = []

    def node(
        self,
        kind: str,
        pos: tuple[int, int],
        width: int,
        *widgets: object,
        title: str | None = None,
        colours: tuple[str, str] | None = None,
        models: list[dict] | None = None,
        links: dict[str, Out] | None = None,
        height: int | None = None,
    ) -> Node:
        """Add a node; `links` joins its inputs to what is there already."""
        shape = SHAPES[kind]
        ours = kind.startswith("VSF")
        properties: dict = {"Node name for S&R": kind}
        if kind != "MarkdownNote":
            properties |= {"cnr_id": PACK_ID if ours else "comfy-core", "ver": PACK_VERSION if ours else self.core_version}
        if models:
            properties["models"] = models
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": list(pos),
            "size": [width, height or shape.height],
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [{"name": name, "type": wanted, "link": None} for name, wanted in shape.sockets()],
            "outputs": [{"name": name, "type": given, "links": []} for name, given in shape.gives()],
            "properties": properties,
            "widgets_values": list(widgets),
        }
        if title:
            node["title"] = title
        if colours:
            node["color"], node["bgcolor"] = colours
        self.nodes.append(node)
        for name, source in (links or {}).items():
            self.link(source, node, name)
        return node

    def link(self, source: Out, target: Node, name: str) -> None:
        """Join an output to an input; a widget gets an input of its own."""
        giver, output = source
        slot, found = next((i, found) for i, found in enumerate(giver["outputs"]) if found["name"] == output)
        if name in SHAPES[target["type"]].widgets():
            target["inputs"].append({"name": name, "type": found["type"], "widget": {"name": name}, "link": None})
        elif (name, found["type"]) in _pairs(SHAPES[target["type"]].more):
            target["inputs"].append({"name": name, "type": found["type"], "link": None})
        place = next(i for i, wanted in enumerate(target["inputs"]) if wanted["name"] == name)
        number = len(self.links) + 1
        self.links.append([number, giver["id"], slot, target["id"], place, found["type"]])
        found["links"].append(number)
        target["inputs"][place]["link"] = number

    def group(self, title: str, x: int, y: int, width: int, height: int, colour: str = "#3f789e") -> None:
        """A titled frame around nodes."""
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [x, y, width, height],
                "color": colour,
                "font_size": 24,
                "flags": {},
            }
        )

    def workflow(self) -> dict:
        """The file's content."""
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [250, 190]}},  # opened as a file; templates are fitted
            "version": 0.4,
        }


class Column:
    """Nodes below one another, framed in groups. A node's place is its body's, below its title bar of 30 pixels."""

    HEAD, GAP, EDGE, FOOT = 80, 64, 10, 36
    """A group's title with the first node's; between nodes; from a node to its frame; below the last node. Between and below
    nodes there is room for the footer of 30 pixels that Nodes 2.0 adds where a model is missing."""

    TITLE = 44  # from one collapsed node to the next

    def __init__(self, graph: Graph, x: int, width: int) -> None:
        self.graph, self.x, self.width = graph, x, width
        self.top, self.y = -20, -20 + self.HEAD

    @property
    def right(self) -> int:
        """Where the next column's nodes begin."""
        return self.x + self.width + 4 * self.EDGE

    def add(self, kind: str, *widgets: object, **options: object) -> Node:
        """The next node; the options are `Graph.node`'s."""
        node = self.graph.node(kind, (self.x, self.y), self.width, *widgets, **options)
        self.y += node["size"][1] + self.GAP
        return node

    def collapse(self, nodes: list[Node]) -> None:
        """Leave the titles of the last nodes, close below one another."""
        self.y = nodes[0]["pos"][1]
        for node in nodes:
            node["pos"][1], node["flags"] = self.y, {"collapsed": True}
            self.y += self.TITLE

    def close(self, title: str, colour: str = "#3f789e") -> None:
        """Frame what came since the last frame."""
        bottom = self.y - self.GAP + self.FOOT
        self.graph.group(title, self.x - self.EDGE, self.top, self.width + 2 * self.EDGE, bottom - self.top, colour)
        self.top = bottom + self.EDGE
        self.y = self.top + self.HEAD


def dump(workflow: dict) -> str:
    """The file's text: the same every time."""
    return json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"
