"""Prompts as texts: a negative a line, read behind the prompt."""
from __future__ import annotations

import re
import unicodedata

MOST = 10.0
"""The greatest weight of a negative; as a curve's factor."""

EMBEDDING = r"embedding:\S+"
_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u109f\u1780-\u17ff"  # parts of letters that \w leaves out: accents, Hindi, Thai
_LETTERS = rf"\d*[^\W\d_](?:[^\W_]|[{_MARKS}])*"
WORD = rf"{_LETTERS}(?:['\u2019-]{_LETTERS})*"
# as they are typed: with full-width signs of Chinese and Japanese keyboards, a comma for the point, a real minus
_COLON, _OPEN, _CLOSE, _MINUS = "[:\uff1a]", r"(?<!\\)[(\uff08]", "[)\uff09]", "[-\u2212\uff0d]"
_COMMA = "[,\uff0c\u3001]"
_NUMBER = r"\+?((?:\d+(?:[.,\uff0e]\d*)?|[.,\uff0e]\d+)(?:[eE][+-]?\d+)?)"
_LETTER = r"\\[()]|[^():\uff08\uff09\uff1a]"  # of what has a weight
_OWN = f"((?:{_LETTER})+?)"
_ABOVE_0, _BELOW_0 = rf"{_COLON}\s*{_NUMBER}", rf"{_COLON}\s*{_MINUS}{_NUMBER}\s*"
_WHOLE_EMBEDDING = r"embedding:[^\s():\uff08\uff09\uff1a]+(?=[\s():\uff08\uff09\uff1a])"  # to its end, which is one
_BARE, _BARE_BELOW_0 = re.compile(_OWN + _ABOVE_0), re.compile(_OWN + _BELOW_0)
_IN_BRACKETS = re.compile(rf"{_OPEN}{_OWN}{_ABOVE_0}\s*{_CLOSE}")
_NEGATIVE = re.compile(rf"{_OPEN}((?:{_WHOLE_EMBEDDING}|{_LETTER})+?){_BELOW_0}{_CLOSE}")
_PARTS = re.compile(f"{EMBEDDING}|{WORD}")


def negatives_of(text: str) -> list[tuple[str, float]]:
    """The negatives in a text and their weights: one a line, `car wheels`, `car wheels:1.5` or `(car wheels:1.5)`. What follows
    a `#`, at the beginning or after a space, is a comment. Raises ValueError, for the user to read, for a negative weight."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip().rstrip(", ;\uff0c\u3001\uff1b") for line in text.splitlines()]
    for line in lines:
        if has_negative_weight(line) or _weight(_BARE_BELOW_0, line):
            raise ValueError(f"VSF: take the minus off the weight in `negative`: what stands there is taken out as it is. "
                             f'Expected weights from 0, found "{line}".')
    return [_weighted(line) for line in lines if line]


def has_negative_weight(text: str) -> bool:
    """Whether a part of a text has a negative weight."""
    return re.search(rf"{_BELOW_0}(?<!\\){_CLOSE}", text) is not None


def has_unread_weight(negative: str) -> bool:
    """Whether a negative, its weight taken off, still has what looks like one outside of brackets, which are the text
    encoder's: `wheels:1.5, doors`. A time or a format is none: 10:10, 16:9."""
    outside, inside = re.sub(EMBEDDING, "", negative), 1
    while inside:
        outside, inside = re.subn(r"(?<!\\)\([^()]*\)", "", outside)
    return re.search(rf"[^\W\d]\s*{_COLON}\s*(?:{_MINUS}\s*)?{_NUMBER}", outside) is not None


def _weighted(line: str) -> tuple[str, float]:
    match = _IN_BRACKETS.fullmatch(line) or _weight(_BARE, line)
    return (match[1].strip(), _number(match[2])) if match and match[1].strip() not in ("embedding", "") else (line, 1.0)


def _weight(pattern: re.Pattern[str], line: str) -> re.Match[str] | None:
    """A weight without brackets. None after a number, of which a colon makes a time or a format (10:10, 16:9)."""
    match = pattern.fullmatch(line)
    return None if match is None or re.search(r"(?:^|\s)[\d.,/]*$", match[1].strip()) else match


def _number(text: str) -> float:
    return float(re.sub("[,\uff0e]", ".", text))


def taken_out(prompt: str) -> tuple[str, list[tuple[str, float]]]:
    """A prompt without its negative parts, `a red car (wheels:-1)`, and these with their weights. One that has none stays as it
    is, to the letter."""
    negatives = [(m[1].strip(), _number(m[2])) for m in _NEGATIVE.finditer(prompt) if m[1].strip()]
    if not negatives:
        return prompt, []
    rest = re.sub(rf"{_OPEN}\s*{_CLOSE}", "", _NEGATIVE.sub("", prompt))
    rest = re.sub(r"[ \t]{2,}", " ", re.sub(rf"({_COMMA}\s*)+(?={_COMMA})", "", rest))
    return re.sub(r"\s+([,.;:!?])", r"\1", rest).strip(" ,\uff0c\u3001"), negatives


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
    if not (_PARTS.search(rest) if left_out else any(unicodedata.category(c)[0] in "LNS" for c in rest)):
        return "", left_out
    if left_out:
        rest = re.sub(r"_{2,}", "_", re.sub(r"\b_+|_+\b", "", rest))
        rest = re.sub(r"\s+([,.;:)])", r"\1", re.sub(r"([(\[])\s+", r"\1", re.sub(r"\s+", " ", rest)))
    return rest.strip(" ,;"), left_out
