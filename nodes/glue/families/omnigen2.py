"""OmniGen2 and Boogu (comfy/ldm/omnigen/omnigen2.py, comfy/ldm/boogu/model.py): text refiners, then joint attention over
[text][references][image] in every block. Attention over references or image alone (refiners, Boogu's double blocks) is left.

Text is numbered, and the image by the text's length, `num_tokens`: the model gets there the lengths of prompt and negatives
apart, so that the negatives' numbers follow the prompt's and the image keeps its own.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.override import OVERRIDE
from ..attention.positions import current
from . import ModelCall, Settings
from .joint import append_text
from .objects import in_calls_with

TEXT_LAYOUT = "vsf_omnigen2_text_layout"


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    patch = call.base_model.diffusion_model.patch_size
    images = (call.x, *(call.conds.get("ref_latents") or ()))
    image = sum(-(-t.shape[-2] // patch) * -(-t.shape[-1] // patch) for t in images)
    prompt, text = call.context.shape[1], append_text(call, tokens)
    call.conds["num_tokens"] = prompt, *(t.shape[1] for t in tokens)
    call.options[TEXT_LAYOUT] = Layout(tuple(text), negatives)
    return [Layout((*text, Segment("I", image)), negatives)]


@in_calls_with(TEXT_LAYOUT)
def kept_apart(original: Callable[..., Tensor], options: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
    """A text refiner's block, whose attention may have as many tokens as one over the image alone."""
    options[OVERRIDE].expect(options[TEXT_LAYOUT])
    return original(*args, **kwargs)


def with_negatives(original: Callable[..., tuple]) -> Callable[..., tuple]:
    """OmniGen2RotaryPosEmbed.forward, for text of which only the first part moves the image."""
    def forward(batch: int, length: int, num_tokens: list[Any], *images: Any) -> tuple:
        if not isinstance(num_tokens[0], tuple):
            return original(batch, length, num_tokens, *images)
        positive = num_tokens[0][0]
        _, references, image, joint, *rest = original(batch, positive, [positive] * batch, *images)
        text = original(batch, length, [length] * batch, *images)[0]
        positions = current()
        text = text if positions is None else positions.of(text, dim=1)
        return text, references, image, torch.cat([text, joint[:, positive:]], dim=1), *rest
    return forward


OBJECT_PATCHES = {"diffusion_model.context_refiner.*.forward": kept_apart,
                  "diffusion_model.rope_embedder.forward": with_negatives}
