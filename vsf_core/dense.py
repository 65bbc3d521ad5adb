"""The paper's attention written out with a dense mask: slow, readable, the reference for everything else.

    query \\ key   I     P     N0    N1 (N0's keys, N0's values * -alpha)
    I             yes   yes   no    yes, with -beta + log m
    P             yes   yes   no    no
    N0            yes   no    yes   no

Each further negative's N0 sees itself and I only; N1 is never a query.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from .layout import Layout


def mmdit_mask(layout: Layout, queries: int, keys: int) -> Tensor:
    """Additive mask of one joint attention.

    Returns (B or 1, queries, keys + sum of N1), float64: 0 visible, -inf hidden, -beta_c + log m for the flipped
    copies, which stand after the sequence, negative by negative. B is that of the regions, else 1.
    """
    rows, cols = layout.query_spans(queries), layout.key_spans(keys)
    batch = max([n.region.shape[0] for n in layout.negatives if n.region is not None], default=1)
    mask = torch.full((batch, queries, keys), -math.inf, dtype=torch.float64)
    for row_role, row in rows:
        for col_role, col in cols:
            both_positive = row_role in ("P", "I") and col_role in ("P", "I")
            if both_positive or row_role == col_role or (isinstance(row_role, int) and col_role == "I"):
                mask[:, row, col] = 0.0

    image_rows = [row for role, row in rows if role == "I"]
    flipped = []
    for c, n in enumerate(layout.negatives):
        tokens = sum(col.stop - col.start for role, col in cols if role == c)
        columns = torch.full((batch, queries, tokens), -math.inf, dtype=torch.float64)
        at = 0
        for row in image_rows:
            size = row.stop - row.start
            log_m = 0.0 if n.region is None else n.region[:, at:at + size, None].double().log().cpu()
            columns[:, row, :] = log_m - n.beta
            at += size
        flipped.append(columns)
    return torch.cat([mask, *flipped], dim=-1)


def vsf_attention_dense(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float | None = None) -> Tensor:
    """VSF attention by one softmax under mmdit_mask, in double precision.

    q: (B, H, Lq, D); k, v: (B, H, Lk, D). Returns (B, H, Lq, D), float64.
    """
    q, k, v = q.double(), k.double(), v.double()
    keys, values = [k], [v]
    for c, n in enumerate(layout.negatives):
        for role, col in layout.key_spans(k.shape[-2]):
            if role == c:
                keys.append(k[..., col, :])
                values.append(-n.alpha * v[..., col, :])
    mask = mmdit_mask(layout, q.shape[-2], k.shape[-2]).to(q.device)
    logits = q @ torch.cat(keys, dim=-2).mT * (scale or q.shape[-1] ** -0.5)
    return torch.softmax(logits + mask[:, None], dim=-1) @ torch.cat(values, dim=-2)
