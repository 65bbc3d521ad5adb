"""The public contract (DESIGN.md section 2): ids, names, order, types and defaults are a file format."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import vsf

ROOT = Path(__file__).resolve().parents[2]

CONTRACT = {
    "VSFPrompt": {
        "inputs": [("model", "MODEL", None), ("clip", "CLIP", None), ("prompt", "STRING", None), ("negative", "STRING", None),
                   ("strength", "FLOAT", (1.0, 0.0, 3.0)), ("mask", "MASK", None), ("curve", "STRING", None)],
        "outputs": ["MODEL", "CONDITIONING"],
    },
    "VSFContrast": {
        "inputs": [("model", "MODEL", None), ("context", "CONDITIONING", None), ("strength", "FLOAT", (1.0, 0.0, 3.0)),
                   ("start_percent", "FLOAT", (0.0, 0.0, 1.0)), ("end_percent", "FLOAT", (1.0, 0.0, 1.0)),
                   ("mask", "MASK", None), ("curve", "STRING", None), ("blocks", "STRING", None)],
        "outputs": ["MODEL"],
    },
    "VSFGuidance": {
        "inputs": [("model", "MODEL", None), ("negative", "CONDITIONING", None), ("scale", "FLOAT", (2.0, 0.0, 10.0)),
                   ("bias", "FLOAT", (0.2, 0.0, 5.0)), ("start_percent", "FLOAT", (0.0, 0.0, 1.0)),
                   ("end_percent", "FLOAT", (1.0, 0.0, 1.0)),
                   ("mask", "MASK", None), ("curve", "STRING", None), ("blocks", "STRING", None)],
        "outputs": ["MODEL"],
    },
    "VSFTextEncode": {"inputs": [("clip", "CLIP", None), ("text", "STRING", None)], "outputs": ["CONDITIONING"]},
    "VSFConditioning": {
        "inputs": [("clip", "CLIP", None), ("prompt", "STRING", None), ("negative", "STRING", None),
                   ("strength", "FLOAT", (1.0, 0.0, 3.0)), ("curve", "STRING", None), ("mask", "MASK", None),
                   ("scale", "FLOAT", (0.0, 0.0, 10.0)), ("bias", "FLOAT", (0.0, 0.0, 5.0))],
        "outputs": ["CONDITIONING"],
    },
    "VSFHeatMap": {
        "inputs": [("model", "MODEL", None), ("latent", "LATENT", None), ("image", "IMAGE", None), ("negative", "INT", None),
                   ("show", "COMBO", None), ("opacity", "FLOAT", (0.7, 0.0, 1.0)), ("brightest", "FLOAT", (0.0, 0.0, 1.0))],
        "outputs": ["IMAGE", "IMAGE", "MASK", "STRING"],
    },
}


@pytest.fixture(scope="module")
def nodes() -> dict:
    return {node_id: node.GET_SCHEMA() for node_id, node in vsf.node_classes().items()}


def test_ids(nodes):
    assert list(nodes) == list(CONTRACT)


@pytest.mark.parametrize("node_id", CONTRACT)
def test_contract(nodes, node_id):
    schema = nodes[node_id]
    found = [(i.id, i.io_type, (i.default, i.min, i.max) if i.io_type == "FLOAT" else None) for i in schema.inputs]
    assert found == CONTRACT[node_id]["inputs"]
    assert [o.io_type for o in schema.outputs] == CONTRACT[node_id]["outputs"]
    assert schema.category == "advanced/guidance"
    assert {"negative prompt", "CFG 1"} <= set(schema.search_aliases)


def test_search_aliases_of_what_people_look_for(nodes):
    """What leads to VSF Prompt is no other node's: it would stand before it (nodes/aliases.py)."""
    assert {"negative prompt", "NAG", "NegPip", "CFG 1"} <= set(nodes["VSFGuidance"].search_aliases)
    found = [name for name, schema in nodes.items() if {"remove object", "turbo"} & set(schema.search_aliases)]
    assert found == ["VSFPrompt"]


@pytest.mark.parametrize("node_id", CONTRACT)
def test_everything_has_a_tooltip_and_a_help_page(nodes, node_id):
    schema = nodes[node_id]
    assert schema.description
    assert all(part.tooltip for part in (*schema.inputs, *schema.outputs))
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {schema.display_name}")
    for part in schema.inputs:
        assert f"`{part.id}`" in page, f"{part.id} is not on the help page"


SHIPPED = sorted(p for folder in (ROOT / "nodes", ROOT / "vsf_core") for p in folder.rglob("*.py")) + [ROOT / "__init__.py"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_shipped_sources(path):
    """What comfy-test, the registry's scan and Windows' cp1252 ask of shipped files."""
    text = path.read_text(encoding="utf-8")
    text.encode("cp1252")
    assert not re.search(r"\bprint\(|\.cuda\(|subprocess|requests|\beval\(|\bexec\(|torch\.autocast", text)
    assert not re.search(r"^\s*(from|import) (vsf_core|nodes)\b", text, re.MULTILINE), "absolute imports fail when installed"


def test_core_imports_nothing_of_comfyui():
    for path in (ROOT / "vsf_core").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) (comfy|nodes|folder_paths|\.\.)", text, re.MULTILINE), path.name


def test_adapters_are_short():
    for path in (ROOT / "nodes" / "glue" / "families").glob("*.py"):
        if path.name not in ("__init__.py", "pictures.py"):  # the tables of families
            assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name
