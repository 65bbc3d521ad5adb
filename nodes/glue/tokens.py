"""Which rows of a text encoder's output are words, and which are padding.

The rule is ComfyUI's own (comfy/sd1_clip.py, SDClipModel.process_tokens): a section of tokens is real up to and
including its first end token, or, for encoders without one, up to its first pad.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Sections = list[list[tuple[Any, float]]]
"""What clip.tokenize gives for one encoder: sections of (token, weight); a token is an int or an embedding."""


def real_tokens(section: list[tuple[Any, float]], special_tokens: dict[str, int]) -> list[bool]:
    """For each token of one section: is it a word, a start or an end token (and not padding)?"""
    end = special_tokens.get("end")
    stop = special_tokens.get("pad", -1) if end is None else end
    real, ended = [], False
    for token, *_ in section:
        is_stop = isinstance(token, int) and token == stop
        real.append(not ended and not (is_stop and end is None))
        ended = ended or is_stop
    return real


def _rows(sections: Sections, encoder: Any) -> Tensor:
    return torch.tensor([r for s in sections for r in real_tokens(s, encoder.special_tokens)], dtype=torch.bool)


def _sd3_rows(encoder: Any, tokens: dict[str, Sections]) -> Tensor:
    """SD3ClipModel: [CLIP-L and G side by side, cut to the shorter][T5]; any of the three may be absent."""
    parts = []
    clips = [_rows(tokens[key], clip) for key, clip in (("l", encoder.clip_l), ("g", encoder.clip_g)) if clip is not None]
    if clips:
        length = min(map(len, clips))
        parts.append(torch.stack([c[:length] for c in clips]).any(dim=0))
    if encoder.t5xxl is not None:
        parts.append(_rows(tokens["t5xxl"], encoder.t5xxl))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)


def _flux_rows(encoder: Any, tokens: dict[str, Sections]) -> Tensor:
    """FluxClipModel: T5 alone; CLIP-L only gives the pooled vector."""
    return _rows(tokens["t5xxl"], encoder.t5xxl)


# class name in the text encoder's MRO -> rows of its output that are real
LAYOUTS: dict[str, Callable[[Any, dict[str, Sections]], Tensor]] = {
    "SD3ClipModel": _sd3_rows,
    "FluxClipModel": _flux_rows,
}


def real_rows(clip: Any, tokens: dict[str, Sections]) -> Tensor | None:
    """For each row of the encoder's output, whether it is a word: (L,) bool. None where the layout is not known.

    clip: ComfyUI CLIP; tokens: what clip.tokenize gave. An encoder of one model is read without an entry in LAYOUTS.
    """
    encoder = clip.cond_stage_model
    for cls in type(encoder).__mro__:
        if cls.__name__ in LAYOUTS:
            return LAYOUTS[cls.__name__](encoder, tokens)
    if len(tokens) == 1:
        (key, sections), = tokens.items()
        single = getattr(encoder, key, getattr(encoder, f"clip_{key}", None))
        if hasattr(single, "special_tokens"):
            return _rows(sections, single)
    return None
