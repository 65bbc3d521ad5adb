"""What the notes of the shipped workflows say: NAME.md in English, NAME/LANGUAGE.md in the others; words.json fills them.

ComfyUI's frontend translates what nodes are called (locales/), and nothing of what stands in a workflow. So a workflow brings
its notes in all languages: the English ones open, the others as titles to be opened.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ENGLISH = "en"
WORDS: dict[str, dict[str, str]] = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
OTHERS = tuple(language for language in WORDS if language != ENGLISH)


def note(name: str, language: str = ENGLISH, *, video: bool = False, two_models: bool = False, **values: object) -> str:
    """A note's text. video, two_models: what the workflow makes, and whether two models read the texts of two boxes."""
    words = WORDS[language]
    path = FOLDER / f"{name}.md" if language == ENGLISH else FOLDER / name / f"{language}.md"
    thing, box = words["video" if video else "picture"], words["boxes" if two_models else "prompt"]
    return path.read_text(encoding="utf-8").strip().format(thing=thing, box=box, **values)
