"""Prompt pairs in the NegGenBench authors' JSON format: an array of objects with four texts each."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from .errors import BenchError

OWN_PAIRS = Path(__file__).resolve().parent / "pairs.json"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A prompt, the essential part that the picture must not show, and the judge's two questions."""
    prompt: str
    missing_element: str
    question_1: str
    question_2: str


FIELDS = tuple(field.name for field in dataclasses.fields(Pair))


def read_pairs(path: Path, count: int | None = None) -> list[Pair]:
    """The file's pairs, or the first `count` of them."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"The prompt pairs in {path} cannot be read: {error}") from None
    if not isinstance(found, list) or not found:
        raise BenchError(f"{path} should hold a JSON array of prompt pairs; found {type(found).__name__} "
                         f"{json.dumps(found)[:60]}.")
    if count is not None and not 1 <= count <= len(found):
        raise BenchError(f"--count {count}: {path} has {len(found)} pairs.")
    return [to_pair(entry, f"{path}, pair {number}") for number, entry in enumerate(found[:count], 1)]


def to_pair(entry: object, where: str) -> Pair:
    """One entry of the file. Further fields are left alone: the authors' development set has some."""
    if not isinstance(entry, dict):
        raise BenchError(f"{where}: expected an object with {', '.join(FIELDS)}; found {json.dumps(entry)[:60]}.")
    for name in FIELDS:
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise BenchError(f"{where}: `{name}` should be a text; found {json.dumps(entry.get(name))[:60]}.")
    return Pair(*(entry[name].strip() for name in FIELDS))
