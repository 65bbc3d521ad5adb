"""What was seen of a run, as VSF Heat Map shows it: pictures, a mask, words."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....vsf_core.heat import colours
from ..attention.grid import Size, size_of
from .patch import KEY, VSFPatch
from .seen import Heat, find

AVERAGE, EACH_STEP = "average", "each step"


def draw(model: Any, latent: dict[str, Any], negative: int = 0, show: str = AVERAGE, opacity: float = 0.7,
         brightest: float = 0.0, image: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, str]:
    """The node's outputs: the map over the picture and alone, (N, height, width, 3), as a mask, (N, height, width), and in
    words. N: pictures x steps that are shown x frames. Raises ValueError, for the user to read, for a latent that was not
    recorded with this model.
    """
    samples = latent["samples"]
    patch: VSFPatch | None = model.get_attachment(KEY)
    heat = find(model.model if patch is None else patch, samples)
    if heat is None and patch is None:
        heat = nothing(samples)
    if heat is None:
        raise ValueError("VSF: connect what the sampler gives to `latent` and the sampler's model to `model`, and run again, "
                         "with another seed if that is not enough. Expected a picture that was sampled with this model while "
                         "the heat map was in the graph, found another one.")
    count = heat.maps.shape[1] - 1
    if negative > count > 0:
        raise ValueError(f"VSF: set `negative` between 0 and {count}. Expected one of the negatives that the model has, found "
                         f"{negative}.")
    chosen = heat.maps[:, min(negative, count)]
    shown = chosen if show == EACH_STEP else average(chosen, heat.acted)
    under = None if image is None else spread(image, chosen.shape[1], len(shown), heat.size[0])
    full = enlarged(shown.transpose(0, 1).flatten(0, 1), heat.cell, heat.size, under,
                    model.model.latent_format.spacial_downscale_ratio)
    top = brightest or float(full.amax()) or 1.0
    mask = (full / top).clamp(0, 1)
    alone = colours(mask)
    overlay = alone if under is None else torch.lerp(under[..., :3].float(), alone, opacity)
    return overlay, alone, mask, numbers(heat, top)


def nothing(samples: Any) -> Heat:
    """Of a model without a negative."""
    shape = (samples.unbind()[0] if samples.is_nested else samples).shape
    size = size_of(tuple(shape[2:]))
    return Heat(torch.zeros(1, 1, shape[0], *size), torch.zeros(1, 1, 1), torch.tensor([False]), (1, 1, 1), size, (), 0)


def average(maps: Tensor, acted: Tensor) -> Tensor:
    """(1, ...) of (steps, ...): over the steps in which a negative acts."""
    return maps[acted].mean(dim=0, keepdim=True) if acted.any() else maps[:1]


def spread(image: Tensor, pictures: int, steps: int, frames: int) -> Tensor:
    """The pictures to draw on, (pictures x steps x frames, height, width, channels), each again for each step."""
    if len(image) % pictures or (frames == 1 and len(image) != pictures):
        raise ValueError("VSF: connect the decoded picture of this very `latent` to `image`. Expected as many pictures as "
                         f"`latent` has ({pictures}), found {len(image)}.")
    each = image.unflatten(0, (pictures, 1, -1))
    return each.expand(-1, steps, *each.shape[2:]).flatten(0, 2)


def enlarged(maps: Tensor, cell: Size, size: Size, under: Tensor | None, ratio: int) -> Tensor:
    """Maps, (N, frames, height, width) of cells, as large as the picture: (N x its frames, height, width)."""
    height, width = (n * ratio for n in size[1:]) if under is None else under.shape[1:3]
    count = maps.shape[1] if under is None else len(under) // len(maps)
    maps = maps[:, [frame_of(i, count, maps.shape[1]) for i in range(count)]]
    whole = [round(n * cells * c / own) for n, cells, c, own in zip((height, width), maps.shape[2:], cell[1:], size[1:],
                                                                    strict=True)]
    return torch.nn.functional.interpolate(maps, size=whole, mode="bilinear").flatten(0, 1)[:, :height, :width]


def frame_of(frame: int, frames: int, cells: int) -> int:
    """In which of a map's frames a video's frame is: the first has one of its own, and the others share the rest evenly, as a
    video's autoencoder has them."""
    if frames <= cells:
        return frame
    return 0 if frame == 0 else 1 + (frame - 1) * (cells - 1) // (frames - 1) if cells > 1 else 0


def numbers(heat: Heat, top: float) -> str:
    """What the maps say, in words."""
    if not heat.names:
        return ("no negative acts: connect the model that comes out of a VSF node, and write in that what must not be in the "
                "picture")
    if not heat.acted.any() and not heat.unplaced:
        return "no negative acted in any step"
    lines = []
    for n in range(heat.maps.shape[1]):
        maps, blocks = heat.maps[:, n], heat.blocks[:, n]
        step, block = divmod(int(blocks.argmax()), blocks.shape[1])
        means = zip(maps.flatten(1).mean(1).tolist(), heat.acted.tolist(), strict=True)
        of_steps = ", ".join(f"{mean:.3f}" if acts else "off" for mean, acts in means)
        own = heat.names[n - 1] if n else ""
        name = "all negatives" if n == 0 else f'negative {n} "{own}"' if own else f"negative {n}"
        lines.append(f"{name}: mean {float(average(maps, heat.acted).mean()):.3f}, strongest place {float(maps.amax()):.3f}, "
                     f"strongest in attention {block + 1} of {blocks.shape[1]} at step {step + 1}\n"
                     f"    mean in each step: {of_steps}")
    lines.append(f"brightest colour: {top:.3f}")
    if heat.unplaced:
        lines.append(f"not in the map: {heat.unplaced} calls of the model, whose place in the picture is not known")
    return "\n".join(lines)
