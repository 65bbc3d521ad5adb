"""Translations: every word of the nodes that ComfyUI shows, in each language, in the frontend's own format.

There is no locales/en: it would stand over the nodes' own words.
"""
from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import vsf

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
NAMES = {f"`{name}`" for name in ("strength", "scale", "curve", "show", "mask", "MASK")}  # inputs, which are translated
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


def test_help_pages_are_made_of_the_translations():
    """Each node has its page in each language; a new input is on it as soon as it is translated."""
    spec = importlib.util.spec_from_file_location("help_pages", ROOT / "tools" / "help_pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    found = {path: path.read_text(encoding="utf-8") for path in (ROOT / "web" / "docs").glob("*/*.md")}
    assert found == pages.files(), "run tools/help_pages.py"
    docs = ROOT / "web" / "docs"
    assert set(found) == {docs / node / f"{language}.md" for node in vsf.node_classes() for language in LANGUAGES}


@pytest.mark.parametrize("node_id", vsf.node_classes())
def test_english_help_page(node_id):
    """It names every input, shows only pictures that are there and small, and has no table: the side panel squeezes them."""
    text = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    assert not re.search(r"^\|", text, re.M)
    for part in vsf.node_classes()[node_id].GET_SCHEMA().inputs:
        assert f"`{part.id}`" in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / "web" / "docs" / name).stat().st_size < 60_000


@pytest.mark.parametrize("path", sorted((ROOT / "tools" / "notes").glob("*.md")), ids=lambda path: path.stem)
def test_every_note_of_the_workflows_is_translated(path):
    """With what is filled in and what is to be typed; a new note fails here until it is translated."""
    translated = {other.stem: other for other in path.with_suffix("").iterdir()}
    assert set(translated) == set(LANGUAGES)
    for language, other in translated.items():
        ours, theirs = (file.read_text(encoding="utf-8") for file in (path, other))
        assert re.search(LANGUAGES[language], theirs)
        assert set(re.findall(r"\{\w+\}", theirs)) == set(re.findall(r"\{\w+\}", ours)), other
        assert set(re.findall(r"`[^`]+`", theirs)) == set(re.findall(r"`[^`]+`", ours)) - NAMES, other


def test_workflows_bring_their_notes_in_every_language():
    """The English ones open, the others closed."""
    words = json.loads((ROOT / "tools" / "notes" / "words.json").read_text(encoding="utf-8"))
    assert set(words) == {"en", *LANGUAGES} and len({tuple(of) for of in words.values()}) == 1
    for path in (ROOT / "workflows").glob("*.json"):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        closed = {node["title"]: bool(node["flags"].get("collapsed")) for node in nodes if node["type"] == "MarkdownNote"}
        for language, of in words.items():
            assert closed[of["title"]] is (language != "en"), path.name
