"""The subgraph blueprint: VSF Prompt with the three wires that a sampler wants, as one node of the node library.

ComfyUI serves a pack's subgraphs/*.json (app/subgraph_manager.py), and its frontend lists them beside the nodes. The format is
that of its own blueprints/: a workflow of one node, whose type is the subgraph in `definitions`.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from recipes import OLDEST_CORE
from workflow_graph import BLUE, PACK_ID, PACK_VERSION, SHAPES, dump

NAME = "VSF Prompt (with negative) subgraph"  # longer than the node's, which a search then shows before it
ID = "Negative prompt (VSF)"  # its name in 0.2.0's first builds; the ids inside were made of it
PATH = Path(__file__).resolve().parent.parent / "subgraphs" / f"{NAME}.json"
DESCRIPTION = (
    "A prompt and what must not be in the picture, for models that run at CFG 1 (turbo, schnell, lightning, distilled). "
    "Connect the model and CLIP, and all three outputs to the sampler."
)
INPUT, OUTPUT = -10, -20  # the numbers that LiteGraph gives to a subgraph's own input and output
PROMPT, ZERO = 1, 2  # the nodes
VALUES = {"prompt": "", "negative": "", "strength": 1.0}


def identity(name: str) -> str:
    """A UUID, the same every time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_ID}/{ID}/{name}"))


def inner_node(number: int, kind: str, x: int, width: int, sockets: list[dict], widgets: list[object], colours: dict) -> dict:
    """A node inside."""
    ours = kind.startswith("VSF")
    return {
        "id": number, "type": kind, "pos": [x, 0], "size": [width, SHAPES[kind].height], "flags": {}, "order": number - 1,
        "mode": 0, "inputs": sockets,
        "outputs": [{"name": name, "type": given, "links": []} for name, given in SHAPES[kind].gives()],
        "properties": {"Node name for S&R": kind, "cnr_id": PACK_ID if ours else "comfy-core",
                       "ver": PACK_VERSION if ours else OLDEST_CORE},
        "widgets_values": widgets, **colours,
    }  # fmt: skip


def build() -> dict:
    """The blueprint."""
    taken = [("model", "MODEL"), ("clip", "CLIP"), ("prompt", "STRING"), ("negative", "STRING"), ("strength", "FLOAT")]
    given = [("model", "MODEL", PROMPT, 0), ("positive", "CONDITIONING", PROMPT, 1), ("negative", "CONDITIONING", ZERO, 0)]

    def socket(name: str, kind: str, link: int | None) -> dict:
        return {"name": name, "type": kind, **({"widget": {"name": name}} if name in VALUES else {}), "link": link}

    sockets, colours = [socket(*one, n + 1) for n, one in enumerate(taken)], {"color": BLUE[0], "bgcolor": BLUE[1]}
    prompt = inner_node(PROMPT, "VSFPrompt", 0, 400, sockets, list(VALUES.values()), colours)
    zero = inner_node(ZERO, "ConditioningZeroOut", 460, 270, [socket("conditioning", "CONDITIONING", 6)], [], {})
    zero["title"] = "The sampler's negative: unused"
    links = [(n + 1, INPUT, n, PROMPT, n, kind) for n, (_, kind) in enumerate(taken)]
    links.append((6, PROMPT, 1, ZERO, 0, "CONDITIONING"))
    links += [(7 + n, node, slot, OUTPUT, n, kind) for n, (_, kind, node, slot) in enumerate(given)]
    for node in (prompt, zero):
        for number, giver, slot, *_ in links:
            if giver == node["id"]:
                node["outputs"][slot]["links"].append(number)

    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    subgraph = {
        "id": identity("subgraph"), "version": 1, "revision": 0, "name": NAME, "config": {}, "widgets": [], "groups": [],
        "state": {"lastGroupId": 0, "lastNodeId": ZERO, "lastLinkId": len(links), "lastRerouteId": 0},
        "inputNode": {"id": INPUT, "bounding": [-220, 0, 120, 40 + 20 * len(taken)]},
        "outputNode": {"id": OUTPUT, "bounding": [790, 0, 120, 40 + 20 * len(given)]},
        "inputs": [{"id": identity(f"in {name}"), "name": name, "type": kind, "linkIds": [n + 1], "pos": [-120, 20 + 20 * n]}
                   for n, (name, kind) in enumerate(taken)],
        "outputs": [{"id": identity(f"out {name}"), "name": name, "type": kind, "linkIds": [7 + n], "pos": [810, 20 + 20 * n]}
                    for n, (name, kind, *_) in enumerate(given)],
        "nodes": [prompt, zero], "links": [dict(zip(keys, link, strict=True)) for link in links],
        "extra": {"workflowRendererVersion": "LG"}, "category": "Conditioning", "description": DESCRIPTION,
    }  # fmt: skip
    shown = {
        "id": 1, "type": subgraph["id"], "pos": [0, 0], "size": [400, 340], "flags": {}, "order": 0, "mode": 0, "title": NAME,
        "inputs": [socket(*one, None) for one in taken],
        "outputs": [{"name": name, "type": kind, "links": None} for name, kind, *_ in given],
        "properties": {"proxyWidgets": [[str(PROMPT), name] for name in VALUES], "cnr_id": PACK_ID, "ver": PACK_VERSION},
        "widgets_values": [], "color": BLUE[0], "bgcolor": BLUE[1],
    }  # fmt: skip
    return {"revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [shown], "links": [], "version": 0.4,
            "definitions": {"subgraphs": [subgraph]}, "extra": {}}  # fmt: skip


def files() -> dict[Path, str]:
    """The blueprint's file with its text."""
    return {PATH: dump(build())}
