"""Translations: every word of the nodes that ComfyUI shows, in each language, in the frontend's own format.

There is no locales/en: it would stand over the nodes' own words.
"""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import vsf

LOCALES = Path(__file__).resolve().parents[2] / "locales"
LANGUAGES = {"zh": r"[\u4e00-\u9fff]", "zh-TW": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7af]"}


def test_languages():
    assert {path.name for path in LOCALES.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_is_translated(language):
    """A new node, input or output fails here until it is translated; a translation of nothing fails too."""
    found = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    schemas = {node_id: node.GET_SCHEMA() for node_id, node in vsf.node_classes().items()}
    assert set(found) == set(schemas)
    for node_id, schema in schemas.items():
        node = found[node_id]
        assert set(node["inputs"]) == {part.id for part in schema.inputs}, node_id
        assert set(node["outputs"]) == {str(number) for number in range(len(schema.outputs))}, node_id
        parts = [*node["inputs"].values(), *node["outputs"].values()]
        assert all(set(part) == {"name", "tooltip"} and part["name"] for part in parts), node_id
        assert node["display_name"].startswith("VSF ")  # what people search for
        for text in (node["description"], *(part["tooltip"] for part in parts)):
            assert re.search(LANGUAGES[language], text), f"{node_id}: not in {language}: {text}"
        # what is code stays code: examples and values that users type
        for part in schema.inputs:
            examples = set(re.findall(r"`([a-z ,]+)`", part.tooltip)) - {"negative", "context"}
            assert examples <= set(re.findall(r"`([a-z ,]+)`", node["inputs"][part.id]["tooltip"])), (node_id, part.id)
