"""Qwen-Image 2.1 (comfy/ldm/qwen_image21/model.py, from ComfyUI 0.37): one sequence of the text, with each reference where the
text names it, and the image. Words see what stands before them, references what stands before their end, the image all.

The image is numbered by the text's length, which cannot grow. Each negative has a lane beside the sequence: it is read as a
prompt of its own, numbered from 0, once a run. Its words see those before them and the references that its own conditioning
brings (Text Encode Qwen Image 2.1), as the prompt's do; in a negative without references, its words alone.
"""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.lanes import Lane, LaneLayout
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .lanes import kept, read

SLOTS, REFERENCE = "image_slots", "reference"


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """The text, the references in it, and before which token each stands; references behind the text are not seen by it."""
    slots = list(prompt.options.get(SLOTS) or ())
    latents = [base_model.process_latent_in(t) for t in prompt.options.get("reference_latents") or ()][:len(slots)]
    references = {f"{REFERENCE} {i}": t for i, t in enumerate(latents)}
    return {TEXT: prompt.tokens, SLOTS: torch.tensor([slots[:len(latents)]], dtype=torch.long), **references}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    own = sequence(call.context, call.conds.get(SLOTS) or [], [*(call.conds.get("ref_latents") or ()), call.x])
    behind = (Segment(c, t.shape[1]) for c, t in enumerate(tokens))
    return [LaneLayout((*own, *behind), negatives, queries=own[-1:], lanes=tuple(lane(call, c) for c in range(len(tokens))))]


def sequence(text: Tensor, slots: list[int], images: list[Tensor]) -> tuple[Segment, ...]:
    """The model's (build_sequence). images: the references and, last, the image itself."""
    ends = [*[*slots, *[text.shape[1]] * len(images)][:len(images) - 1], text.shape[1]]
    words = (Segment("P", end - start) for start, end in zip([0, *ends], ends, strict=False))
    return tuple(s for pair in zip(words, (Segment("I", math.prod(t.shape[-2:])) for t in images), strict=True) for s in pair)


def lane(call: ModelCall, c: int) -> Lane:
    """A negative's words in each block."""
    size = [2 - n % 2 for n in call.x.shape[-2:]]  # the positions of references depend on the image's parity alone
    lanes, key = kept(call, c), (len(call.x), call.x.device, *size)
    if key not in lanes:
        encoded = call.negatives[c]
        image = call.x.new_zeros(*call.x.shape[:2], *size, dtype=call.base_model.get_dtype_inference())
        text, *references = (t.to(image) for name, t in encoded.items() if name != SLOTS)
        slots = encoded[SLOTS][0].tolist()
        lanes[key] = read(call, sequence(text, slots, [*references, image]), {"qwen_image21_cache": {"device": "off"}}, x=image,
                          context=text, timestep=image.new_zeros(len(image)), ref_latents=references, image_slots=slots)
    return lanes[key]
