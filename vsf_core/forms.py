"""VSF attention over a layout, in two exact forms.

merged         the positive's attention as the model makes it, the negative's few keys apart, joined by log-sum-exp.
concatenated   the paper's equation: one attention per group of queries, N1 beside the keys that the group may see. For
               backends that tell no log-sum-exp; beta becomes a key-wise bias of shape [1, 1, 1, Lk].

q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D), after RoPE, in the layout's order; the result is (B, H, Lq, D). Both leave P's
rows and, but for the flipped copies, I's exactly as the model has them without a negative. In joint attention a negative's
own tokens see themselves and the image; in a text refiner, themselves; in cross-attention there are none among the queries.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .layout import Layout, Role, Spans, take
from .merge import FlippedAttention, merge, merge_vsf

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(q, k, v, additive mask or None) -> z"""
LSEAttention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(q, k, v) -> z, lse"""


def _of(spans: Spans, *roles: Role) -> list[slice]:
    return [s for role, s in spans if role in roles]


def _within_positive(spans: Spans) -> Spans:
    """The same tokens, counted in a sequence that has P and I alone."""
    inside: Spans = []
    at = 0
    for role, s in spans:
        if role in ("P", "I"):
            inside.append((role, slice(at, at + s.stop - s.start)))
            at += s.stop - s.start
    return inside


def _assemble(rows: Spans, parts: dict[Role, Tensor]) -> Tensor:
    """Put each role's rows back into the order of the sequence."""
    if len(rows) == 1:
        return parts[rows[0][0]]
    taken = dict.fromkeys(parts, 0)
    out = []
    for role, s in rows:
        start, taken[role] = taken[role], taken[role] + s.stop - s.start
        out.append(parts[role][..., start:taken[role], :])
    # joined as (B, L, H, D): the caller's reshape to (B, L, H*D) is then a view
    return torch.cat([o.transpose(1, 2) for o in out], dim=1).transpose(1, 2)


def vsf_attention_merged(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: LSEAttention) -> Tensor:
    """Z = W Z+ - alpha (1-W) Z- on the image rows; small attentions for each negative's own rows."""
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    positive_cols = _of(cols, "P", "I")
    z, lse = attend(take(q, _of(rows, "P", "I")), take(k, positive_cols), take(v, positive_cols))

    inside = _within_positive(rows)
    image_rows, image_cols = _of(rows, "I"), _of(cols, "I")
    q_image, k_image, v_image = take(q, image_rows), take(k, image_cols), take(v, image_cols)

    flipped, parts = [], {}
    for c, n in enumerate(layout.negatives):
        k_n, v_n = take(k, _of(cols, c)), take(v, _of(cols, c))
        if image_rows:
            flipped.append(FlippedAttention(*attend(q_image, k_n, v_n), n.alpha, n.beta, n.region))
        if own_rows := _of(rows, c):
            q_n = take(q, own_rows)
            z_n, lse_n = attend(q_n, k_n, v_n)
            parts[c] = merge(z_n, lse_n, *attend(q_n, k_image, v_image)) if image_cols else z_n

    if image_inside := _of(inside, "I"):
        lse_image = take(lse.unsqueeze(-1), image_inside).squeeze(-1)
        parts["I"] = merge_vsf(take(z, image_inside), lse_image, flipped)
    if text_inside := _of(inside, "P"):
        parts["P"] = take(z, text_inside)
    return _assemble(rows, parts)


def vsf_attention_concatenated(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention,
                               mask: Tensor | None = None) -> Tensor:
    """The paper's equation by groups of queries, each with the keys it may see.

    mask: the model's own, additive or boolean (True = visible), broadcastable over (B, H, Lq, Lk) of the sequence as the
    model knows it: with the negatives' tokens, or without them. Regions need the merged form.
    """
    if any(n.region is not None for n in layout.negatives):
        raise ValueError("a region needs the merged form: here it would cost a mask of Lq x Lk")
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    positive, image = _of(cols, "P", "I"), _of(cols, "I")
    k_pos, v_pos, k_image, v_image = take(k, positive), take(v, positive), take(k, image), take(v, image)
    mask = _positive_mask(mask, q, k, rows, cols)

    parts: dict[Role, Tensor] = {}
    keys, values, bias = [k_pos], [v_pos], [q.new_zeros(k_pos.shape[-2])]
    for c, n in enumerate(layout.negatives):
        k_n, v_n = take(k, _of(cols, c)), take(v, _of(cols, c))
        if own_rows := _of(rows, c):
            parts[c] = attend(take(q, own_rows), torch.cat([k_n, k_image], -2), torch.cat([v_n, v_image], -2), None)
        keys.append(k_n)
        values.append(-n.alpha * v_n)
        bias.append(q.new_full(k_n.shape[-2:-1], -n.beta))

    if image_rows := _of(rows, "I"):
        image_mask = None
        if mask is not None or any(n.beta for n in layout.negatives):
            image_mask = torch.cat(bias)[None, None, None, :]
            if mask is not None:
                own = _mask_rows(mask, rows, "I")
                image_mask = torch.nn.functional.pad(own, (0, image_mask.shape[-1] - own.shape[-1])) + image_mask
        parts["I"] = attend(take(q, image_rows), torch.cat(keys, -2), torch.cat(values, -2), image_mask)
    if text_rows := _of(rows, "P"):
        parts["P"] = attend(take(q, text_rows), k_pos, v_pos, None if mask is None else _mask_rows(mask, rows, "P"))
    return _assemble(rows, parts)


def _positive_mask(mask: Tensor | None, q: Tensor, k: Tensor, rows: Spans, cols: Spans) -> Tensor | None:
    """The model's mask as (B or 1, H or 1, P+I or 1, P+I), additive, in q's dtype."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = q.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)
    mask = mask.to(q.dtype)
    while mask.ndim < 4:
        mask = mask.unsqueeze(0 if mask.ndim < 3 else 1)
    if mask.shape[-1] == k.shape[-2]:
        mask = take(mask.mT, _of(cols, "P", "I")).mT
    if mask.shape[-2] == q.shape[-2]:
        mask = take(mask, _of(rows, "P", "I"))
    return mask


def _mask_rows(mask: Tensor, rows: Spans, wanted: Role) -> Tensor:
    """The mask's rows of one role; a mask that is the same for all rows stays one row."""
    if mask.shape[-2] == 1:
        return mask
    return take(mask, _of(_within_positive(rows), wanted))
