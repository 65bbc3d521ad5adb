"""Lumina 2, NewBie, Z-Image with its Turbo, Omni and pixel-space forms (comfy/ldm/lumina/model.py): text refiners, then
joint attention over [text][SigLIP][references][image] in every block.

The image is numbered by the text's length, which Z-Image pads: the text cannot be lengthened. Each negative is embedded and
refined as a prompt of its own, numbered from 1, without padding; a context in the prompt's own place, with its padding and
among the references' captions. All are put before the whole sequence: model patches (Fun ControlNets) find the image where it
was. References count as image; no N in NewBie's pooled vector.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .lumina_lanes import NEGATIVES, with_negatives


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


OBJECT_PATCHES = {"diffusion_model.patchify_and_embed": with_negatives}
