"""A CONDITIONING input, made into negative prompts."""
from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .tokens import known_rows

log = logging.getLogger("vsf")

WORDS = "vsf_words"
"""Key that VSFTextEncode leaves in its conditioning: how many words' tokens it holds; 0 says that the text was empty."""

PER_ROW = ("attention_mask", "minimax_token_tags", "text_input_ids")
"""Options of a conditioning, (..., L), with one entry for each of its rows."""

MASKED_BY = {"conditioning_mt5xl": "attention_mask_mt5xl"}
"""Options, (..., L, C), that are a conditioning of their own, with the mask that comes beside them (HunyuanDiT)."""


@dataclass(frozen=True)
class NegativePrompt:
    """One negative and its settings. tokens: (1 or B, LN, C) text encoder output without padding.

    options: the rest of its CONDITIONING entry (masks, further encoders' outputs), for families that need more than tokens.
    """
    tokens: Tensor
    scale: float
    bias: float
    start_percent: float
    end_percent: float
    options: dict[str, Any] = field(default_factory=dict)


def negative_prompts(conditioning: list[tuple[Tensor, dict[str, Any]]], scale: float, bias: float, start_percent: float,
                     end_percent: float) -> list[NegativePrompt]:
    """One negative for each entry of a CONDITIONING; entries without words are left out.

    An entry's own time range (ConditioningSetTimestepRange, scheduled CLIP hooks) narrows start_percent..end_percent.
    Raises ValueError, for the user to read, for conditioning that cannot be used.
    """
    if not isinstance(conditioning, list) or not conditioning:
        raise ValueError("VSF: expected a CONDITIONING with at least one prompt in `negative`, found an empty one. "
                         "Connect VSF Text Encode.")
    prompts = []
    for tokens, options in conditioning:
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:
            found = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"VSF: expected text tokens (batch, tokens, width) in `negative`, found {found}. "
                             "Connect VSF Text Encode.")
        if not torch.isfinite(tokens).all():
            raise ValueError("VSF: `negative` has values that are not finite (NaN or infinity); the text encoder that made "
                             "it failed. Try it in another precision.")
        if used := {"area", "mask"} & options.keys():
            raise ValueError(f"VSF: `negative` is limited to a region ({', '.join(sorted(used))}), which is not supported "
                             "yet. Connect the prompt without it.")
        start = max(start_percent, *(options.get(k, 0.0) for k in ("start_percent", "clip_start_percent")))
        end = min(end_percent, *(options.get(k, 1.0) for k in ("end_percent", "clip_end_percent")))
        words, options = without_padding(tokens, options)
        if options.get(WORDS, words.shape[1]) and start < end:
            prompts.append(NegativePrompt(words, scale, bias, start, end, options))
    return prompts


def without_padding(tokens: Tensor, options: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The rows of (B, L, C) that are words, as far as the conditioning tells, and its options: LN = 0 for an empty prompt."""
    if WORDS in options:
        return tokens if options[WORDS] else tokens[:, :0], options
    rows = known_rows(tokens, options)
    if rows is None:
        log.warning("VSF: the negative comes from a text encoder node that keeps its padding (%d tokens), which weakens it. "
                    "Use VSF Text Encode for the negative.", tokens.shape[1])
        return tokens, options
    for name, mask in MASKED_BY.items():
        if name in options and mask in options:
            real = options[mask].ne(0).any(dim=0).cpu()
            options = {**options, name: keep(options[name], real, -2), mask: keep(options[mask], real, -1)}
    return keep_rows(tokens, options, rows)


def keep_rows(tokens: Tensor, options: dict[str, Any], rows: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """The given rows, (L,) bool, of a conditioning (..., L, C) and of every option that has one entry for each row."""
    alike = {name: keep(options[name], rows, -1) for name in PER_ROW
             if isinstance(options.get(name), Tensor) and options[name].shape[-1] == len(rows)}
    return keep(tokens, rows, -2), {**options, **alike}


def keep(tensor: Tensor, rows: Tensor, axis: int) -> Tensor:
    """The entries along an axis where rows, bool, is True."""
    return tensor.index_select(axis, rows.nonzero().flatten().to(tensor.device))
