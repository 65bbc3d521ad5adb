"""MiniMax H3 and FastH3 (comfy/ldm/minimax/model.py): joint attention over [text][keyframes, references][audio][video] in
every block. All that follows the text counts as image, the audio too.
Text is refined before a run, each prompt by itself, and numbered along time; what follows it begins where it ends. The model
asks for all that in a plan of its sequence, a PackedLayout: it gets the positive's own plan, in which the negatives' tokens
stand behind the prompt and nothing else moves. The model takes one video at a time.
"""
from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .joint import append_text


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """What MiniMaxH3.extra_conds does."""
    tokens = prompt.tokens.to(base_model.device, base_model.get_dtype_inference())
    return {TEXT: base_model.diffusion_model.preprocess_text_embeds(tokens)}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    payload, length, more = call.conds["minimax_payload"], call.context.shape[1], sum(t.shape[1] for t in tokens)
    plan, text = _plan(call, payload), append_text(call, tokens)
    numbers = torch.arange(length, length + more) if call.positions is None else call.positions.taken[length:]
    plan = _lengthened(plan, length, numbers[:, None] * torch.tensor([1, 0, 0]))  # text is numbered along time alone
    payload = {k: v for k, v in payload.items() if k != "_text_token_tags_list"} | {"layout": plan}  # the list: in new models
    if "text_token_tags" in payload:
        payload["text_token_tags"] = torch.nn.functional.pad(payload["text_token_tags"].flatten(), (0, more), value=1)
    call.conds["minimax_payload"] = payload
    return [Layout((*text, Segment("I", None)), negatives)]


def _plan(call: ModelCall, payload: dict[str, Any]) -> Any:
    """The positive's plan, made anew as `_forward` does where the one from before the run does not fit the call."""
    video, audio = call.conds["latent_shapes"]
    signature = (call.context.shape[1], video[2], *(n + n % 2 for n in video[3:]), audio[-1])
    if (plan := payload.get("layout")) is not None and plan.signature == signature:
        return plan
    make = sys.modules[type(call.base_model.diffusion_model).__module__].PackedLayout
    return make(*signature, **{k: payload[k] for k in ("keyframes", "refs", "frame_count") if k in payload})


def _lengthened(plan: Any, length: int, positions: Tensor) -> Any:
    """A copy of a plan with more text behind its own, of `length`. positions: of what is new, (L, 3), (time, height, width)."""
    plan, more, (_, *others), ids = copy.copy(plan), len(positions), plan.segments, plan.position_ids
    plan.segments = [(0, length + more, "text"), *((start + more, stop + more, kind) for start, stop, kind in others)]
    plan.position_ids = torch.cat([ids[:length], positions.to(ids), ids[length:]])
    plan.img_pos, plan.audio_pos, plan.seq_len = plan.img_pos + more, plan.audio_pos + more, plan.seq_len + more
    plan.signature = (length + more, *plan.signature[1:])
    return plan
