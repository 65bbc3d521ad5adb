"""PixelDiT and PiD (comfy/ldm/pixeldit/model.py, pid.py): joint attention over [text][image] in every patch block; pixel
blocks attend over the image alone.

The model knows 300 positions, which its text encoder's padding fills: the text cannot be lengthened. Each negative is embedded
as a prompt of its own, numbered from 0, and put before the prompt in the first block, with its rotations in every block.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .objects import in_calls_with

NEGATIVES = "vsf_pixeldit_negatives"


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    tokens = [t[:, :model.txt_max_length].to(call.base_model.get_dtype_inference()) for t in tokens]
    lengths = [t.shape[1] for t in tokens]
    embedded = [model.y_embedder(t) for t in tokens]
    embedded = [t + model.y_pos_embedding[:, :t.shape[1]].to(t) for t in embedded]
    rotations = [model._fetch_text_pos(n, t.device, t.dtype) for n, t in zip(lengths, tokens, strict=True)]
    call.options[NEGATIVES] = torch.cat(embedded, dim=1), torch.cat(rotations)

    patch = model.patch_size
    image = -(-call.x.shape[-2] // patch) * -(-call.x.shape[-1] // patch)
    own = (Segment(c, n) for c, n in enumerate(lengths))
    prompt = call.prompt(min(call.context.shape[1], model.txt_max_length))
    return [Layout((*own, *prompt, Segment("I", image)), negatives)]


@in_calls_with(NEGATIVES)
def with_text(original: Callable[..., Any], options: dict[str, Any], x: Tensor, y: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The first block's forward(image, text, ...), with the negatives before the text."""
    return original(x, torch.cat([options[NEGATIVES][0], y], dim=1), *args, **kwargs)


@in_calls_with(NEGATIVES)
def with_rotations(original: Callable[..., Any], options: dict[str, Any], x: Tensor, y: Tensor, image: Tensor,
                   text: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """An attention's forward(image, text, the image's rotations, the text's, ...), with the negatives' before the text's."""
    text = text if text is None else torch.cat([options[NEGATIVES][1], text])
    return original(x, y, image, text, *args, **kwargs)


OBJECT_PATCHES = {"diffusion_model.patch_blocks.0.forward": with_text,
                  "diffusion_model.patch_blocks.*.attn.forward": with_rotations}
