"""VSF attention over a layout, in two exact forms.

merged         the model's own attention over the positive keys, joined by log-sum-exp with the negatives' few keys.
concatenated   the paper's equation: one attention per group of queries, N1 among the keys that the image may see. For
               backends that tell no log-sum-exp; beta becomes a key-wise bias of shape [1, 1, 1, Lk].

q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D), after RoPE, in the layout's order; the result is (B, H, Lq, D). Both leave P's
rows and, but for the flipped copies, I's exactly as the model has them without a negative. In joint attention a negative's
own tokens see themselves and the image; in a text refiner, themselves; in cross-attention there are none among the queries.

Neither copies keys, values or the result where the positive tokens adjoin: FEW rows of negatives ride along in the main
attention and are written over; the image's attention to a negative is merged CHUNK values at a time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .layout import Layout, Role, Spans, take
from .merge import flipped_lse, merge, merge_

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(q, k, v, additive mask or None) -> z"""
LSEAttention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(q, k, v) -> z, lse; both its own, to be written over"""

FEW = 64  # rows; more of them cost more than a copy of the result
CHUNK = 2**24  # values of an attention over a negative's keys: 32 MiB in half precision, enough to keep a GPU busy
CHUNK_ON_CPU = 2**20  # 4 MiB in single precision: merged while it is in the processor's cache


def _of(spans: Spans, *roles: Role) -> list[slice]:
    return [s for role, s in spans if role in roles]


def _negatives(spans: Spans) -> list[slice]:
    return [s for role, s in spans if isinstance(role, int)]


def _within_positive(spans: Spans) -> Spans:
    """The same tokens, counted in a sequence that has P and I alone."""
    inside: Spans = []
    at = 0
    for role, s in spans:
        if role in ("P", "I"):
            inside.append((role, slice(at, at + s.stop - s.start)))
            at += s.stop - s.start
    return inside


def _empty_like(q: Tensor) -> Tensor:
    """Room for a result, laid out as (B, L, H, D): the caller's reshape to (B, L, H*D) is then a view."""
    return q.transpose(1, 2).new_empty(q.transpose(1, 2).shape).transpose(1, 2)


def _chunks(q: Tensor, spans: list[slice]) -> Iterator[tuple[slice, slice]]:
    """Parts of the spans of queries with at most CHUNK values; and where each is if the spans are joined."""
    size, joined = max((CHUNK_ON_CPU if q.device.type == "cpu" else CHUNK) // q[..., 0, :].numel(), 1), 0
    for s in spans:
        for start in range(s.start, s.stop, size):
            stop = min(start + size, s.stop)
            yield slice(start, stop), slice(joined, joined + stop - start)
            joined += stop - start


def _positive_attention(q: Tensor, k: Tensor, v: Tensor, rows: Spans, cols: Spans,
                        attend: LSEAttention) -> tuple[Tensor, Tensor]:
    """Attention over P and I, for every query; what stands in the negatives' rows means nothing."""
    k, v = take(k, _of(cols, "P", "I")), take(v, _of(cols, "P", "I"))
    if sum(s.stop - s.start for s in _negatives(rows)) <= FEW:
        z, lse = attend(q, k, v)
        return (z.clone(), lse.clone()) if z.requires_grad else (z, lse)  # autograd keeps what a kernel gives
    z, lse = _empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.promote_types(q.dtype, torch.float32))
    z_positive, lse_positive = attend(take(q, _of(rows, "P", "I")), k, v)
    for (_, s), (_, inside) in zip([r for r in rows if r[0] in ("P", "I")], _within_positive(rows), strict=True):
        z[..., s, :], lse[..., s] = z_positive[..., inside, :], lse_positive[..., inside]
    return z, lse


def vsf_attention_merged(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: LSEAttention) -> Tensor:
    """Z = W Z+ - alpha (1-W) Z- on the image rows; small attentions for each negative's own rows."""
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    z, lse = _positive_attention(q, k, v, rows, cols, attend)
    image = _of(cols, "I")
    for c, n in enumerate(layout.negatives):
        k_n, v_n = take(k, _of(cols, c)), take(v, _of(cols, c))
        flipped = -n.alpha * v_n
        for part, joined in _chunks(q, _of(rows, "I")):
            region = None if n.region is None else n.region[:, joined]
            z_n, lse_n = attend(q[..., part, :], k_n, flipped)
            merge_(z[..., part, :], lse[..., part], z_n, flipped_lse(lse_n, n.beta, region))
        for own in _of(rows, c):
            z_n, lse_n = attend(q[..., own, :], k_n, v_n)
            if image:
                z_n, _ = merge(z_n, lse_n, *attend(q[..., own, :], take(k, image), take(v, image)))
            z[..., own, :] = z_n
    return z


def _flip_(v: Tensor, cols: Spans, layout: Layout) -> tuple[Tensor, list[tuple[slice, Tensor]]]:
    """The values with the negatives' flipped, in their own place where that can be; and what stood there, to be put back."""
    flips = v.new_ones(v.shape[-2], 1)
    for c, s in cols:
        if isinstance(c, int):
            flips[s] = -layout.negatives[c].alpha
    shared = any(step == 0 and size > 1 for step, size in zip(v.stride(), v.shape, strict=True))
    if v.requires_grad or shared:  # autograd keeps them, or they are others' too
        return v * flips, []
    kept = [(s, v[..., s, :].clone()) for s in _negatives(cols)]
    for s, _ in kept:
        v[..., s, :].mul_(flips[s])
    return v, kept


def vsf_attention_concatenated(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention,
                               mask: Tensor | None = None) -> Tensor:
    """The paper's equation by groups of queries, each with the keys it may see.

    mask: the model's own, additive or boolean (True = visible), broadcastable over (B, H, Lq, Lk) of the sequence as the
    model knows it: with the negatives' tokens, or without them. Regions need the merged form.
    """
    if any(n.region is not None for n in layout.negatives):
        raise ValueError("a region needs the merged form: here it would cost a mask of Lq x Lk")
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    mask = _positive_mask(mask, q, k, rows, cols)
    z = _empty_like(q)
    for c in range(len(layout.negatives)):
        for own in _of(rows, c):
            seen = [*_of(cols, c), *_of(cols, "I")]
            z[..., own, :] = attend(q[..., own, :], take(k, seen), take(v, seen), None)
    if text := _of(rows, "P"):
        positive = _of(cols, "P", "I")
        own_mask = None if mask is None else _mask_rows(mask, rows, "P")
        _spread(attend(take(q, text), take(k, positive), take(v, positive), own_mask), z, text)
    if image := _of(rows, "I"):
        own_mask = _image_mask(mask, q, rows, cols, layout)
        flipped, kept = _flip_(v, cols, layout)
        try:
            _spread(attend(take(q, image), k, flipped, own_mask), z, image)
        finally:
            for s, values in kept:
                v[..., s, :] = values
    return z


def _spread(rows: Tensor, z: Tensor, spans: list[slice]) -> None:
    """Put rows where they belong in z."""
    for part, s in zip(rows.split([s.stop - s.start for s in spans], dim=-2), spans, strict=True):
        z[..., s, :] = part


def _image_mask(mask: Tensor | None, q: Tensor, rows: Spans, cols: Spans, layout: Layout) -> Tensor | None:
    """What the image's rows add to their logits: the model's own mask on P and I, -beta on each negative's keys."""
    if mask is None and not any(n.beta for n in layout.negatives):
        return None
    own = q.new_zeros(1, 1, 1, 1) if mask is None else _mask_rows(mask, rows, "I")
    bias = own.new_empty(*own.shape[:-1], cols[-1][1].stop)
    for (_, s), (_, inside) in zip([c for c in cols if c[0] in ("P", "I")], _within_positive(cols), strict=True):
        bias[..., s] = own if own.shape[-1] == 1 else own[..., inside]
    for role, s in cols:
        if isinstance(role, int):
            bias[..., s] = -layout.negatives[role].beta
    return bias


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
