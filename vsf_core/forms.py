"""Attention with negatives over a layout, in two exact forms; of the paper's rule, of the context rule, and of both together.

merged         the model's own attention over the positive keys, joined by log-sum-exp with the negatives' few keys.
concatenated   the paper's equation: one attention per group of queries, N1 among the keys that the image may see; by the
               context rule, one more for each context. For backends that tell no log-sum-exp; beta becomes a key-wise bias
               of shape [1, 1, 1, Lk].

q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D), after RoPE, in the layout's order; the result is (B, H, Lq, D). Both leave P's and
B's rows and, but for the flipped copies and the push, I's exactly as the model has them without a negative. In joint
attention a negative's own tokens see themselves and the image; in a text refiner, themselves; in cross-attention there are
none among the queries. A context's own tokens also see B. Where both rules meet, the push is that of the model without a
negative, and is taken from what the paper's rule has made.

Neither copies keys, values or the result where the positive tokens adjoin (with contexts: where B and I do): FEW rows of
negatives ride along in the main attention and are written over; the image's attention to a negative is merged CHUNK values
at a time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import contrast
from .layout import POSITIVE, Context, Layout, Role, Spans, take
from .merge import flipped_lse, merge, merge_

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(q, k, v, additive mask or None) -> z"""
LSEAttention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(q, k, v) -> z, lse; both its own, to be written over"""
Note = Callable[[Tensor], None]
"""Is told, part of the image by part, what the negatives do there: (1 + negatives, B, tokens), single precision or wider. By
the paper's rule that is the share of the softmax that a negative has, mean over heads, and first their sum, 1 - W. By the
context rule it is |T_c| / |Z+|, and first the length of what they push together; where both meet, the sum of the two."""

FEW = 64  # rows; more of them cost more than a copy of the result
CHUNK = 2**24  # values of an attention over a negative's keys: 32 MiB in half precision, enough to keep a GPU busy
CHUNK_ON_CPU = 2**20  # 4 MiB in single precision: merged while it is in the processor's cache


def _of(spans: Spans, *roles: Role) -> list[slice]:
    # not `role in roles`: torch.compile, which may take a negative's number for any number, finds it in no tuple
    return [s for role, s in spans if any(role == own for own in roles)]


def _negatives(spans: Spans) -> list[slice]:
    return [s for role, s in spans if isinstance(role, int)]


def _within_positive(spans: Spans) -> Spans:
    """The same tokens, counted in a sequence without negatives."""
    inside: Spans = []
    at = 0
    for role, s in spans:
        if role in POSITIVE:
            inside.append((role, slice(at, at + s.stop - s.start)))
            at += s.stop - s.start
    return inside


def _empty_result(q: Tensor, v: Tensor) -> Tensor:
    """Room for a result, laid out as (B, L, H, D): the caller's reshape to (B, L, H*D) is then a view."""
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[-1]).transpose(1, 2)


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
    """Attention over P, B and I, for every query; what stands in the negatives' rows means nothing."""
    k, v = take(k, _of(cols, *POSITIVE)), take(v, _of(cols, *POSITIVE))
    if sum(s.stop - s.start for s in _negatives(rows)) <= FEW:
        z, lse = attend(q, k, v)
        return (z.clone(), lse.clone()) if z.requires_grad else (z, lse)  # autograd keeps what a kernel gives
    z, lse = _empty_result(q, v), q.new_empty(q.shape[:-1], dtype=torch.promote_types(q.dtype, torch.float32))
    z_positive, lse_positive = attend(take(q, _of(rows, *POSITIVE)), k, v)
    for (_, s), (_, inside) in zip([r for r in rows if r[0] in POSITIVE], _within_positive(rows), strict=True):
        z[..., s, :], lse[..., s] = z_positive[..., inside, :], lse_positive[..., inside]
    return z, lse


def vsf_attention_merged(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: LSEAttention,
                         note: Note | None = None) -> Tensor:
    """Z = W Z+ - alpha (1-W) Z- on the image rows, less the contexts' push; small attentions for each negative's own rows."""
    if layout.resting:
        def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            return attend(q, k, v)[0]
        return _with_resting(q, k, v, layout, plain, None, note,
                             lambda q, k, v, others, mask, note: vsf_attention_merged(q, k, v, others, attend, note))
    if layout.contexts:
        return _merged_with_contexts(q, k, v, layout, attend, note)
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    z, lse = _positive_attention(q, k, v, rows, cols, attend)
    narrow = v.dtype == torch.float16  # alpha v, and Z before all negatives are in it, may be beyond it where the result is not
    lanes = [(n, take(k, _of(cols, c)), take(v, _of(cols, c)) * (1 if narrow else -n.alpha))
             for c, n in layout.paper.items()]
    for part, joined in _chunks(q, _of(rows, "I")):
        z_part = z[..., part, :].float() if narrow else z[..., part, :]
        found: list[Tensor] = []
        for n, k_n, v_n in lanes:
            z_n, lse_n = attend(q[..., part, :], k_n, v_n)
            lse_n = flipped_lse(lse_n, n.beta, None if n.region is None else n.region[:, joined])
            merge_(z_part, lse[..., part], -n.alpha * z_n.float() if narrow else z_n, lse_n)
            found.append(lse_n)
        if narrow:
            z[..., part, :] = z_part
        if note is not None:
            note(_with_sum(_shares(found, lse[..., part])))
    for c in range(len(layout.negatives)):
        _attend_own_(z, q, k, v, rows, cols, c, attend)
    return z


def _attend_own_(z: Tensor, q: Tensor, k: Tensor, v: Tensor, rows: Spans, cols: Spans, c: int, attend: LSEAttention) -> None:
    """The rows of the paper's N0 in z: attention to itself and the image."""
    image = _of(cols, "I")
    for own in _of(rows, c):
        z_n, lse_n = attend(q[..., own, :], take(k, _of(cols, c)), take(v, _of(cols, c)))
        if image:
            z_n, _ = merge(z_n, lse_n, *attend(q[..., own, :], take(k, image), take(v, image)))
        z[..., own, :] = z_n


def _shares(lses: list[Tensor], total: Tensor) -> Tensor:
    """The share of the softmax that some keys have, mean over heads: (len(lses), B, L). lses, total: (B, H, L)."""
    return torch.stack([(lse - total).exp().mean(dim=1) for lse in lses])


def _with_sum(shares: Tensor) -> Tensor:
    """As a Note is told them, from the negatives' own."""
    return torch.cat([shares.sum(dim=0, keepdim=True), shares])


def _merged_with_contexts(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: LSEAttention,
                          note: Note | None) -> Tensor:
    """One large attention over B and I for every row; beside it, each row's attention to the words that it sees."""
    if not layout.has_image_queries:  # so few tokens that copies of the keys cost less than merges
        return vsf_attention_concatenated(q, k, v, layout, lambda q, k, v, mask: attend(q, k, v)[0])
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    spans: dict[Role, list[slice]] = {role: _of(cols, role) for role in ("P", *layout.paper)}
    spans |= {c: _words(cols, c, n.copies) for c, n in layout.contexts.items()}
    words = {role: (take(k, own), take(v, own)) for role, own in spans.items()}
    z_rest, lse_rest = _attend_or_nothing(attend, q, *(take(t, _of(cols, "B", "I")) for t in (k, v)))
    gradient = any(t.requires_grad for t in (q, k, v))
    z = z_rest.clone() if gradient else z_rest  # autograd keeps what is read of it

    for role, own in rows:
        if isinstance(role, int) and role in layout.paper:
            _attend_own_(z, q, k, v, [(role, own)], cols, role, attend)
        elif role != "I":
            seen = _attend_or_nothing(attend, q[..., own, :], *words["P" if role == "B" else role])
            z[..., own, :], _ = merge(z_rest[..., own, :], lse_rest[..., own], *seen)
    for part, joined in _chunks(q, _of(rows, "I")):
        q_part, rest, lse = q[..., part, :], z_rest[..., part, :], lse_rest[..., part]
        found = {role: _attend_or_nothing(attend, q_part, *words[role]) for role in words}
        shares = {role: contrast.share(found[role][1], lse) for role in ("P", *layout.contexts)}
        differences = [(n, contrast.difference(found[c][0], shares[c], found["P"][0], shares["P"], rest))
                       for c, n in layout.contexts.items()]
        plus, lse = merge(rest, lse, *found["P"])
        towards, factor, sizes = _push(differences, plus, joined)
        flipped: list[Tensor] = []
        for c, n in layout.paper.items():
            z_n, lse_n = found[c]
            flipped.append(flipped_lse(lse_n, n.beta, None if n.region is None else n.region[:, joined]))
            plus, lse = merge(plus.to(lse.dtype), lse, -n.alpha * z_n.to(lse.dtype), flipped[-1])
        if note is not None:
            note(_in_order(layout, sizes, _shares(flipped, lse) if flipped else None))
        if gradient:
            z[..., part, :] = plus - towards * factor
        else:
            torch.addcmul(plus, towards, factor, value=-1, out=z[..., part, :])
    return z


def _words(cols: Spans, c: int, copies: int) -> list[slice]:
    """The keys of a context's words, once."""
    spans = _of(cols, c)
    words: list[slice] = []
    left = sum(s.stop - s.start for s in spans) // copies
    for s in spans:
        words.append(slice(s.start, min(s.stop, s.start + left)))
        left -= words[-1].stop - words[-1].start
    return words


def _attend_or_nothing(attend: LSEAttention, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention, also to no keys: zero, with no share beside any other keys."""
    if k.shape[-2]:
        return attend(q, k, v)
    return (_empty_result(q, v).zero_(),
            q.new_full(q.shape[:-1], -torch.inf, dtype=torch.promote_types(q.dtype, torch.float32)))


def _push(differences: list[tuple[Context, Tensor]], plus: Tensor, joined: slice) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The contexts' push at some of the image's tokens, from each one's D: where to and how far, whose product it is; and its
    length and each one's, in lengths of Z+, (B, 1, L, 1). plus: Z+; joined: where the tokens are in the image."""
    room = contrast.length(plus)
    pushes: list[tuple[Tensor, Tensor, Tensor]] = []
    for n, difference in differences:
        weight = n.fade.to(room.dtype).view(-1, 1, 1, 1) if isinstance(n.fade, Tensor) else n.fade
        if n.region is not None:
            weight = weight * n.region[:, None, joined, None].to(room.dtype)
        pushes.append((difference, *contrast.capped(difference, room, contrast.SCALE * n.strength, weight)))
    towards, factor, long = contrast.push(pushes)
    return towards, factor, [of / room for of in (long, *(long for *_, long in pushes))]


def _in_order(layout: Layout, sizes: list[Tensor], shares: Tensor | None) -> Tensor:
    """As a Note is told them: the contexts' sizes, as `_push` gives them, and the other negatives' shares."""
    together, *each = (size[:, 0, :, 0] for size in sizes)
    if shares is not None:
        together = together + shares.sum(dim=0)
    own, others = iter(each), iter(() if shares is None else shares)
    return torch.stack([together, *(next(own if isinstance(n, Context) else others) for n in layout.negatives)])


def _flip_(q: Tensor, k: Tensor, v: Tensor, cols: Spans,
           layout: Layout) -> tuple[Tensor, Tensor | None, list[tuple[slice, Tensor]]]:
    """The values with the negatives' flipped, in their own place where that can be; what all of them have been multiplied by
    to fit into half precision, or None; and what stood in their place, to be put back."""
    flips = v.new_ones(v.shape[-2], 1)
    for c, s in cols:
        if isinstance(c, int):
            flips[s] = -layout.paper[c].alpha
    if v.dtype == torch.float16 and any(isinstance(n.alpha, Tensor) or n.alpha > 1 for n in layout.paper.values()):
        # alpha v may not fit where the result does
        flipped = v.float() * flips
        power_of_two = (torch.finfo(v.dtype).max / flipped.abs().amax()).log2().floor().exp2().clamp(max=1)
        return (flipped * power_of_two).to(v.dtype), power_of_two, []
    if not _may_write(v, q, k):
        return v * flips, None, []
    kept = [(s, v[..., s, :].clone()) for s in _negatives(cols)]
    for s, _ in kept:
        v[..., s, :].mul_(flips[s])
    return v, None, kept


def _may_write(v: Tensor, *others: Tensor) -> bool:
    """Whether v can be written over for a moment: nothing else that is read meanwhile lies in its memory."""
    if torch.compiler.is_compiling() or any(t.requires_grad for t in (v, *others)):  # autograd keeps them
        return False
    if v.is_inference() and not torch.is_inference_mode_enabled():
        return False
    extent = 1
    for stride, size in sorted(zip(v.stride(), v.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return False  # some of its tokens are others' too
            extent += stride * (size - 1)
    return all(t.untyped_storage().data_ptr() != v.untyped_storage().data_ptr() for t in others)


def vsf_attention_concatenated(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention,
                               mask: Tensor | None = None, note: Note | None = None) -> Tensor:
    """The paper's equation by groups of queries, each with the keys it may see.

    note: costs one more attention of the image's rows here, if any negative is by the paper's rule: what a softmax without a
    log-sum-exp gives to a key is seen in values alone.

    mask: the model's own, additive or boolean (True = visible), broadcastable over (B, H, Lq, Lk) of the sequence as the
    model knows it: with the negatives' tokens, or without them. The paper's regions are a bias of Lq x Lk, made for CHUNK
    values at a time.
    """
    if layout.resting:
        return _with_resting(q, k, v, layout, attend, mask, note,
                             lambda q, k, v, others, mask, note:
                             vsf_attention_concatenated(q, k, v, others, attend, mask, note))
    if layout.contexts:
        return _concatenated_with_contexts(q, k, v, layout, attend, mask, note)
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    mask = _positive_mask(mask, q, k, rows, cols)
    z = _empty_result(q, v)
    for c in range(len(layout.negatives)):
        if own := _of(rows, c):
            _spread(_own_attention(q, k, v, layout, c, rows, cols, attend, mask), z, own)
    if text := _of(rows, "P", "B"):
        positive = _of(cols, *POSITIVE)
        of_text = None if mask is None else _mask_rows(mask, rows, "P", "B")
        _spread(attend(take(q, text), take(k, positive), take(v, positive), of_text), z, text)
    if image := _of(rows, "I"):
        queries = take(q, image)
        parts = _rows_at_once(queries, k, layout)

        def own_mask(part: slice) -> Tensor | None:  # not kept: a region's is large
            return _image_mask(mask, q, rows, cols, layout, part)
        if note is not None:
            for part in parts:
                note(_with_sum(_shares_by_values(queries[..., part, :], k, v, cols, len(layout.negatives), attend,
                                                 own_mask(part))))
        flipped, factor, kept = _flip_(queries, k, v, cols, layout)
        try:
            found = [attend(queries[..., part, :], k, flipped, own_mask(part)) for part in parts]
            z_image = found[0] if len(found) == 1 else torch.cat(found, dim=-2)
            _spread(z_image if factor is None else z_image / factor, z, image)
        finally:
            for s, values in kept:
                v[..., s, :] = values
    return z


def _shares_by_values(q: Tensor, k: Tensor, v: Tensor, cols: Spans, negatives: int, attend: Attention,
                      mask: Tensor | None) -> Tensor:
    """As `_shares`, of each negative: the attention itself, over values that are 1 on the negative's keys and 0 elsewhere, a
    channel for each."""
    found: list[Tensor] = []
    for first in range(0, negatives, v.shape[-1]):
        values = torch.zeros_like(v)
        for c, s in cols:
            if isinstance(c, int) and 0 <= c - first < v.shape[-1]:
                values[..., s, c - first] = 1
        shares = attend(q, k, values, mask)[..., :negatives - first]
        found.append(shares.to(torch.promote_types(v.dtype, torch.float32)).mean(dim=1).movedim(-1, 0))
    return torch.cat(found)


def _concatenated_with_contexts(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention, mask: Tensor | None,
                                note: Note | None) -> Tensor:
    """What the other negatives make of it, and on the image rows the push: D by an attention of its own for each context."""
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    mask = _positive_mask(mask, q, k, rows, cols)
    own_rows, own_cols = ([s for role, s in spans if role not in layout.contexts] for spans in (rows, cols))
    k_positive, v_positive = (take(t, _of(cols, *POSITIVE)) for t in (k, v))
    image = _of(rows, "I")
    z = _empty_result(q, v)
    shares: list[Tensor] = []
    if layout.paper:
        paper = layout.without_contexts()
        base = vsf_attention_concatenated(take(q, own_rows), take(k, own_cols), take(v, own_cols), paper, attend, mask,
                                          note and shares.append)
        own_mask = None if mask is None else _mask_rows(mask, rows, "I")
        plus = attend(take(q, image), k_positive, v_positive, own_mask) if image else q[..., :0, :]
    else:
        base = attend(take(q, own_rows), k_positive, v_positive, mask)
        plus = take(base, _of(_within_positive(rows), "I"))
    _spread(base, z, own_rows)

    differences: list[tuple[Context, Tensor]] = []
    for c, n in layout.contexts.items():
        if own := _of(rows, c):
            _spread(_own_attention(q, k, v, layout, c, rows, cols, attend, mask), z, own)
        if image:
            seen = _seen_by_context(cols, _words(cols, c, n.copies))
            k_c, v_c = (take(t, [s for _, s in seen]) for t in (k, v))
            differences.append((n, attend(take(q, image), k_c, v_c, _context_mask(mask, rows, cols, seen, own=False))))
    gradient = any(t.requires_grad for t in (q, k, v))
    of_papers = torch.cat(shares, dim=-1)[1:] if shares else None
    for part, joined in _chunks(q, image):
        wide = plus[..., joined, :].to(torch.promote_types(q.dtype, torch.float32))
        parts = [(n, z_c[..., joined, :].to(wide.dtype) - wide) for n, z_c in differences]
        towards, factor, sizes = _push(parts, wide, joined)
        if gradient:
            z[..., part, :] = z[..., part, :].to(wide.dtype) - towards * factor
        else:
            z[..., part, :].addcmul_(towards, factor, value=-1)
        if note is not None:
            note(_in_order(layout, sizes, None if of_papers is None else of_papers[..., joined]))
    return z


def _seen_by_context(cols: Spans, words: list[slice]) -> Spans:
    """The keys of a context: its words in the place of the prompt's, so that the same words make the same call; and B and I."""
    own: Spans = [("P", s) for s in words]
    at = next((i for i, (role, _) in enumerate(cols) if role == "P"), 0)
    rest = [[c for c in part if c[0] in ("B", "I")] for part in (cols[:at], cols[at:])]
    return [*rest[0], *own, *rest[1]]


def _context_mask(mask: Tensor | None, rows: Spans, cols: Spans, seen: Spans, own: bool) -> Tensor | None:
    """What the model's mask says where a context's words stand for the prompt's: of B and I what it says; of the words what
    it says of the prompt's that is seen best (without one, of all tokens). For the image's rows, or for the words' own.
    """
    if mask is None:
        return None
    if own:
        roles = {role for role, _ in rows}
        mask = _mask_rows(mask, rows, "P" if "P" in roles else "B" if "B" in roles else "I").amax(-2, keepdim=True)
    else:
        mask = _mask_rows(mask, rows, "I")
    if mask.shape[-1] == 1:
        return mask
    of = {s.start: inside for (_, s), (_, inside) in zip([c for c in cols if c[0] in POSITIVE], _within_positive(cols),
                                                         strict=True)}
    prompt = [of[s.start] for s in _of(cols, "P") or _of(cols, *POSITIVE)]
    words = take(mask.mT, prompt).mT.amax(-1, keepdim=True)
    parts = [words.expand(*mask.shape[:-1], s.stop - s.start) if role == "P" else mask[..., of[s.start]] for role, s in seen]
    return torch.cat(parts, dim=-1)


def _with_resting(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention, mask: Tensor | None, note: Note | None,
                  others: Callable[[Tensor, Tensor, Tensor, Layout, Tensor | None, Note | None], Tensor]) -> Tensor:
    """Attention in which some negatives rest: their own rows as ever, for where they act again; all else by `others`, as if
    they were not there."""
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    mask = _positive_mask(mask, q, k, rows, cols)
    awake_rows, awake_cols = ([s for role, s in spans if role not in layout.resting] for spans in (rows, cols))
    parts, awake = (take(q, awake_rows), take(k, awake_cols), take(v, awake_cols)), layout.without(layout.resting)
    z = _empty_result(q, v)
    note_all = None if note is None else _noting_rest(note, layout)
    if awake.negatives:
        _spread(others(*parts, awake, mask, note_all), z, awake_rows)
    else:
        _spread(attend(*parts, mask), z, awake_rows)
        if note_all is not None:
            image = sum(s.stop - s.start for s in _of(rows, "I"))
            note_all(q.new_zeros(1, q.shape[0], image, dtype=torch.promote_types(q.dtype, torch.float32)))
    for c in sorted(layout.resting):
        if own := _of(rows, c):
            _spread(_own_attention(q, k, v, layout, c, rows, cols, attend, mask), z, own)
    return z


def _noting_rest(note: Note, layout: Layout) -> Note:
    """A Note of the negatives that act, which tells another one of all: what rests does nothing."""
    acting = [0, *(1 + c for c in range(len(layout.negatives)) if c not in layout.resting)]

    def note_all(found: Tensor) -> None:
        whole = found.new_zeros(1 + len(layout.negatives), *found.shape[1:])
        whole[acting] = found
        note(whole)
    return note_all


def _own_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, c: int, rows: Spans, cols: Spans, attend: Attention,
                   mask: Tensor | None) -> Tensor:
    """What the rows of a negative's own tokens see. mask: of P, B and I."""
    n = layout.negatives[c]
    if isinstance(n, Context):
        seen = _seen_by_context(cols, _words(cols, c, n.copies))
        keys, own_mask = [s for _, s in seen], _context_mask(mask, rows, cols, seen, own=True)
    else:
        keys, own_mask = [*_of(cols, c), *_of(cols, "I")], None
    return attend(take(q, _of(rows, c)), take(k, keys), take(v, keys), own_mask)


def attention_without_negatives(q: Tensor, k: Tensor, v: Tensor, layout: Layout, attend: Attention,
                                mask: Tensor | None = None) -> Tensor:
    """The model's own attention in a sequence that holds negatives which nobody sees. Their rows are zero. As
    `vsf_attention_concatenated` otherwise."""
    rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
    positive, z = _of(rows, *POSITIVE), torch.zeros_like(q)
    k, v, mask = (*(take(t, _of(cols, *POSITIVE)) for t in (k, v)), _positive_mask(mask, q, k, rows, cols))
    _spread(attend(take(q, positive), k, v, mask), z, positive)
    return z


def _spread(rows: Tensor, z: Tensor, spans: list[slice]) -> None:
    """Put rows where they belong in z."""
    for part, s in zip(torch.split(rows, [s.stop - s.start for s in spans], dim=-2), spans, strict=True):
        z[..., s, :] = part


def _rows_at_once(q: Tensor, k: Tensor, layout: Layout) -> list[slice]:
    """The image's queries in parts whose masks have at most CHUNK values each; without regions, all of them are one row."""
    rows, masks = q.shape[-2], [len(n.region) for n in layout.paper.values() if n.region is not None]
    size = max(CHUNK // (max(masks) * k.shape[-2]), 1) if masks else rows
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _image_mask(mask: Tensor | None, q: Tensor, rows: Spans, cols: Spans, layout: Layout, part: slice) -> Tensor | None:
    """What some of the image's rows add to their logits: the model's own mask on P, B and I, -beta + log m on each negative's
    keys. part: of the rows, counted in the image."""
    regions = [n.region for n in layout.paper.values() if n.region is not None]
    if mask is None and not regions and not any(n.beta for n in layout.paper.values()):
        return None
    own = q.new_zeros(1, 1, 1, 1) if mask is None else _mask_rows(mask, rows, "I")
    own = own if own.shape[-2] == 1 else own[..., part, :]
    wide = torch.promote_types(q.dtype, torch.float32)
    batch = max([own.shape[0], *(len(region) for region in regions)])
    bias = own.new_empty(batch, own.shape[1], part.stop - part.start if regions else own.shape[2], cols[-1][1].stop)
    for (_, s), (_, inside) in zip([c for c in cols if c[0] in POSITIVE], _within_positive(cols), strict=True):
        bias[..., s] = own if own.shape[-1] == 1 else own[..., inside]
    for role, s in cols:
        if isinstance(role, int):
            n = layout.paper[role]
            m = n.region if n.region is None else n.region[:, None, part, None].to(wide)
            bias[..., s] = -n.beta if m is None else m.log() - n.beta
    return bias


def _positive_mask(mask: Tensor | None, q: Tensor, k: Tensor, rows: Spans, cols: Spans) -> Tensor | None:
    """The model's mask as (B or 1, H or 1, L or 1, L) of the L tokens of P, B and I, additive, in q's dtype."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = q.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)
    limits = torch.finfo(q.dtype)
    if mask.is_floating_point() and torch.finfo(mask.dtype).min < limits.min:  # its lowest number, often a mask's, is not -inf
        mask = torch.where(mask.isfinite(), mask.clamp(limits.min, limits.max), mask)
    mask = mask.to(q.dtype)
    while mask.ndim < 4:
        mask = mask.unsqueeze(0 if mask.ndim < 3 else 1)
    if mask.shape[-1] == k.shape[-2]:
        mask = take(mask.mT, _of(cols, *POSITIVE)).mT
    if mask.shape[-2] == q.shape[-2]:
        mask = take(mask, _of(rows, *POSITIVE))
    return mask


def _mask_rows(mask: Tensor, rows: Spans, *wanted: Role) -> Tensor:
    """The mask's rows of some roles; a mask that is the same for all rows stays one row."""
    if mask.shape[-2] == 1:
        return mask
    return take(mask, _of(_within_positive(rows), *wanted))
