"""An independent VSF: dense masks, double precision, negatives AFTER the positive (the authors' order), every row alike.

It shares no code with the pack. It patches a model of its own in float64 and knows positive rows by cond_or_uncond.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import comfy.ldm.flux.math
import torch
from comfy.patcher_extension import WrappersMP

_apply_rope = comfy.ldm.flux.math.apply_rope


def _apply_rope_in_double(q, k, freqs):
    """ComfyUI's rotation kernels refuse float64: for it, rotate by hand; every other dtype is left to ComfyUI."""
    if q.dtype != torch.float64:
        return _apply_rope(q, k, freqs)
    f = freqs.double()
    return tuple((f[..., 0] * p[..., 0] + f[..., 1] * p[..., 1]).reshape(t.shape)
                 for t in (q, k) for p in [t.reshape(*t.shape[:-1], -1, 1, 2)])


comfy.ldm.flux.math.apply_rope = _apply_rope_in_double


@dataclass
class RefNegative:
    tokens: torch.Tensor  # (1, LN, C)
    alpha: float
    beta: float = 0.0
    active: Callable[[float], bool] = lambda sigma: True


def visible(query: str, key: str) -> bool:
    """DESIGN.md section 1, without N1. Kinds: P, I, N0, N1, ... (the number is the negative's)."""
    if query in "PI":
        return key in "PI"
    return key == "I" or key == query


def dense_attention(q, k, v, kinds: list[str], negatives: list[RefNegative], is_positive: list[bool]) -> torch.Tensor:
    """q, k, v: (B, H, L, D) -> (B, H, L, D), float64, one token kind a letter."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.empty_like(v)
    for b in range(q.shape[0]):
        for i, query in enumerate(kinds):
            logits, values = [], []
            for j, key in enumerate(kinds):
                s = (q[b, :, i] * k[b, :, j]).sum(-1) / math.sqrt(q.shape[-1])
                if is_positive[b]:
                    if visible(query, key):
                        logits.append(s)
                        values.append(v[b, :, j])
                    if query == "I" and key not in "PI":
                        n = negatives[int(key)]
                        logits.append(s - n.beta)
                        values.append(-n.alpha * v[b, :, j])
                elif key in "PI" or query not in "PI":  # a row without VSF: nobody sees the negatives
                    logits.append(s)
                    values.append(v[b, :, j])
            weights = torch.softmax(torch.stack(logits, dim=-1), dim=-1)
            out[b, :, i] = torch.einsum("hj,jhd->hd", weights, torch.stack(values))
    return out


def vectorised_attention(q, k, v, kinds, negatives, is_positive) -> torch.Tensor:
    """The same as dense_attention, by matrices: test_reference.py holds the two together."""
    q, k, v = q.double(), k.double(), v.double()
    all_kinds = list(kinds)
    keys, values = [k], [v]
    for c, n in enumerate(negatives):
        where = [j for j, kind in enumerate(kinds) if kind == str(c)]
        keys.append(k[:, :, where])
        values.append(-n.alpha * v[:, :, where])
        all_kinds += [f"flip{c}"] * len(where)

    def bias(positive: bool, query: str, key: str) -> float:
        if key.startswith("flip"):
            return -negatives[int(key[4:])].beta if positive and query == "I" else -math.inf
        if positive:
            return 0.0 if visible(query, key) else -math.inf
        return 0.0 if key in "PI" or query not in "PI" else -math.inf

    table = {(p, a, b): bias(p, a, b) for p in (True, False) for a in set(kinds) for b in set(all_kinds)}
    mask = torch.tensor([[[table[p, a, b] for b in all_kinds] for a in kinds] for p in is_positive], dtype=torch.float64)
    logits = q @ torch.cat(keys, 2).mT / math.sqrt(q.shape[-1]) + mask[:, None]
    return torch.softmax(logits, -1) @ torch.cat(values, 2)


def patch(model, *all_negatives: RefNegative, positive_index: int = 0):
    """A clone of a float64 ModelPatcher with the reference in it. positive_index: the positive's in cond_or_uncond."""
    patched = model.clone()

    def apply_model(executor, x, t, c_concat, context, control, options, **conds):
        chunks = options["cond_or_uncond"]
        is_positive = [index == positive_index for index in chunks for _ in range(len(x) // len(chunks))]
        negatives = [n for n in all_negatives if n.active(float(t[0]))]
        lp = context.shape[1]
        extra = [n.tokens.to(context).expand(len(x), -1, -1) for n in negatives]
        kinds = ["P"] * lp + [str(c) for c, n in enumerate(negatives) for _ in range(n.tokens.shape[1])]
        image = -(-x.shape[-2] // 2) * -(-x.shape[-1] // 2)

        def override(func, q, k, v, heads, mask=None, skip_reshape=False, **kwargs):
            assert mask is None
            if not skip_reshape:
                q, k, v = (a.reshape(a.shape[0], a.shape[1], heads, -1).transpose(1, 2) for a in (q, k, v))
            if q.shape[2] == image:  # SD3.5 Medium's image-only attention
                out = torch.softmax(q.double() @ k.double().mT / math.sqrt(q.shape[-1]), -1) @ v.double()
            else:
                all_kinds = kinds + ["I"] * (q.shape[2] - len(kinds))
                out = vectorised_attention(q, k, v, all_kinds, negatives, is_positive)
            return out.transpose(1, 2).flatten(2).to(q.dtype)

        options = {**options, "optimized_attention_override": override}
        return executor(x, t, c_concat, torch.cat([context, *extra], dim=1), control, options, **conds)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "reference", apply_model)
    return patched
