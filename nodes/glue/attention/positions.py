"""Positions of a context's words: those that the prompt's own words have, although they stand behind it in the sequence.

A model that numbers its text gives the tokens behind the prompt the numbers that follow. What it makes of these numbers,
ids or rotations, is read here by rows: each row takes another's. For OBJECT_PATCHES, `numbered(path)` reads what reaches a
function that makes rotations of ids.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """taken: (L,), for each token of a call's text, the token whose position it takes."""
    taken: Tensor

    def of(self, ids: Tensor, dim: int, is_last: bool = False) -> Tensor:
        """Ids or rotations of a whole sequence, tokens along `dim`, with the text's as they are to be; is_last: the text stands
        behind the image, not before it."""
        start = ids.shape[dim] - len(self.taken) if is_last else 0
        text = ids.narrow(dim, start, len(self.taken)).index_select(dim, self.taken.to(ids.device))
        rest = ids.narrow(dim, 0, start), ids.narrow(dim, start + len(self.taken), ids.shape[dim] - start - len(self.taken))
        return torch.cat([rest[0], text, rest[1]], dim=dim)


def taken_by(prompt: int, words: Tensor | None, lanes: list[tuple[int, bool]]) -> Tensor:
    """Positions.taken of [prompt][lanes]. prompt: its tokens; words: (prompt,) bool, which of them are words, None for all;
    lanes: (tokens, whether it is a context) of each. A context longer than the prompt goes on behind the prompt's last word."""
    rows = torch.arange(prompt) if words is None else words[:prompt].nonzero().flatten()
    following = torch.arange(prompt + sum(length for length, _ in lanes)) + 1 + (int(rows[-1]) if len(rows) else -1)
    parts, behind = [torch.arange(prompt)], prompt
    for length, is_context in lanes:
        if is_context:
            parts.append(torch.cat([rows, following])[:length])
        else:  # N0's follow the prompt's and those of the negatives before it
            parts.append(torch.arange(behind, behind + length))
            behind += length
    return torch.cat(parts)


_positions: ContextVar[Positions | None] = ContextVar("vsf_positions", default=None)


@contextmanager
def standing(positions: Positions | None) -> Iterator[None]:
    """While a model call runs, its text's positions."""
    token = _positions.set(positions)
    try:
        yield
    finally:
        _positions.reset(token)


def current() -> Positions | None:
    """Of the model call that is running."""
    return _positions.get()


def numbered(path: str, argument: int = 0, is_last: bool = False) -> dict[str, Callable[[Any], Any]]:
    """OBJECT_PATCHES for a function at `path` that is given a call's ids, (..., L, axes), as its `argument`.

    It is not compiled: each call has positions of its own.
    """
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @torch.compiler.disable(recursive=False)
        def forward(*args: Any, **kwargs: Any) -> Any:
            positions = current()
            if positions is not None:
                args = (*args[:argument], positions.of(args[argument], -2, is_last), *args[argument + 1:])
            return original(*args, **kwargs)
        return forward
    return {path: make}
