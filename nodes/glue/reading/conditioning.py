"""A CONDITIONING input, made into negative prompts."""
from __future__ import annotations

import logging
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import comfy.hooks
import torch
from torch import Tensor

from ....vsf_core.schedule import Blocks, Curve
from ..conditioning import CARRIED, WORDS
from ..said import say
from . import made
from .masks import EVERYWHERE, Region, of_conditioning
from .tokens import known_rows

log = logging.getLogger("vsf")

PER_ROW = ("attention_mask", "minimax_token_tags", "text_input_ids")
"""Options of a conditioning, (..., L), with one entry for each of its rows."""

MASKED_BY = {"conditioning_mt5xl": "attention_mask_mt5xl"}
"""Options, (..., L, C), that are a conditioning of their own, with the mask that comes beside them (HunyuanDiT)."""

STARTS, ENDS = ("start_percent", "clip_start_percent"), ("end_percent", "clip_end_percent")

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
EIGHT_BITS = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"))

CONNECT = {"negative": "VSF: connect VSF Text Encode to `negative`.",
           "context": "VSF: connect the prompt with the negative behind it, encoded as the prompt is, to `context`."}
"""How a message begins, by the input that it is about."""


@dataclass(frozen=True)
class NegativePrompt:
    """One negative and its settings. tokens: (1 or B, LN, C) text encoder output without padding.

    options: the rest of its CONDITIONING entry (masks, further encoders' outputs), for families that need more than tokens.
    node: the id of the node in the graph that it comes from, which shows what it did. curve: what its scale is times over the
    sampling; blocks: those of the model in which it acts, None for all. region: where in the
    picture it acts. told: what the node has said before the run, and says again after it; name: what to call it there. carried:
    whether it is that of the conditionings alone that carry it (CARRIED).
    """
    tokens: Tensor
    scale: float
    bias: float
    start_percent: float
    end_percent: float
    options: dict[str, Any] = field(default_factory=dict)
    node: str | None = None
    curve: Curve | None = None
    blocks: Blocks | None = None
    region: Region = EVERYWHERE
    told: str = ""
    name: str = ""
    carried: bool = False


def negative_prompts(conditioning: list[tuple[Tensor, dict[str, Any]]], scale: float, bias: float, start_percent: float,
                     end_percent: float, padded: bool = True, node: str | None = None,
                     region: Region = EVERYWHERE, of: str = "negative") -> list[NegativePrompt]:
    """One negative for each entry of a CONDITIONING; entries that are off are left out, and the node says why.

    An entry's own time range (ConditioningSetTimestepRange, scheduled CLIP hooks) narrows start_percent..end_percent, and its
    strengths (ConditioningSetAreaStrength, of an area, of a mask) multiply the scale. Its area and its mask narrow `region`.
    padded: as in `without_padding`; of: the input that it comes from.
    Raises ValueError, for the user to read, for conditioning that cannot be used.
    """
    if not isinstance(conditioning, list | tuple) or not conditioning:
        found = "an empty one" if not conditioning else type(conditioning).__name__
        raise ValueError(f"{CONNECT[of]} Expected a CONDITIONING with at least one prompt, found {found}.")
    prompts = []
    for entry in conditioning:
        tokens, options = _checked(entry, of)
        start = max(start_percent, *(_number(options, k, 0.0, of) for k in STARTS))
        end = min(end_percent, *(_number(options, k, 1.0, of) for k in ENDS))
        strength = _number(options, "strength", 1.0, of)
        strength *= _number(options, "mask_strength", 1.0, of) if "mask" in options else 1.0
        where = region.within(of_conditioning(options))
        words, options = without_padding(tokens, options, padded)
        has_words = words.shape[1] or (not tokens.shape[1] and options.get(WORDS))  # HiDream's may all be Llama's
        if has_words and start < end and strength and not where.why_off:
            prompts.append(NegativePrompt(words, scale * strength, bias, start, end, options, node, region=where))
        else:
            why = "it has no words" if not has_words else "its strength is 0" if not strength else where.why_off or (
                f"it would act from {start:g} to {end:g}")
            say(node, f"off: {why}")
    return prompts


def _checked(entry: Any, of: str) -> tuple[Tensor, dict[str, Any]]:
    """The tokens, (B, L, C) in a type to compute with, and the options of an entry. Raises ValueError for the user to read."""
    if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[1], dict):
        raise ValueError(f"{CONNECT[of]} Expected prompts of text tokens and options, found {_shape(entry)}.")
    tokens, options = entry[:2]
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or not len(tokens) or not tokens.shape[2]:
        raise ValueError(f"{CONNECT[of]} Expected text tokens (batch, tokens, width), none of them 0 but tokens, found "
                         f"{_shape(tokens)}.")
    if tokens.is_meta or tokens.layout is not torch.strided or tokens.dtype not in FLOATS + EIGHT_BITS:
        kind = "without values (meta)" if tokens.is_meta else f"in {tokens.dtype}, {tokens.layout}"
        raise ValueError(f"{CONNECT[of]} Expected text tokens of floating-point numbers, found tokens {kind}.")
    tokens = tokens.float() if tokens.dtype in EIGHT_BITS else tokens  # exact; torch computes nothing in 8 bits
    if not torch.isfinite(tokens).all():
        raise ValueError(f"VSF: encode `{of}` in another precision; the text encoder that made it failed. Expected finite "
                         "values, found some that are not finite (NaN or infinity).")
    if CARRIED in options:
        raise ValueError(f"{CONNECT[of]} Expected text tokens alone, found a prompt that brings negatives of its own: VSF "
                         "Conditioning is for a `positive` input.")
    if hooks := [type(hook).__name__ for hook in _hooks_on_the_model(options.get("hooks"))]:
        raise ValueError(f"VSF: take the hooks off `{of}` (apply_to_conds in Set CLIP Hooks), or set their strength_model "
                         "to 0. Expected hooks on the text encoder alone, which have acted already, found hooks on the model "
                         f"({', '.join(hooks)}): a negative is read in the positive prompt's call of the model, with that "
                         "prompt's hooks.")
    if not isinstance(options.get(WORDS, 0), int) or options.get(WORDS, 0) < 0:
        raise ValueError(f"{CONNECT[of]} Expected a number of words in {WORDS}, found {options[WORDS]!r}.")
    return tokens, options


def _shape(found: Any) -> str:
    return str(tuple(found.shape)) if isinstance(found, Tensor) else type(found).__name__


def _number(options: dict[str, Any], name: str, default: float, of: str) -> float:
    value = options.get(name, default)
    # typeshed's Real has no order
    if not isinstance(value, Real) or not 0.0 <= value < float("inf"):  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"VSF: set `{name}` of the prompt in `{of}` to a number from 0. Expected one, found {value!r}.")
    return float(value)


def _hooks_on_the_model(hooks: Any) -> list[Any]:
    """Those of a HookGroup (comfy/hooks.py) that change the model while it samples, and not the text encoder alone."""
    return [hook for hook in (getattr(hooks, "hooks", None) or ())
            if not isinstance(hook, comfy.hooks.WeightHook) or hook._strength_model]


def without_padding(tokens: Tensor, options: dict[str, Any], padded: bool = True) -> tuple[Tensor, dict[str, Any]]:
    """The rows of (B, L, C) that are words, as far as the conditioning tells, and its options: LN = 0 for an empty prompt.

    padded: whether the text encoders of this model pad; where they do not, there is nothing to warn of.
    """
    rows = rows_of_words(tokens, options)
    if rows is None:
        if padded:
            log.warning("VSF: use VSF Text Encode for the negative. It comes from a text encoder node that keeps its padding "
                        "(%d tokens), which weakens it.", tokens.shape[1])
        return tokens, options
    for name, mask in MASKED_BY.items():
        if WORDS not in options and name in options and mask in options:
            real = options[mask].ne(0).any(dim=0).cpu()
            options = {**options, name: keep(options[name], real, -2), mask: keep(options[mask], real, -1)}
    return keep_rows(tokens, options, rows)


def rows_of_words(tokens: Tensor, options: dict[str, Any]) -> Tensor | None:
    """Which rows of (B, L, C) are words, (L,) bool; None where nothing tells.

    What other nodes do to VSF Text Encode's rows (ComfyUI's nodes.py): Multiply and Average change them where they stand, so
    that they are still words; ZeroOut makes them zeros, which are none; Concat puts rows behind them, which are words if VSF
    Text Encode made them, or puts them behind its first input's. Rows beside them of which nothing is known are left out:
    padding among them would drown the words.
    """
    said, length = options.get(WORDS), tokens.shape[1]
    if said is None:
        if (rows := known_rows(tokens, options)) is not None:
            return rows
        joined, empty = made.find(tokens, start=1)  # the first input's rows are not ours
        if not joined.any():
            return None
    else:
        joined, empty = made.find(tokens, start=min(said, length))
    there = tokens.ne(0).any(dim=-1).any(dim=0).cpu()
    words = there & (joined | (torch.arange(length) < (said or 0)))
    unknown = int((there & ~words & ~empty).sum())
    if unknown and (words.any() or empty.any()):
        log.warning("VSF: encode all of the negative with VSF Text Encode. %d of its %d tokens come from another node, which "
                    "may have padding among them, and are left out.", unknown, length)
    return words


def keep_rows(tokens: Tensor, options: dict[str, Any], rows: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """The given rows, (L,) bool, of a conditioning (..., L, C) and of every option that has one entry for each row."""
    alike = {name: keep(options[name], rows, -1) for name in PER_ROW
             if isinstance(options.get(name), Tensor) and options[name].ndim and options[name].shape[-1] == len(rows)}
    return keep(tokens, rows, -2), {**options, **alike}


def keep(tensor: Tensor, rows: Tensor, axis: int) -> Tensor:
    """The entries along an axis where rows, bool, is True."""
    return tensor.index_select(axis, rows.nonzero().flatten().to(tensor.device))
