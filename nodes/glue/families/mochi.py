"""Mochi (comfy/ldm/genmo/joint_model/asymm_models_joint.py): joint attention over [video][text] in every block.

Of the text, only the first `num_tokens` take part, all that the mask counts: the negatives stand between these and the
padding. The text has no positions. Its mask hides the negatives from the pooling of T5's tokens, which they cannot reach.
"""
from __future__ import annotations

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    text, mask = call.context, call.conds["attention_mask"]
    words = min(call.conds["num_tokens"], text.shape[1])
    unseen = mask.new_zeros(len(mask), sum(t.shape[1] for t in tokens))
    call.context = torch.cat([text[:, :words], *tokens, text[:, words:]], dim=1)
    call.conds["attention_mask"] = torch.cat([mask[:, :words], unseen, mask[:, words:]], dim=1)
    call.conds["num_tokens"] = words + unseen.shape[1]
    own = (Segment(c, t.shape[1]) for c, t in enumerate(tokens))
    return [Layout((Segment("I", None), *call.prompt(words), *own), negatives)]
