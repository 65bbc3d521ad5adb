"""ACE-Step 1.5 (comfy/ldm/ace/ace_step15.py): cross-attention of the sound with [lyrics][timbre][text]. ComfyUI's override
does not see it.

The text has no positions; lyrics are numbered in an encoder of their own. A negative has no lyrics: those of its text encoder
node are not used. It cannot reach the audio codes that a language model composes from the prompt.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout
from . import ModelCall, Settings, unseen
from .cross import cross_text

OBJECT_PATCHES = unseen.patches("diffusion_model.decoder.layers.*.cross_attn")


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    if call.conds.get("replace_with_null_embeds"):
        raise ValueError("VSF: connect another positive prompt, or bypass the VSF node. Expected one with words, found one "
                         "that is all zeros: ACE-Step 1.5 then takes no text at all.")
    unseen.show(call)
    sound = -(-call.x.shape[-1] // call.base_model.diffusion_model.decoder.patch_size)
    timbre = len(call.x)  # of each row of the batch, in every row (AceStepTimbreEncoder.unpack_timbre_embeddings)
    return cross_text(call, tokens, negatives, taken={sound}, before=call.conds["lyric_embed"].shape[1] + timbre)
