"""The identity that makes VSF cheap: attentions over disjoint keys, merged by their log-sum-exp.

For one query, with Z+ over the positive keys and Z- over the negative's, each with a softmax of its own,

    W = exp(lse+) / (exp(lse+) + m exp(lse- - beta)),      Z = W Z+ - alpha (1 - W) Z-

is the paper's attention (arXiv 2508.10931, section 3.2) without a mask and without touching the positive's attention.
With N1's values, -alpha V, in place of the negative's own, Z- becomes -alpha Z- and Z is the plain merge of the two.
"""
from __future__ import annotations

import torch
from torch import Tensor


def flipped_lse(lse: Tensor, beta: float, region: Tensor | None = None) -> Tensor:
    """lse- - beta + log m, of N1's keys. lse: (B, H, L). region: the share m in [0, 1] of each query in the region that the
    negative acts on, (B or 1, L); None is 1 everywhere."""
    lse = lse - beta
    return lse if region is None else lse + region.to(lse).log()[:, None, :]


def merge(z_a: Tensor, lse_a: Tensor, z_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over the union of two disjoint sets of keys, and its log-sum-exp.

    z: (B, H, L, D), softmax over one set alone; lse: (B, H, L), natural logarithm, fp32 or wider. lse_b may be -inf.
    """
    w = torch.sigmoid(lse_b - lse_a).unsqueeze(-1).to(z_a.dtype)
    return torch.lerp(z_a, z_b, w), torch.logaddexp(lse_a, lse_b)


def merge_(z: Tensor, lse: Tensor, z_b: Tensor, lse_b: Tensor) -> None:
    """The same, written over z and lse: one pass over z, and no memory unless a gradient is wanted."""
    if z.requires_grad:
        z_ab, lse_ab = merge(z.clone(), lse.clone(), z_b, lse_b)
        z.copy_(z_ab)
        lse.copy_(lse_ab)
        return
    z.lerp_(z_b, torch.sigmoid(lse_b - lse).unsqueeze(-1).to(z.dtype))
    lse.copy_(torch.logaddexp(lse, lse_b))
