"""Intervals and tests for the evidence."""
from __future__ import annotations

import math

import numpy as np

Z = 1.96


def interval(values: list[float]) -> tuple[float, float]:
    """95 % of a mean: Wilson's for shares, normal for numbers."""
    n, mean = len(values), sum(values) / len(values)
    if all(v in (0, 1) for v in values):
        middle, half = mean + Z * Z / (2 * n), Z * math.sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
        return (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def mcnemar(ours: list[bool], theirs: list[bool]) -> dict[str, float]:
    """McNemar's exact test on pictures of the same prompts and noise. gained: only ours succeeded; lost: only theirs; p:
    that the two are alike, two-sided."""
    gained = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    n, less = gained + lost, min(gained, lost)
    p = min(1.0, 2 * sum(math.comb(n, k) for k in range(less + 1)) / 2**n)
    return {"gained": gained, "lost": lost, "p": p}
