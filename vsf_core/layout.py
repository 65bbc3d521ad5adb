"""Where the positive text P, the image I, what else they see (B) and the negatives stand in an attention call."""
from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Role = Literal["P", "B", "I"] | int
Spans = list[tuple[Role, slice]]
POSITIVE: tuple[Role, ...] = ("P", "B", "I")  # what the model has without a negative


@dataclass(frozen=True)
class Segment:
    """A run of tokens. length: tokens, None for all that remain. role:

    "P"    the prompt's words
    "B"    what the prompt and the image see beside them, and which is no prompt's words: the prompt's padding, registers,
           vision tokens. To the paper's rule, P
    "I"    the image
    c      the words of negative c
    """
    role: Role
    length: int | None

    @property
    def tokens(self) -> int:
        """The length of one that is not open."""
        assert self.length is not None
        return self.length


@dataclass(frozen=True)
class Negative:
    """A negative by the paper's rule. alpha: scale, a number or a tensor (), beta: bias.

    region: m of each image token, (B or 1, image tokens) in [0, 1]; None is 1 everywhere. In that token's softmax the
    negative's keys weigh m e^(s - beta), as if beta were larger by -log m: at 1 the whole negative, at 0 the picture without
    it. Its share 1 - W, and with it the push, is a concave function of m: half of m leaves no less than half of the push.
    """
    alpha: Tensor | float
    beta: float = 0.0
    region: Tensor | None = None


@dataclass(frozen=True)
class Context:
    """A negative by the context rule (contrast.py): the prompt's words once more, with the negative's among them.

    strength: s = 6 strength, a number or a tensor (); fade: f(t), one for all rows or (B,); region: m of each image token,
    (B or 1, image tokens) in [0, 1], None for 1 everywhere. The push at a token, already capped, is multiplied by m; of
    several, "no longer than the longest" counts those lengths. copies: how often the words stand in the lane, for models
    whose attentions are told apart by their number of keys; they count once.
    """
    strength: Tensor | float
    fade: Tensor | float = 1.0
    region: Tensor | None = None
    copies: int = 1


@dataclass(frozen=True)
class Layout:
    """The order of the tokens in one kind of attention, and the settings of its negatives: lane c is of negatives[c]'s kind.

    joint attention    segments such as [N0][P][B][I]; the queries are the same tokens
    text refiners      segments without I, such as [P][N0]: each sees itself alone, and a Context also B
    cross-attention    segments of the context, [P][N0]; queries: (Segment("I", None),), the image alone

    At most one segment may have length None; it takes what the fixed ones leave, so that keys may outnumber queries
    (cached reference tokens count as image). Negative c is the union of all segments with role c. resting: negatives that do
    not act in this attention: the image does not see them, and they see what they always do.
    """
    segments: tuple[Segment, ...]
    negatives: tuple[Negative | Context, ...]
    queries: tuple[Segment, ...] | None = None
    resting: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        roles = {s.role for s in self.segments if isinstance(s.role, int)}
        if roles != set(range(len(self.negatives))):
            raise ValueError(f"segments name negatives {sorted(roles)}, settings are given for {len(self.negatives)}")
        if sum(s.length is None for s in self.segments) > 1:
            raise ValueError("only one segment may have an open length")

    def fits(self, queries: int, keys: int) -> bool:
        """Whether an attention of this many tokens can have this layout; others (image-only attention) are not ours.

        A cross-attention with as many queries as keys cannot be told from self-attention: see `is_ambiguous`.
        """
        if self.queries is None:
            return _fits(self.segments, queries) and _fits(self.segments, keys)
        return queries != keys and _fits(self.segments, keys)

    def is_ambiguous(self, queries: int, keys: int) -> bool:
        """Whether this may be our cross-attention, or self-attention of an image with as many tokens as our text."""
        return self.queries is not None and queries == keys and _fits(self.segments, keys)

    @property
    def paper(self) -> dict[int, Negative]:
        """The negatives by the paper's rule, each by its number."""
        return {c: n for c, n in enumerate(self.negatives) if isinstance(n, Negative)}

    @property
    def contexts(self) -> dict[int, Context]:
        """The negatives by the context rule, each by its number."""
        return {c: n for c, n in enumerate(self.negatives) if isinstance(n, Context)}

    @property
    def has_image_queries(self) -> bool:
        """Whether negatives act in this attention: not in a text refiner, where each is only kept apart."""
        return any(s.role == "I" for s in self.queries or self.segments)

    def without_contexts(self) -> Layout:
        """The same, as if there were the paper's negatives alone."""
        return self.without(self.contexts.keys())

    def without(self, negatives: Set[int]) -> Layout:
        """The same, as if there were not these negatives."""
        kept = [c for c in range(len(self.negatives)) if c not in negatives]

        def keep(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
            return tuple(Segment(kept.index(s.role), s.length) if isinstance(s.role, int) else s for s in segments
                         if not isinstance(s.role, int) or s.role in kept)
        return Layout(keep(self.segments), tuple(self.negatives[c] for c in kept), self.queries and keep(self.queries),
                      frozenset(kept.index(c) for c in self.resting if c in kept))

    def key_spans(self, length: int) -> Spans:
        """(role, slice) of each non-empty segment of `length` keys, in order."""
        return _resolve(self.segments, length)

    def query_spans(self, length: int) -> Spans:
        """(role, slice) of each non-empty segment of `length` queries, in order."""
        return _resolve(self.queries or self.segments, length)


def _fixed(segments: tuple[Segment, ...]) -> int:
    return sum(s.length or 0 for s in segments)


def _fits(segments: tuple[Segment, ...], length: int) -> bool:
    is_open = any(s.length is None for s in segments)
    return length > _fixed(segments) if is_open else length == _fixed(segments)


def _resolve(segments: tuple[Segment, ...], length: int) -> Spans:
    if not _fits(segments, length):
        raise ValueError(f"a sequence of {length} tokens does not fit {segments}")
    spans: Spans = []
    start = 0
    for s in segments:
        stop = start + (s.length if s.length is not None else length - _fixed(segments))
        if stop > start:
            spans.append((s.role, slice(start, stop)))
        start = stop
    return spans


def take(t: Tensor, spans: list[slice]) -> Tensor:
    """The tokens (dim -2) in `spans`, in order: a view where the spans adjoin, else one copy."""
    joined: list[slice] = []
    for s in spans:
        if joined and joined[-1].stop == s.start:
            joined[-1] = slice(joined[-1].start, s.stop)
        else:
            joined.append(s)
    if not joined:
        return t[..., :0, :]
    if len(joined) == 1:
        return t[..., joined[0], :]
    return torch.cat([t[..., s, :] for s in joined], dim=-2)
