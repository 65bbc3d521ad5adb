"""Lanes: negatives beside the sequence, for models that read a prompt once and keep its keys and values for all steps.

In such a model the words see what stands before them and never the picture, so that what it makes of a prompt is the same in
every step. A negative is read as a prompt of its own, once a run, by the model's own forward: an attention override notes its
words' keys and values, block by block. In the picture's attention they then stand behind the model's own keys; the model's
sequence, its positions and its own cache stay as they are.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout
from .compiling import not_compiled

Lane = dict[Any, tuple[Tensor, Tensor]]
"""A block's index, as the model tells it -> keys and values of one negative's words there, (B, H, LN, D) each."""


@dataclass(frozen=True)
class LaneLayout(Layout):
    """The picture's attention: its segments are the model's own keys, then one for each lane. queries: of a fixed length."""
    lanes: tuple[Lane, ...] = field(default=(), kw_only=True)

    def fits(self, queries: int, keys: int) -> bool:
        """Of the model's own call, which has no lanes."""
        own = sum(s.tokens for s in self.segments if not isinstance(s.role, int))
        assert self.queries is not None
        return keys == own and queries == sum(s.tokens for s in self.queries)

    @not_compiled  # blocks of the same code would share a lane
    def with_lanes(self, k: Tensor, v: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Keys and values of a call, (B, H, L, D), with each lane's behind them."""
        lanes = [lane[options["block_index"]] for lane in self.lanes]
        return torch.cat([k, *(key for key, _ in lanes)], dim=-2), torch.cat([v, *(value for _, value in lanes)], dim=-2)


def split_heads(t: Tensor, head_dim: int) -> Tensor:
    """(B, L, H*D), or (B, L, H, D), to (B, H, L, D)."""
    return (t if t.ndim == 4 else t.view(*t.shape[:2], -1, head_dim)).transpose(1, 2)
