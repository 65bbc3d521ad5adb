"""Attention with negatives written out with dense masks: slow, readable, the reference for everything else.

    query \\ key   I     P     B     N0    N1 (N0's keys, N0's values * -alpha)   C
    I             yes   yes   yes   no    yes, with -beta + log m               no
    P, B          yes   yes   yes   no    no                                    no
    N0            yes   no    no    yes   no                                    no
    C             yes   no    yes   no    no                                    yes

N0: a negative by the paper's rule; each further one's sees itself and I only; N1 is never a query. C: a context, each of
which sees itself, B and I. What the contexts take from the image's rows is computed beside it, by two whole attentions.
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
    paper = [(c, n) for c, n in layout.paper.items() if c not in layout.resting]
    batch = max([n.region.shape[0] for _, n in paper if n.region is not None], default=1)
    mask = torch.full((batch, queries, keys), -math.inf, dtype=torch.float64)
    for row_role, row in rows:
        for col_role, col in cols:
            if _sees(layout, row_role, col_role):
                mask[:, row, col] = 0.0

    image_rows = [row for role, row in rows if role == "I"]
    flipped: list[Tensor] = []
    for c, n in paper:
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


def _sees(layout: Layout, query: str | int, key: str | int) -> bool:
    if not isinstance(query, int):
        return not isinstance(key, int)
    return key in (query, "I") or (key == "B" and query in layout.contexts)


def vsf_attention_dense(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float | None = None,
                        mask: Tensor | None = None) -> Tensor:
    """Attention with the layout's negatives, in double precision: the paper's by one softmax under mmdit_mask, less the
    contexts' push.

    q: (B, H, Lq, D); k, v: (B, H, Lk, D); mask: the model's own, added to the logits, broadcastable over (B, H, Lq, Lk); what
    it says of the negatives' rows and columns must be what it is to mean there. Returns (B, H, Lq, D), float64.
    """
    q, k, v = q.double(), k.double(), v.double()
    logits = q @ k.mT * (scale or q.shape[-1] ** -0.5) + (0.0 if mask is None else mask.double())
    flipped: list[Tensor] = []
    values = [v]
    for c, n in layout.paper.items():
        for role, col in layout.key_spans(k.shape[-2]):
            if role == c and c not in layout.resting:
                flipped.append(logits[..., col])
                values.append(-n.alpha * v[..., col, :])
    seen = mmdit_mask(layout, q.shape[-2], k.shape[-2]).to(q.device)
    z = torch.softmax(torch.cat([logits, *flipped], dim=-1) + seen[:, None], dim=-1) @ torch.cat(values, dim=-2)
    if layout.without(layout.resting).contexts and layout.has_image_queries:
        image = [i for role, row in layout.query_spans(q.shape[-2]) if role == "I" for i in range(row.start, row.stop)]
        z[..., image, :] -= context_push_dense(logits[..., image, :], v, layout)
    return z


def context_push_dense(logits: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """The push of the context rule, from two whole branches over one image: the picture with the prompt, and the picture with
    the context in its place. Written from the formula; shares no code with contrast.py.

        Z+ = softmax over P, B, I        D_c = softmax over N_c, B, I - Z+
        T_c = f m_c min(6 strength_c, |Z+| / |D_c|) D_c
        push = min(1, max_c |T_c| / |sum_c T_c|) sum_c T_c           |.|: over the channels of all heads of a token

    logits: (B, H, image rows, Lk), v: (B, H, Lk, D), float64. Returns (B, H, image rows, D).
    """
    kinds = [role for role, s in layout.key_spans(v.shape[-2]) for _ in range(s.stop - s.start)]

    def branch(words: str | int) -> Tensor:
        keys = [j for j, kind in enumerate(kinds) if kind in (words, "B", "I")]
        if isinstance(words, int):
            own = [j for j in keys if kinds[j] == words]
            keys = [j for j in keys if j not in own[len(own) // layout.contexts[words].copies:]]
        return torch.softmax(logits[..., keys], dim=-1) @ v[..., keys, :]

    def size(x: Tensor) -> Tensor:
        return x.square().sum(dim=-1).sum(dim=1).sqrt()[:, None, :, None]

    plus = branch("P")
    pushes: list[Tensor] = []
    for c, n in layout.contexts.items():
        if c not in layout.resting:
            difference = branch(c) - plus
            stretch = torch.minimum(torch.as_tensor(6.0 * n.strength, dtype=torch.float64), size(plus) / size(difference))
            stretch[size(difference) == 0] = 0.0
            fade = torch.as_tensor(n.fade, dtype=torch.float64, device=v.device).reshape(-1, 1, 1, 1)
            region = torch.ones(1, 1, dtype=torch.float64, device=v.device) if n.region is None else n.region.double()
            pushes.append(fade * region[:, None, :, None] * stretch * difference)
    total = torch.stack(pushes).sum(dim=0)
    longest = torch.stack([size(t) for t in pushes]).amax(dim=0)
    limit = torch.where(size(total) > longest, longest / size(total), 1.0)
    return limit * total
