"""Where the positive text P, the image I and the negatives N0 stand in a joint sequence."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Role = Literal["P", "I"] | int


@dataclass(frozen=True)
class Segment:
    """A run of tokens. role: "P", "I", or the index of a negative; length: tokens, None for all that remain."""
    role: Role
    length: int | None


@dataclass(frozen=True)
class Negative:
    """Settings of one negative prompt. alpha: scale, beta: bias, region: (B or 1, image tokens) in [0, 1] or None."""
    alpha: float
    beta: float = 0.0
    region: Tensor | None = None


@dataclass(frozen=True)
class JointLayout:
    """The order of a joint sequence, such as [N0][P][I], and the settings of its negatives.

    At most one segment may have length None; it takes what the fixed ones leave, so that keys may outnumber queries
    (cached reference tokens count as image). Negative c is the union of all segments with role c.
    """
    segments: tuple[Segment, ...]
    negatives: tuple[Negative, ...]

    def __post_init__(self) -> None:
        roles = {s.role for s in self.segments if isinstance(s.role, int)}
        if roles != set(range(len(self.negatives))):
            raise ValueError(f"segments name negatives {sorted(roles)}, settings are given for {len(self.negatives)}")
        if sum(s.length is None for s in self.segments) > 1:
            raise ValueError("only one segment may have an open length")

    @property
    def fixed_length(self) -> int:
        """Tokens in the segments of known length."""
        return sum(s.length or 0 for s in self.segments)

    def fits(self, length: int) -> bool:
        """Whether a sequence of this many tokens can have this layout; others (image-only attention) are not ours."""
        is_open = any(s.length is None for s in self.segments)
        return length > self.fixed_length if is_open else length == self.fixed_length

    def resolve(self, length: int) -> list[tuple[Role, slice]]:
        """(role, slice) of each non-empty segment of a sequence of `length` tokens, in order."""
        if not self.fits(length):
            raise ValueError(f"a sequence of {length} tokens does not fit {self.segments}")
        spans: list[tuple[Role, slice]] = []
        start = 0
        for s in self.segments:
            stop = start + (s.length if s.length is not None else length - self.fixed_length)
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
    if len(joined) == 1:
        return t[..., joined[0], :]
    return torch.cat([t[..., s, :] for s in joined], dim=-2)
