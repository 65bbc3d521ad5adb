"""What has been released is a file format: people's workflows hold it. tests/released has of each release the nodes and some
workflows as it shipped them; tests/server runs the workflows.

    VSF_FREEZE=0.2.0 python dev.py test tests/nodes/test_releases.py      writes a new release's nodes; add workflows by hand
"""
from __future__ import annotations

import enum
import json
import os
from pathlib import Path
from typing import Any

import pytest
import vsf

RELEASED = Path(__file__).resolve().parents[1] / "released"
OPTIONS = ("optional", "advanced", "default", "min", "max", "step", "round", "display_mode", "multiline", "dynamic_prompts",
           "force_input", "socketless", "placeholder", "control_after_generate", "options")  # fmt: skip


def described(node: type) -> dict[str, Any]:
    """What a saved workflow and a person's habit hang on: id, names, order, types, defaults, ranges, display."""
    schema = node.GET_SCHEMA()

    def options(part: Any) -> dict[str, Any]:
        found = {name: getattr(part, name, None) for name in OPTIONS}
        return {k: v.value if isinstance(v, enum.Enum) else v for k, v in found.items() if v is not None and v is not False}

    return {
        "display_name": schema.display_name,
        "category": schema.category,
        "inputs": [{"id": i.id, "type": i.io_type} | options(i) for i in schema.inputs],
        "outputs": [o.io_type for o in schema.outputs],
    }


@pytest.fixture(scope="module")
def nodes() -> dict[str, dict[str, Any]]:
    found = {node_id: described(node) for node_id, node in vsf.node_classes().items()}
    if release := os.environ.get("VSF_FREEZE"):
        (RELEASED / release).mkdir(parents=True, exist_ok=True)
        (RELEASED / release / "nodes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


@pytest.mark.parametrize("release", sorted(path.name for path in RELEASED.iterdir()))
def test_released_nodes_are_as_they_were(nodes, release):
    """A node may get optional inputs, behind the others; nothing else of it changes, and none goes."""
    for node_id, before in json.loads((RELEASED / release / "nodes.json").read_text(encoding="utf-8")).items():
        now = dict(nodes[node_id])
        count = len(before["inputs"])
        now["inputs"], new = now["inputs"][:count], now["inputs"][count:]
        assert now == before, node_id
        assert all(i.get("optional") for i in new), f"{node_id}: saved workflows have no value for a new input"


def test_a_change_would_be_seen(nodes):
    """The comparison's power: what a slider shows is in the description."""
    inputs = {i["id"]: i for i in nodes["VSFGuidance"]["inputs"]}
    assert list(inputs)[:4] == ["model", "negative", "scale", "bias"]
    assert {"default", "min", "max", "step", "round"} <= set(inputs["scale"])
    assert inputs["end_percent"]["advanced"] is True
