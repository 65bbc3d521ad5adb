"""HunyuanVideo's image-to-video v2 gives the first tokens of its single blocks, as many as a frame has, another timestep."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from . import ModelCall
from .objects import spans


def keep_first_frame(call: ModelCall, start: int, lanes: list[tuple[int, int | None]], blocks: int) -> None:
    """Where negatives stand among those tokens, let them be so many more.

    lanes: (tokens, where they would stand if they were the prompt's words, None for N0) of each, from `start` on. Those of a
    context have the timestep of the prompt's words; N0's that of the token before which they stand.
    """
    patches = call.transformer_options.get("patches_replace", {})
    replaced = dict(patches.get("dit", {}))
    for name in [("single_block", i) for i in range(blocks)]:
        replaced[name] = partial(count_past_negatives, start, lanes, replaced.get(name))
    call.options["patches_replace"] = {**patches, "dit": replaced}


@torch.compiler.disable(recursive=False)  # TorchCompileModel drops the guards on what args have
def count_past_negatives(start: int, lanes: list[tuple[int, int | None]], earlier: Callable[..., Any] | None,
                         args: dict[str, Any], extra: dict[str, Any]) -> Any:
    """A single block, in which the negatives do not count among the first tokens."""
    (_, end, frame), (_, _, rest) = args["modulation_dims"]
    parts = [(min(start, end), frame), (max(start - end, 0), rest)]
    for length, place in lanes:
        first = length * (end > start) if place is None else min(max(end - place, 0), length)
        parts += [(first, frame), (length - first, rest)]
    args = {**args, "modulation_dims": spans([*parts, (max(end - start, 0), frame), (None, rest)])}
    return extra["original_block"](args) if earlier is None else earlier(args, extra)
