"""Whether a model can take a negative, to be said at its node; what cannot be known there is said at sampling (patch.py)."""
from __future__ import annotations

from typing import Any

import torch

from ..families import Family
from ..families.widths import text_width
from ..reading.conditioning import EIGHT_BITS, NegativePrompt
from ..reading.contexts import ContextPrompt

MOST = 1e9  # no text encoder comes near it, and beyond, logits of its square overflow float32 and the picture is NaN


def check_fit(prompt: NegativePrompt | ContextPrompt, family: Family, base_model: Any, repair: str) -> None:
    """Raise ValueError, for the user to read, for text tokens that this model cannot take. repair: what to do about values that
    are too large for it."""
    width, tokens = text_width(family, base_model), prompt.tokens
    if width not in (None, tokens.shape[-1]):
        raise ValueError(f"VSF: encode the negative with the text encoder (CLIP) of this model. Expected a negative of width "
                         f"{width}, as {type(base_model).__name__} takes, found {tokens.shape[-1]}.")
    most = min(MOST, torch.finfo(base_model.get_dtype_inference()).max)
    largest = float((tokens.float() if tokens.dtype in EIGHT_BITS else tokens).abs().max()) if tokens.numel() else 0.0
    if not largest <= most:  # NaN is not
        raise ValueError(f"VSF: {repair}. Expected values up to {most:g}, which this model can compute with, found "
                         f"{largest:g}.")
