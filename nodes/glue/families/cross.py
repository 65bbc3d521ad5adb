"""What cross-attention families share."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Set
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ....vsf_core.layout import Context, Layout, Segment
from ..attention.override import OVERRIDE
from . import ModelCall, Settings

IMAGE = (Segment("I", None),)


def cross_text(call: ModelCall, tokens: list[Tensor], negatives: Settings, taken: Set[int] = frozenset(),
               before: int = 0) -> list[Layout]:
    """Put the negatives behind the positive context, [P][N0 of each], for image queries.

    taken: as in `unlike`; before: tokens that the model itself puts before the text, which are no prompt's.
    """
    text = call.context
    tokens, negatives = unlike(taken, before + text.shape[1], tokens, negatives)
    call.context = torch.cat([text, *tokens], dim=1)
    own = (Segment(c, t.shape[1]) for c, t in enumerate(tokens))
    return [Layout((Segment("B", before), *call.prompt(text.shape[1]), *own), negatives, queries=IMAGE)]


def unlike(taken: Set[int], positive: int, tokens: list[Tensor],
           negatives: Settings) -> tuple[list[Tensor], Settings]:
    """The negatives, in such numbers that `positive` tokens and theirs are together none of the numbers in `taken`.

    taken: numbers of keys that other attentions of the model have (the image's own, an image encoder's). An attention is
    known by its number of keys; where text and negatives would have a number that is taken, the first negative is repeated.
    Keys that stand r times weigh r times as much, so that its beta grows by log r, and the result is the same; a context's
    count once.
    """
    repeats = 1
    while positive + (repeats - 1) * tokens[0].shape[1] + sum(t.shape[1] for t in tokens) in taken:
        repeats += 1
    if repeats > 1:
        first = negatives[0]
        tokens = [tokens[0].repeat(1, repeats, 1), *tokens[1:]]
        once = {"copies": repeats} if isinstance(first, Context) else {"beta": first.beta + math.log(repeats)}
        negatives = (dataclasses.replace(first, **once), *negatives[1:])
    return tokens, negatives


def beside(replace: Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]) -> Callable[..., Tensor]:
    """Attention that another node puts in place of the model's (patches_replace), of the prompt alone, with what the negatives
    change in the model's own. The override must have been told to expect it (`VSFAttention.expect`)."""
    def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        expected = getattr(extra.get(OVERRIDE), "expected", None)
        if expected is None:
            return replace(q, k, v, extra)
        attention = partial(optimized_attention, q, heads=extra["n_heads"], attn_precision=extra["attn_precision"],
                            transformer_options=extra)
        with_negatives = attention(k, v)
        prompt = sum(s.tokens for s in expected.segments if not isinstance(s.role, int))
        k, v = (t[:, :prompt] for t in (k, v))
        return replace(q, k, v, extra) + with_negatives - attention(k, v)
    return attend
