"""HiDream-O1 (comfy/ldm/hidream_o1/model.py): a language model over [text][time][image][references]. Text is causal, never sees
the rest, and its keys and values are kept over the steps; time, image and references see all.

Each negative has a lane beside the sequence: its token ids are read as a prompt of their own, once a run, with the references
that its own conditioning brings. The time's token counts as image where it is read, and does not see the negatives.
"""
from __future__ import annotations

from itertools import groupby
from typing import Any

from comfy.ldm.hidream_o1.conditioning import build_extra_conds
from comfy.ldm.hidream_o1.model import IMAGE_TOKEN_ID, PATCH_SIZE
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.lanes import Lane, LaneLayout
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .lanes import kept, read

IDS, REFERENCE = "text_input_ids", "reference"


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """The token ids, and the references beside them; the text encoder gives no more."""
    if IDS not in prompt.options:
        raise ValueError(f"VSF: encode the negative with the text encoder (CLIP) of this model. Expected {IDS}, found none.")
    references = {f"{REFERENCE} {i}": t for i, t in enumerate(prompt.options.get("reference_latents") or ())}
    return {TEXT: prompt.tokens, IDS: prompt.options[IDS], **references}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    text = words(call.conds["input_ids"], call.conds["ar_len"])
    image = call.conds["vinput_mask"].shape[1] - call.conds["ar_len"] - 1
    lanes = tuple(lane(call, c) for c in range(len(tokens)))
    behind, asks = (Segment(c, next(iter(kv.values()))[0].shape[-2]) for c, kv in enumerate(lanes)), Segment("I", image)
    return [LaneLayout((*text, Segment("I", 1 + image), *behind), negatives, (Segment("P", 1), asks), lanes=lanes)]


def words(ids: Tensor, length: int) -> list[Segment]:
    """The first `length` tokens of (B, T): words, and what the model's vision makes of references."""
    seen = (token == IMAGE_TOKEN_ID for token in ids[0, :length].tolist())
    return [Segment("I" if is_seen else "P", len(list(run))) for is_seen, run in groupby(seen)]


def lane(call: ModelCall, c: int) -> Lane:
    """A negative's words in each block, read with one patch of image behind them."""
    lanes, key = kept(call, c), (call.x.shape, call.x.device)
    if key not in lanes:
        x, encoded = call.x.to(call.base_model.get_dtype_inference()), call.negatives[c]
        references = [t[:1] for name, t in encoded.items() if name.startswith(REFERENCE)]  # their size goes by the image's
        conds = build_extra_conds(encoded[IDS], x, ref_images=references)
        ids, length = conds["input_ids"].expand(len(x), -1), conds["ar_len"]
        vision = {k: conds.get(k) for k in ("ref_pixel_values", "ref_image_grid_thw")}
        lanes[key] = read(call, [*words(ids, length), Segment("I", 2)], {"patches_replace": {"dit": {"vsf_reads": None}}},
                          x=x.new_zeros(len(x), 3, PATCH_SIZE, PATCH_SIZE), timesteps=x.new_ones(len(x)), input_ids=ids,
                          position_ids=conds["position_ids"][..., :ids.shape[1] + 1], ar_len=length, **vision)
    return lanes[key]
