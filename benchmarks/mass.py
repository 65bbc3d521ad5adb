"""Where VSF acts: the share of attention, 1 - W, that each image token gives to the negative, by step and layer."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import rivals
import scenes
import torch
from torch import Tensor
from vsf_pack.vsf_core.attention import find_lse_kernel, math_attention
from vsf_pack.vsf_core.forms import Attention, vsf_attention_merged
from vsf_pack.vsf_core.layout import Layout

TOKENS = 8  # a side of the testbed's pictures, in tokens


@dataclasses.dataclass(frozen=True)
class MassSeen(rivals.Rival):
    """VSF that writes down 1 - W: one list a call of the model, in it (B, image tokens) of each attention, mean over heads."""
    forwards: list[list[Tensor]] = dataclasses.field(default_factory=list)

    def __call__(self, *args: Any) -> Any:
        self.forwards.append([])
        return super().__call__(*args)

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attention,
             attend_lse: Any) -> Tensor:
        kernel, noted = find_lse_kernel(q, k, v) or math_attention, []
        out = vsf_attention_merged(q, k, v, layout, lambda *qkv: kernel(*qkv, None), noted.append)
        self.forwards[-1].append(torch.cat(noted, dim=-1)[0])
        return out


def part_area(pair: scenes.Pair) -> np.ndarray:
    """Which share of each token's square the part covers, [8, 8]: where the picture is another without it."""
    with_part, without = (scenes.render(dataclasses.replace(pair.scene, part=part)).astype(int) for part in (True, False))
    covered = np.abs(with_part - without).max(-1) > 24
    size = scenes.SIZE // TOKENS
    return covered.reshape(TOKENS, size, TOKENS, size).mean((1, 3))


def summary(masses: np.ndarray, pairs: list[scenes.Pair]) -> dict[str, Any]:
    """Means over the pairs: 1 - W over the picture, and how many times more of it lies on the part than elsewhere."""
    areas = np.stack([part_area(pair) for pair in pairs])[:, None, None]

    def mean(weights: np.ndarray) -> np.ndarray:
        return (masses * weights).sum((-2, -1)) / weights.sum((-2, -1))
    ratio = mean(areas) / mean(1 - areas)
    return {"mass": masses.mean((0, -2, -1)).tolist(), "on_part_over_elsewhere": ratio.mean(0).tolist()}
