"""Where a negative acts, from a run's latent to the image tokens of each attention.

    RunRegions   of a run: each region's share m, in [0, 1], of each cell of the latent
    RegionsCond  takes it along with the positive conditionings, so that ComfyUI cuts it as it cuts them: the part of an area,
                 the frames of a context window
    CallRegions  of one call of the model: m of each image token, of as many as an attention has (grid.py)

All that is no part of the picture (reference pictures, sound, padding) has m's mean over the picture.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.conds
import torch
from torch import Tensor

from ....vsf_core.areas import Sizes
from ....vsf_core.layout import Layout
from .compiling import not_compiled
from .grid import Grid, without_place


class RegionsCond(comfy.conds.CONDRegular):
    """m of a run's regions, (1 or B, regions, [frames,] height, width), in a positive's model_conds. A context window takes its
    frames out of it as out of any condition of the latent's shape (comfy/context_windows.py)."""
    cond: Tensor
    rows = 1

    def process_cond(self, batch_size: int, area: Sequence[int] | None = None, **kwargs: Any) -> RegionsCond:
        """The part in an area: sizes along the latent's last axes, then where it begins. One row stays one for all."""
        m = self.cond
        if area is not None:
            axes = len(area) // 2
            for i in range(axes):
                m = m.narrow(2 + i, area[axes + i], area[i])
        if len(m) > 1:
            m = m[torch.arange(batch_size) % len(m)] if len(m) != batch_size else m
        made = self._copy_with(m)
        made.rows = batch_size
        return made

    def can_concat(self, other: RegionsCond) -> bool:
        return self.cond.shape[1:] == other.cond.shape[1:]

    def concat(self, others: list[RegionsCond]) -> Tensor:
        chunks = [self, *others]
        if all(len(c.cond) == 1 and _is(c.cond, self.cond) for c in chunks):
            return self.cond
        return torch.cat([c.cond.expand(c.rows, *c.cond.shape[1:]) for c in chunks])


def _is(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same part of one."""
    return a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride())


@dataclass
class RunRegions:
    """Of a run: m of each region over its latent, (1 or B, regions, *sizes), of which negative each is, and what has become of
    them, by how."""
    m: Tensor
    of: dict[int, int]
    known: dict[Any, Tensor] = field(default_factory=dict)


class CallRegions:
    """m of the image tokens of one call of the model, for as many as an attention has."""

    def __init__(self, run: RunRegions, m: Tensor, numbers: Sequence[int],
                 picture: Callable[[int, dict[str, Any]], Grid | None], x: Tensor, sizes: Sizes) -> None:
        """m: that of the call, (1 or B, regions, *sizes); numbers: of its negatives in the run; x: what the model gets; sizes:
        of the picture in that."""
        rows = len(x)
        if len(m) not in (1, rows):
            raise RuntimeError("VSF: connect one mask for all pictures, or bypass the VSF node. Expected "
                               f"{len(m)} pictures in this call, one for each mask, found {rows}: another node calls the model "
                               "with single pictures, and which of them belongs to which mask cannot be known.")
        if m.shape[2:] != sizes:
            raise RuntimeError("VSF: leave `mask` empty, or bypass the node that calls the model with parts of the picture. "
                               f"Expected the whole, {tuple(m.shape[2:])}, or a part that ComfyUI itself takes (areas, context "
                               f"windows), found {tuple(sizes)}: where that lies in the mask cannot be known.")
        self.m, self.picture, self.device = m, picture, x.device
        self.which = [run.of.get(c) for c in numbers]
        is_part = m.untyped_storage().data_ptr() == run.m.untyped_storage().data_ptr()
        self.known = run.known if is_part else {}  # a window of frames is a copy, made in each step

    @not_compiled
    def of(self, layout: Layout, tokens: int, options: dict[str, Any]) -> Layout:
        """The layout with the regions of its negatives. tokens: the image's, among its queries."""
        grid = self.picture(tokens, options)
        negatives = tuple(n if r is None else replace(n, region=self._of(r, grid, tokens))
                          for n, r in zip(layout.negatives, self.which, strict=True))
        return replace(layout, negatives=negatives)

    def _of(self, region: int, grid: Grid | None, tokens: int) -> Tensor:
        key = (region, grid, tokens, self.m.storage_offset(), self.m.shape, self.m.stride(), self.device)
        if key not in self.known:
            m = self.m[:, region]
            self.known[key] = (without_place(m).expand(-1, tokens) if grid is None else grid.tokens(m, tokens)).to(self.device)
        return self.known[key]


def of_rows(layout: Layout, rows: list[int]) -> Layout:
    """A layout for some rows of its batch."""
    if all(n.region is None or len(n.region) == 1 for n in layout.negatives):
        return layout
    return replace(layout, negatives=tuple(n if n.region is None or len(n.region) == 1 else replace(n, region=n.region[rows])
                                           for n in layout.negatives))
