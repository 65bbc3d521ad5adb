"""OmniGen2 (comfy/ldm/omnigen/omnigen2.py) and Boogu (comfy/ldm/boogu/model.py).

The reference puts the negatives BEFORE the prompt and numbers every token by hand, in a hook on the rotary embedding; hooks on
the text refiner's blocks tell its attention from one over the image alone.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reference
import torch

from cases import Case


def _sizes(call: reference.RefCall) -> list[tuple[int, int]]:
    """Height and width in tokens: of the references, then of the image."""
    latents = [*(call.conds.get("ref_latents") or []), call.x]
    return [((t.shape[-2] + 1) // 2, (t.shape[-1] + 1) // 2) for t in latents]


def _lengthen(call: reference.RefCall) -> None:
    context = call.conds["c_crossattn"]
    own = [n.tokens.to(context).expand(len(call.x), -1, -1) for n in call.negatives]
    positive, negative = context.shape[1], sum(t.shape[1] for t in own)
    call.text = [positive, *(t.shape[1] for t in own)]
    call.conds["c_crossattn"] = torch.cat([*own, context], dim=1)
    call.conds["num_tokens"] = text = positive + negative
    rows = [(i, i, i) for i in (*range(positive, text), *range(positive))]
    start = positive
    for height, width in _sizes(call):
        rows += [(start, y, x) for y in range(height) for x in range(width)]
        start += max(height, width)
    images = [h * w for h, w in _sizes(call)]

    def number(rope: torch.nn.Module, args: tuple, out: tuple) -> tuple:
        hook.remove()
        freqs = rope.rope_embedder(torch.tensor(rows).expand(len(call.x), -1, -1)).movedim(1, 2)
        parts = freqs.split([text, sum(images[:-1]), images[-1]], dim=1)
        return *parts, freqs, *out[4:]

    hook = call.model.diffusion_model.rope_embedder.register_forward_hook(number)
    for block in call.model.diffusion_model.context_refiner:
        _mark(call, block)


def _mark(call: reference.RefCall, block: torch.nn.Module) -> None:
    """Note in the call's options whether this block is running, once."""
    def begin(*args: Any) -> None:
        call.options["in_refiner"] = True

    def end(*args: Any) -> None:
        call.options["in_refiner"] = False
        for hook in hooks:
            hook.remove()

    hooks = [block.register_forward_pre_hook(begin), block.register_forward_hook(end)]


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    text = "".join(str(c) * n for c, n in enumerate(call.text[1:])) + call.prompt(call.text[0])
    if call.options["in_refiner"]:
        return text, text
    letters = text + "I" * sum(h * w for h, w in _sizes(call))
    return (letters, letters) if keys == len(letters) else None


def _options(references: int) -> Callable[[int, int], dict[str, Any]]:
    def options(length: int, seed: int) -> dict[str, Any]:
        g = torch.Generator().manual_seed(seed)
        latents = [torch.randn(1, 16, 4 + i, 5 + i, generator=g) for i in range(references)]
        mask = torch.ones(1, length, dtype=torch.long)
        return {"attention_mask": mask, "reference_latents": latents} if references else {"attention_mask": mask}
    return options


_OMNIGEN2 = dict(image_model="omnigen2", hidden_size=96, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
                 num_kv_heads=1, multiple_of=16, axes_dim_rope=(16, 16, 16), text_feat_dim=24)
_BOOGU = dict(image_model="boogu", hidden_size=96, num_layers=1, num_double_stream_layers=2, num_refiner_layers=1,
              num_attention_heads=2, num_kv_heads=1, multiple_of=16, axes_dim_rope=(16, 16, 16), instruction_feat_dim=24)
_COMMON = dict(lengthen=_lengthen, kinds=_kinds, positions=True, no_mutants=frozenset())

CASES = [
    Case("omnigen2", "Omnigen2", _OMNIGEN2, (16, 7, 9), 24, options=_options(0), **_COMMON),
    Case("omnigen2-edit", "Omnigen2", _OMNIGEN2, (16, 8, 10), 24, options=_options(2), **_COMMON),
    Case("boogu", "Boogu", _BOOGU, (16, 8, 10), 24, options=_options(0), **_COMMON),
    Case("boogu-edit", "Boogu", _BOOGU, (16, 8, 10), 24, options=_options(1), **_COMMON),
]
