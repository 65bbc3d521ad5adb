"""Which rows of a conditioning VSF Text Encode made, found again after other nodes have joined them with theirs.

ConditioningConcat keeps the options of its first input alone (ComfyUI's nodes.py): nothing in what it gives says where the
rows of the second begin, or that they are words. The rows themselves do. What is kept here are fingerprints of the newest
prompts, a few numbers each: no tensor, and nothing of a model or a run.
"""
from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

MOST = 1024
_made: OrderedDict[tuple[int, ...], bool] = OrderedDict()
"""Fingerprints of a prompt's rows -> whether they are words (and not an empty prompt)."""


def remember(tokens: Tensor, words: bool) -> None:
    """The rows of (B, L, C) are all words, or all those of an empty prompt."""
    if key := _fingerprints(tokens):
        _made[key] = words
        _made.move_to_end(key)
    while len(_made) > MOST:
        _made.popitem(last=False)


def find(tokens: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The rows of (B, L, C) from `start` on that are whole prompts remembered as words, and as empty: (L,) bool each."""
    rows, lengths = _fingerprints(tokens), sorted({len(key) for key in _made}, reverse=True)
    found = {True: torch.zeros(len(rows), dtype=torch.bool), False: torch.zeros(len(rows), dtype=torch.bool)}
    while start < len(rows):
        key = next((rows[start:start + n] for n in lengths if rows[start:start + n] in _made), rows[start:start + 1])
        if key in _made:
            _made.move_to_end(key)
            found[_made[key]][start:start + len(key)] = True
        start += len(key)
    return found[True], found[False]


def _fingerprints(tokens: Tensor) -> tuple[int, ...]:
    """One number for each row of (B, L, C), of its bytes."""
    rows = tokens.detach().movedim(-2, 0).flatten(1).cpu().contiguous().view(torch.uint8)
    return tuple(hash(row.tobytes()) for row in rows.numpy())
