"""Lumina 2, NewBie, Z-Image with its Turbo, Omni and pixel-space forms (comfy/ldm/lumina/model.py): text refiners, then
joint attention over [text][SigLIP][references][image] in every block.

The image is numbered by the text's length, which Z-Image pads: the text cannot be lengthened. Each negative is embedded and
refined as a prompt of its own, numbered from 1, without padding; a context in the prompt's own place, with its padding and
among the references' captions. All are put before the whole sequence: model patches (Fun ControlNets) find the image where it
was. References count as image; no N in NewBie's pooled vector.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .objects import in_calls_with

NEGATIVES = "vsf_lumina_negatives"


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    patch, multiple = model.patch_size, model.pad_tokens_multiple or 1
    references, captions, siglip = (call.conds.get(k) or [] for k in ("ref_latents", "ref_contexts", "siglip_feats"))
    images = [-(-t.shape[-2] // patch) * -(-t.shape[-1] // patch) for t in (*references, call.x)]
    before, after = [], []
    if references:  # for each a caption, before the prompt, and SigLIP features, or a block of padding (1)
        before = [c.shape[1] for c in captions[:len(references)]] + [1] * (len(references) - len(captions))
        after = [c.shape[1] for c in captions[len(references):]]
        if model.siglip_embedder is not None:
            seen = [s.shape[1] * s.shape[2] for s in siglip[:len(references)]]
            after += seen + [1] * (len(references) + 1 - len(seen))  # and padding for the image
    before, after, image = (sum(n + -n % multiple for n in lengths) for lengths in (before, after, images))
    lanes = [call.in_prompts_place(t) if call.is_context(c) else (t, None) for c, t in enumerate(tokens)]
    call.options[NEGATIVES] = model, [(text, start if start is None else before + start, t.shape[1])
                                      for (text, start), t in zip(lanes, tokens, strict=True)]
    own = (Segment(c, t.shape[1]) for c, t in enumerate(tokens))
    text = call.prompt(call.context.shape[1])
    padding = Segment("B", -call.context.shape[1] % multiple)
    return [Layout((*own, Segment("B", before), *text, padding, Segment("B", after), Segment("I", image)), negatives)]


@in_calls_with(NEGATIVES)
def with_negatives(original: Callable[..., tuple], options: dict[str, Any], *args: Any, **kwargs: Any) -> tuple:
    """NextDiT.patchify_and_embed, with the negatives of a call before its sequence."""
    sequence, mask, image_sizes, text_lengths, rotations, noisy = original(*args, **kwargs)
    model, negatives = options[NEGATIVES]  # another node's patch may be the original
    refined, rotated = [], []
    for tokens, start, length in negatives:
        if start is None:
            (n, *_), (rotation, *_), _ = model.embed_cap(tokens.to(sequence), device=sequence.device)
            n, rotation = n[:, :tokens.shape[1]], rotation[:, :tokens.shape[1]]  # without the padding
            for layer in model.context_refiner:
                n = layer(n, None, rotation, transformer_options=options)
        else:  # with one patch of the image, and out of sight of patches of the image's refiner
            corner = args[0][..., :model.patch_size, :model.patch_size]
            apart = {**kwargs, "transformer_options": {**options, "patches": {}}}
            n, _, _, _, rotation, _ = original(corner, tokens.to(args[1]), *args[2:], **apart)
            n, rotation = (t[:, start:start + length] for t in (n, rotation))
        refined, rotated = [*refined, n], [*rotated, rotation]
    length = sum(n.shape[1] for n in refined)
    if noisy is not None:  # spans of this step's noise level; all else (references) is modulated as clean
        noisy = [(0, length), *((start + length, stop + length) for start, stop in noisy)]
    return (torch.cat([*refined, sequence], dim=1), mask, image_sizes, [n + length for n in text_lengths],
            torch.cat([*rotated, rotations], dim=1), noisy)


OBJECT_PATCHES = {"diffusion_model.patchify_and_embed": with_negatives}
