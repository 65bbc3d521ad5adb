"""What OBJECT_PATCHES share: an object of the model has another in its place, which acts in VSF's own calls alone."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import torch


def in_calls_with(key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For an object patch `replacement(original, options, *args, **kwargs)`: it takes the original's place in calls whose
    transformer_options, `options`, have this key; in all others the original is called.

    It is not compiled: TorchCompileModel drops the guards on transformer_options, and what a call's negatives are stands there.
    """
    def patch(replacement: Callable[..., Any]) -> Callable[..., Any]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            @torch.compiler.disable(recursive=False)
            def forward(*args: Any, **kwargs: Any) -> Any:
                options = kwargs.get("transformer_options") or {}
                return replacement(original, options, *args, **kwargs) if key in options else original(*args, **kwargs)
            return forward
        return make
    return patch


def spans(parts: Iterable[tuple[int | None, Any]]) -> list[tuple[int, int | None, Any]]:
    """(start, stop, value) of runs of tokens from (length, value) of parts in order, of which the last may be open (None);
    parts with the same value are one run."""
    found: list[tuple[int, int | None, Any]] = []
    at: int | None = 0
    for value, run in groupby((part for part in parts if part[0] != 0), key=lambda part: part[1]):
        lengths = [length for length, _ in run]
        assert at is not None
        stop = None if None in lengths else at + sum(n for n in lengths if n is not None)
        found.append((at, stop, value))
        at = stop
    return found
