"""Prompts as texts: a negative a line, read behind the prompt."""
from __future__ import annotations

import re

EMBEDDING = r"embedding:\S+"
WORD = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"
_PARTS = re.compile(f"{EMBEDDING}|{WORD}")


def negatives_of(text: str) -> list[str]:
    """The negatives in a text, one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def joined(prompt: str, negative: str) -> str:
    """A prompt with a negative behind it, as one text. The prompt stays as it is: what both texts share cancels."""
    prompt = prompt.rstrip()
    if not prompt:
        return negative
    return f"{prompt} {negative}" if prompt[-1] in ",.;:!?\u3001\u3002\uff0c" else f"{prompt}, {negative}"


def without_repeats(prompt: str, negative: str) -> tuple[str, list[str]]:
    """A negative without the words that its prompt has, and what was left out; "" if no word remains.

    A negative that says a word of the prompt again ("a red car" / "red paint") pushes at that word too, and so at the picture's
    subject; without it, what is left still is read as part of the prompt. Weights, embeddings and punctuation stay.
    """
    said = {w.casefold() for w in _PARTS.findall(prompt)}
    left_out: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match[0].casefold() not in said or re.fullmatch(EMBEDDING, match[0]):
            return match[0]
        left_out.append(match[0])
        return ""
    rest = _PARTS.sub(keep, negative)
    if not _PARTS.search(rest):
        return "", left_out
    if left_out:
        rest = re.sub(r"\s+([,.;:)])", r"\1", re.sub(r"([(\[])\s+", r"\1", re.sub(r"\s+", " ", rest)))
    return rest.strip(" ,;"), left_out
