"""The pack in the real ComfyUI: it loads without a word, and shows the nodes, pages and templates that it should."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
from pathlib import Path

import blueprint
import pytest
from comfy_server import PACK, PACK_SOURCE, ROOT, SHIPPED, ComfyServer
from recipes import TEMPLATES

NODES = {  # the public contract: ids, the inputs that are there to stay, in order, and outputs
    "VSFPrompt": (
        [("model", "MODEL"), ("clip", "CLIP"), ("prompt", "STRING"), ("negative", "STRING"), ("strength", "FLOAT")],
        ["MODEL", "CONDITIONING"],
    ),
    "VSFContrast": (
        [("model", "MODEL"), ("context", "CONDITIONING"), ("strength", "FLOAT"), ("start_percent", "FLOAT"),
         ("end_percent", "FLOAT")],
        ["MODEL"],
    ),
    "VSFGuidance": (
        [("model", "MODEL"), ("negative", "CONDITIONING"), ("scale", "FLOAT"), ("bias", "FLOAT"), ("start_percent", "FLOAT"),
         ("end_percent", "FLOAT")],
        ["MODEL"],
    ),
    "VSFTextEncode": ([("clip", "CLIP"), ("text", "STRING")], ["CONDITIONING"]),
}  # fmt: skip
RANGES = {"scale": (0, 10), "bias": (0, 5), "start_percent": (0, 1), "end_percent": (0, 1)}
TITLES = {recipe.title for recipe in TEMPLATES}
TROUBLE = re.compile(
    r"IMPORT FAILED|Cannot import|Error while calling comfy_entrypoint|Traceback|\[(WARNING|ERROR)\].*vsf",
    re.IGNORECASE,
)


def complaints(log: str) -> list[str]:
    """The lines of a server's log that report something of ours."""
    return [line for line in log.splitlines() if TROUBLE.search(line)]


def check_nodes(info: dict) -> None:
    """Our nodes with the inputs of the public contract, in their order, and its outputs. What came later is behind, and
    optional: tests/nodes holds it."""
    for name, (inputs, outputs) in NODES.items():
        found = info[name]
        order = [key for kind in ("required", "optional") for key in found["input_order"].get(kind, [])]
        spec = found["input"].get("required", {}) | found["input"].get("optional", {})
        assert [(key, spec[key][0]) for key in order[: len(inputs)]] == inputs
        assert set(order[len(inputs) :]) <= set(found["input_order"].get("optional", []))
        assert found["output"] == outputs
        assert found["category"] == "advanced/guidance"
        assert found["description"]
        for key in order:
            assert spec[key][1].get("tooltip"), f"{name}.{key} has no tooltip"


def check_docs(server: ComfyServer, folder: str) -> None:
    """Each node's help page is where the frontend looks for it: under the pack's folder name."""
    for name in NODES:
        page = server.get(f"/extensions/{folder}/docs/{name}.md").decode()
        assert page.startswith("# ")


def test_log_has_nothing_of_ours(server: ComfyServer) -> None:
    assert complaints(server.start_log) == []
    assert f"custom_nodes/{PACK}" in server.start_log.replace("\\", "/")


def test_nodes(object_info: dict) -> None:
    check_nodes(object_info)


def test_ranges(object_info: dict) -> None:
    spec = object_info["VSFGuidance"]["input"]["required"]
    assert {name: (spec[name][1]["min"], spec[name][1]["max"]) for name in RANGES} == RANGES


def test_nodes_are_found_by_the_words_people_know(object_info: dict) -> None:
    assert {"negative prompt", "NAG", "NegPip", "CFG 1"} <= set(object_info["VSFGuidance"]["search_aliases"])


def test_docs(server: ComfyServer) -> None:
    check_docs(server, PACK)


def test_templates_with_thumbnails(server: ComfyServer) -> None:
    assert set(server.get_json("/api/workflow_templates")[PACK]) == TITLES
    for title in TITLES:
        address = f"/api/workflow_templates/{PACK}/{title}".replace(" ", "%20")
        assert json.loads(server.get(f"{address}.json"))["version"] == 0.4
        assert server.get(f"{address}.jpg").startswith(b"\xff\xd8\xff"), "not a JPEG"


def check_blueprint(server: ComfyServer, folder: str) -> None:
    """ComfyUI serves it as this pack's, and its content is what tools/blueprint.py builds. A bad one greets every user with
    a red toast: test_browser.py opens it."""
    found = {key: entry for key, entry in server.get_json("/global_subgraphs").items() if entry["source"] == "custom_node"}
    [(key, entry)] = found.items()
    assert entry["name"] == blueprint.NAME and entry["info"] == {"node_pack": f"custom_nodes.{folder}"}
    assert json.loads(server.get_json(f"/global_subgraphs/{key}")["data"]) == blueprint.build()


def test_blueprint(server: ComfyServer) -> None:
    check_blueprint(server, PACK)


def test_the_blueprints_wires_are_the_nodes_own(object_info: dict) -> None:
    """Each input and output of its nodes is there, in the node's order, and of the node's type."""
    [subgraph] = blueprint.build()["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for node in nodes.values():
        info = object_info[node["type"]]
        spec = info["input"].get("required", {}) | info["input"].get("optional", {})
        assert [(one["name"], one["type"]) for one in node["inputs"]] == [
            (name, spec[name][0]) for name in info["input_order"]["required"]
        ]
        assert [one["type"] for one in node["outputs"]] == info["output"]
    for link in subgraph["links"]:
        ends = [(link["origin_id"], link["origin_slot"], "outputs"), (link["target_id"], link["target_slot"], "inputs")]
        for node, slot, side in ends:
            own = {"outputs": "inputs", "inputs": "outputs"}[side]
            end = nodes[node][side][slot] if node in nodes else subgraph[own][slot]
            assert end["type"] == link["type"]
            assert link["id"] in (end.get("linkIds") or end.get("links") or [end.get("link")])


def test_the_testbed_is_not_in_the_pack(server: ComfyServer) -> None:
    """The demo's card comes from the testbed's mini pack."""
    assert set(server.get_json("/api/workflow_templates")["vsf-testbed"]) == {"VSF demo"}


def test_shipped_files_alone_under_another_name(tmp_path: Path) -> None:
    """What the registry ships works by itself, in a folder of any name."""
    folder = "ComfyUI_VSF-main"
    pack = tmp_path / "custom_nodes" / folder
    for name in SHIPPED:
        if (PACK_SOURCE / name).is_dir():
            shutil.copytree(PACK_SOURCE / name, pack / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (PACK_SOURCE / name).is_file():
            pack.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACK_SOURCE / name, pack / name)
    with ComfyServer(tmp_path, {folder: pack}, testbed=False) as server:
        assert complaints(server.start_log) == []
        check_nodes(server.get_json("/object_info"))
        check_docs(server, folder)
        check_blueprint(server, folder)
        assert set(server.get_json("/api/workflow_templates")[folder]) == TITLES
        with pytest.raises(urllib.error.HTTPError):
            server.get(f"/extensions/{PACK}/docs/VSFGuidance.md")


def test_shipped_list_and_comfyignore_agree() -> None:
    """What .comfyignore leaves is what the list above calls shipped: no file of the repository is in between."""
    ignored = {line.strip().strip("/") for line in (ROOT / ".comfyignore").read_text().splitlines() if line and line[0] != "#"}
    local = {line.strip().strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")}
    tools = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", ".benchmarks", ".mypy_cache"}
    top = {path.name for path in ROOT.iterdir()} - local - tools
    assert top - ignored <= set(SHIPPED), "neither shipped nor in .comfyignore"
    assert not ignored & set(SHIPPED)
