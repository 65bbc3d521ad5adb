"""What the negatives did in a run, place by place in the picture: recorded for VSF Heat Map.

A run is recorded if a heat map is in the graph that is being executed; else nothing here is called. Of each attention come
means over its heads alone (vsf_core/forms.py, Note); of each call of the model remain their mean over the attentions, and each
one's over the picture; of each step, the mean over its calls, each place by the weight that ComfyUI gives to it there. A Heat
is found again by the latent that its run has made (`find`), and goes with the patch that it was made with.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ..attention.backends import Memory
from ..attention.grid import Size, cells_of, size_of
from ..families import Family, ModelCall
from ..families.pictures import grid_of

HEAT_MAP = "VSFHeatMap"
"""The node's id."""

MOST = 8
"""Runs of one patched model that are kept: their maps take less room than their latents."""

COUNTED = ("area", "mask", "mask_strength", "strength", "uuid")
"""Options of a conditioning from which ComfyUI makes its weight."""

SEEN = Memory()
_wanted: ContextVar[list[Heat] | None] = ContextVar("vsf_wanted", default=None)


@dataclass(frozen=True)
class Heat:
    """One run.

    maps: (steps, 1 + negatives, B, frames, height, width), single precision, on the CPU: what a Note is told, mean over the
    attentions that the picture has with the text; first all negatives together; zero where none acts. blocks: (steps, 1 +
    negatives, attentions), mean over the picture, of calls of the model that skip no layer. acted: (steps,) bool. cell: latent
    pixels along each side of a map's; size: of the latent. names: of the negatives, "" for none. unplaced: calls of the model
    whose place in the picture is not known; they are not in the maps.
    """
    maps: Tensor
    blocks: Tensor
    acted: Tensor
    cell: Size
    size: Size
    names: tuple[str, ...]
    unplaced: int


class Place(NamedTuple):
    """Where in a latent a conditioning acts. weight: what ComfyUI multiplies it by, (B or 1, frames, height, width) of the part
    that begins at `start`, or a number for the whole; cells: those of a context window, along `axis` of frames, height, width;
    they are the call's from number `first` on; None for all."""
    weight: Tensor | float
    start: Size = (0, 0, 0)
    cells: list[int] | None = None
    axis: int = 0
    first: int = 0


class Seen(NamedTuple):
    """One call of the model. maps: (1 + negatives, rows, frames, height, width); blocks: (1 + negatives, attentions); places:
    of each chunk of the rows."""
    maps: Tensor
    blocks: Tensor
    places: tuple[Place, ...]


@dataclass
class Recorder:
    """A run while it is sampled. names: of its negatives; shape: of its latent, (B, C, ...); in_parts: whether some of its
    conditionings are of a part of the picture alone."""
    names: tuple[str, ...]
    shape: tuple[int, ...]
    in_parts: bool
    cell: Size = (1, 1, 1)
    calls: list[Seen] = field(default_factory=list)
    steps: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    unplaced: int = 0
    denoised: list[Tensor] = field(default_factory=list)

    @property
    def negatives(self) -> int:
        return len(self.names)

    def watched(self, callback: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A sampler's callback, which is told each step's denoised latent: SamplerCustom gives out the last one."""
        if callback is None:
            return None

        def told(step: int, denoised: Tensor, *args: Any) -> Any:
            self.denoised = [denoised]
            return callback(step, denoised, *args)
        return told

    def latents(self, base_model: Any, samples: Tensor) -> list[Tensor]:
        """What sampler nodes make of a run's last latent and of its last denoised one, as they make it (comfy/samplers.py,
        comfy_extras/nodes_custom_sampler.py); of a video with sound, the video."""
        found = [base_model.process_latent_out(samples.to(torch.float32)),
                 *(base_model.process_latent_out(t.cpu()) for t in self.denoised)]
        self.denoised = []
        return [t[:, :, :math.prod(self.shape[1:])].reshape(self.shape) if len(self.shape) != t.ndim else t for t in found]

    def place(self, entry: dict[str, Any], x: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> Place:
        """Of a conditioning in CALC_COND_BATCH, its area, mask and strength as ComfyUI counts them."""
        if not self.in_parts:
            return Place(float(entry.get("strength", 1.0)))
        own = comfy.samplers.get_area_and_mult({k: entry[k] for k in COUNTED if k in entry} | {"model_conds": {}}, x, timestep)
        assert own is not None  # no time range is among COUNTED
        shapes = entry["model_conds"].get("latent_shapes")
        weight = own.mult if shapes is None else comfy.utils.unpack_latents(own.mult, shapes.cond)[0]
        weight = weight[:, 0].reshape(len(weight), *size_of(weight.shape[2:]))
        area = own.area or ()
        frame, row, column = (0, 0, 0, *area[len(area) // 2:])[-3:]
        start = frame, row, column
        window = model_options.get("transformer_options", {}).get("context_window")
        axes = x.ndim if shapes is None else len(shapes.cond[0])
        if window is None or (axis := 3 + window.dim - axes) < 0:  # no window, or one of pictures of a batch
            return Place(weight, start)
        return Place(weight, start, list(window.index_list), axis, int(getattr(window, "causal_anchor_index", -1) >= 0))

    def add(self, call: ModelCall, family: Family, noted: list[Tensor], numbers: Sequence[int],
            places: tuple[Place, ...]) -> None:
        """What was noted in a call of the model, attention by attention: (1 + len(numbers), rows, tokens)."""
        size, sums, blocks, count = size_of(call.sizes), {}, [], 0
        for values in noted:
            grid = grid_of(call, family, values.shape[-1])
            if grid is None:  # of the audio, not of the video
                continue
            own = grid.picture(values, size)
            blocks.append(own.mean(dim=(1, 2, 3, 4)))
            sums[grid] = sums[grid] + own if grid in sums else own
            count += 1
        if not sums:
            self.unplaced += 1
            return
        if not self.in_parts:
            self.cell = min((grid.cell for grid in sums), key=sum)
        maps = reduce(torch.add, [_enlarged(t, grid.cell, self.cell, size) for grid, t in sums.items()]) / count
        self.calls.append(Seen(self._of_all(maps, numbers), self._of_all(torch.stack(blocks, dim=1), numbers), places))

    def _of_all(self, values: Tensor, numbers: Sequence[int]) -> Tensor:
        """(1 + len(numbers), ...) -> (1 + negatives, ...), zero for those that do not act."""
        out = values.new_zeros(1 + self.negatives, *values.shape[1:])
        out[[0, *(1 + n for n in numbers)]] = values
        return out

    def end_step(self) -> None:
        """The sampler has asked the model once."""
        calls, self.calls = self.calls, []
        if not calls:
            self.steps.append(None)
            return
        total = calls[0].maps.new_zeros(1 + self.negatives, self.shape[0], *cells_of(size_of(self.shape[2:]), self.cell))
        weights = torch.zeros_like(total[:1])
        for call in calls:
            for maps, place in zip(call.maps.chunk(len(call.places), dim=1), call.places, strict=True):
                self.unplaced += not _put(total, weights, maps.to(total.device), place)
        longest = max(call.blocks.shape[1] for call in calls)
        whole = [c.blocks.to(total.device) for c in calls if c.blocks.shape[1] == longest]
        self.steps.append((total / weights.clamp(min=1e-9), reduce(torch.add, whole) / len(whole)))

    def heat(self) -> Heat:
        """What there is to show of the run."""
        acted = [step for step in self.steps if step is not None]
        none = torch.zeros(1 + self.negatives, self.shape[0], *cells_of(size_of(self.shape[2:]), self.cell)), torch.zeros(
            1 + self.negatives, max((step[1].shape[1] for step in acted), default=1))
        maps, blocks = ([part.cpu() for part in parts]
                        for parts in zip(*(step or none for step in self.steps or [None]), strict=True))
        return Heat(torch.stack(maps), torch.stack(blocks), torch.tensor([step is not None for step in self.steps or [None]]),
                    self.cell, size_of(self.shape[2:]), self.names, self.unplaced)


def _enlarged(maps: Tensor, patch: Size, cell: Size, size: Size) -> Tensor:
    """(..., frames, height, width) of patches, to cells, each of which has the value of the patch that it is in."""
    for dim, (p, c, n) in enumerate(zip(patch, cell, cells_of(size, cell), strict=True), start=-3):
        maps = (maps if p == c else maps.repeat_interleave(p // c, dim=dim)).narrow(dim, 0, n)
    return maps


def _put(total: Tensor, weights: Tensor, maps: Tensor, place: Place) -> bool:
    """Add a call's maps to those of its step where they belong; whether they fit there."""
    if not isinstance(place.weight, Tensor):
        if maps.shape[1:] != total.shape[1:]:
            return False
        total += maps * place.weight
        weights += place.weight
        return True
    if maps.shape[2:] != place.weight.shape[1:] or maps.shape[1] != total.shape[1]:
        return False
    where: list[slice | list[int]] = [slice(None), slice(None)]  # negatives, rows
    where += [slice(at, at + n) for at, n in zip(place.start, maps.shape[-3:], strict=True)]
    own = [slice(None)] * 5
    if place.cells is not None:
        where[2 + place.axis], own[2 + place.axis] = place.cells, slice(place.first, place.first + len(place.cells))
    weight = place.weight[None][tuple(own)].to(total)
    total[tuple(where)] += maps[tuple(own)] * weight
    weights[tuple(where)] += weight
    return True


def recorder(names: Sequence[str], entries: Sequence[dict[str, Any]], noise: Tensor,
             model_options: dict[str, Any]) -> Recorder | None:
    """For a run that is to be recorded, from its negatives' names and positive conditionings; else None."""
    if not is_wanted():
        return None
    packed = [e["model_conds"]["latent_shapes"].cond for e in entries if "latent_shapes" in e["model_conds"]]
    shapes = packed[0] if packed else (noise.shape,)
    in_parts = "context_handler" in model_options or any("area" in e or "mask" in e for e in entries)
    return Recorder(tuple(names), tuple(shapes[0]), in_parts)


def is_wanted() -> bool:
    """Whether what is being executed is to be recorded: a graph with a heat map in it."""
    if _wanted.get() is not None:
        return True
    node, running = get_executing_context(), get_progress_state()
    if node is None or node.prompt_id != running.prompt_id:  # not in a graph
        return False
    graph = running.dynprompt
    return any(graph.get_node(i)["class_type"] == HEAT_MAP for i in graph.all_node_ids())


@contextmanager
def recorded() -> Iterator[list[Heat]]:
    """Record runs that are in no graph; the list of them."""
    heats: list[Heat] = []
    token = _wanted.set(heats)
    try:
        yield heats
    finally:
        _wanted.reset(token)


def keep(owner: Any, latents: Sequence[Tensor], heat: Heat) -> None:
    """Keep a run's heat as long as its owner lives, to be found by any of the latents that came of it."""
    kept = SEEN.about(owner)
    # what a sampler node gives out; before there was such a setting, in the sampler's own precision
    given = getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()
    for t in latents:
        for own in (t, t.to(given)):
            kept.pop(_fingerprint(own), None)  # a run that is made once more is the newest
            kept[_fingerprint(own)] = heat
    while len({id(h) for h in kept.values()}) > MOST:
        del kept[next(iter(kept))]
    if (heats := _wanted.get()) is not None:
        heats.append(heat)


def find(owner: Any, samples: Any) -> Heat | None:
    """The heat of the run that made a latent."""
    return SEEN.about(owner).get(_fingerprint(samples.unbind()[0] if samples.is_nested else samples))


def _fingerprint(latent: Tensor) -> tuple[Any, ...]:
    values = latent.detach().to("cpu", torch.float32).contiguous()
    return *values.shape, hash(values.numpy().tobytes())
