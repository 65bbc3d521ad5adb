"""The identity that makes VSF cheap: attentions over disjoint keys, merged by their log-sum-exp.

For one query, with Z+ over the positive keys and Z- over the negative's, each with a softmax of its own,

    W = exp(lse+) / (exp(lse+) + m exp(lse- - beta)),      Z = W Z+ - alpha (1 - W) Z-

is the paper's attention (arXiv 2508.10931, section 3.2) without a mask and without touching the positive's attention.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class FlippedAttention(NamedTuple):
    """One negative's own attention, and how strongly it is subtracted.

    z: (B, H, L, D), softmax over the negative's keys alone. lse: (B, H, L), its log-sum-exp (natural logarithm).
    alpha >= 0: the scale. beta >= 0: subtracted from the negative's logits.
    region: (B or 1, L) in [0, 1], the share m of each query in the region the negative acts on; None is 1 everywhere.
    """
    z: Tensor
    lse: Tensor
    alpha: float
    beta: float
    region: Tensor | None = None


def merge_vsf(z: Tensor, lse: Tensor, negatives: Sequence[FlippedAttention]) -> Tensor:
    """Z = W Z+ - sum_c alpha_c W_c Z_c, where W and W_c share one softmax.

    z: (B, H, L, D) attention over the positive keys, lse: (B, H, L) its log-sum-exp. Returns (B, H, L, D) in z's dtype;
    the weights and the sum are taken in lse's dtype (fp32 or wider).
    """
    logits = [lse]
    for n in negatives:
        logit = n.lse - n.beta
        if n.region is not None:
            logit = logit + n.region.to(logit).log()[:, None, :]
        logits.append(logit)
    w = torch.softmax(torch.stack(logits), dim=0).unsqueeze(-1)
    out = w[0] * z
    for w_c, n in zip(w[1:], negatives, strict=True):
        out = out - (n.alpha * w_c) * n.z
    return out.to(z.dtype)


def merge(z_a: Tensor, lse_a: Tensor, z_b: Tensor, lse_b: Tensor) -> Tensor:
    """Plain attention over the union of two disjoint sets of keys. Shapes as in merge_vsf."""
    w = torch.sigmoid(lse_a - lse_b).unsqueeze(-1)
    return (w * z_a + (1 - w) * z_b).to(z_a.dtype)
