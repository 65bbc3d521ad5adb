"""The methods that the evidence compares, and the ablations of VSF, as rules of testbed/evaluate.py.

Fair: every method has BUDGET settings over its own parameters, no more and no less.
"""
from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "benchmarks")]

import evaluate  # noqa: E402
import pipeline  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)  # loads the pack as vsf_pack

import rivals  # noqa: E402
from vsf_pack.nodes.glue.conditioning import negative_prompts  # noqa: E402
from vsf_pack.nodes.glue.override import VSFAttention  # noqa: E402
from vsf_pack.nodes.glue.patch import attach  # noqa: E402

BUDGET = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a negative prompt, and the settings that are tried, weakest first: as many for each method."""
    name: str
    settings: tuple[Any, ...]
    rule: Callable[[Any], evaluate.Rule]

    def __post_init__(self) -> None:
        if len(self.settings) != BUDGET:
            raise ValueError(f"{self.name} has {len(self.settings)} settings, every method has {BUDGET}")


def in_attention(make: Callable[[Any], Callable[..., VSFAttention]], scale: Callable[[Any], float] = lambda s: 1.0,
                 bias: float = 0.0) -> Callable[[Any], evaluate.Rule]:
    """A method that stands in attention: the negative's words as VSFTextEncode gives them, what becomes of them by `make`."""
    def rule(setting: Any) -> evaluate.Rule:
        def prepare(pipe: pipeline.Pipeline, part: str, positive: Any) -> tuple[Any, Any, Any, float]:
            negative = NODES["VSFTextEncode"].execute(pipe.clip, part).args[0]
            prompts = negative_prompts(negative, scale(setting), bias, 0.0, 1.0)
            return attach(pipe.model, prompts, make(setting)), positive, None, 1.0
        return evaluate.Rule(str(setting), prepare)
    return rule


def dng_rule(setting: tuple[float, float, float]) -> evaluate.Rule:
    """Dynamic negative guidance with (scale, prior, temperature)."""
    def prepare(pipe: pipeline.Pipeline, part: str, positive: Any) -> tuple[Any, Any, Any, float]:
        return rivals.DNG(*setting).attach(pipe.model), positive, pipe.encode(part), 1.0
    return evaluate.Rule(str(setting), prepare)


FLIPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
METHODS = {method.name: method for method in (
    Method("VSF", (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0), in_attention(lambda s: VSFAttention, lambda s: s)),
    Method("NAG", ((2, 2.5, 0.125), (4, 2.5, 0.125), (4, 2.5, 0.25), (5, 2.5, 0.5), (9, 5, 0.5), (10, 5, 0.5), (11, 5, 0.75),
                   (11, 10, 1.0)), in_attention(lambda s: rivals.NAG(*s))),
    Method("NASA", (0.05, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.7), in_attention(lambda s: rivals.NASA(s))),
    Method("NegPip (flip)", FLIPS, in_attention(lambda s: rivals.Flip(), lambda s: s)),
    Method("flip about the mean", FLIPS, in_attention(lambda s: rivals.Flip(about_mean=True), lambda s: s)),
    Method("CFG", (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0), evaluate.cfg_rule),
    Method("DNG", ((1, 0.2, 0.05), (2, 0.2, 0.05), (5, 0.01, 0.2), (5, 0.2, 0.05), (5, 0.2, 0.2), (5, 0.5, 0.05),
                   (10, 0.2, 0.05), (10, 0.5, 0.2)), dng_rule),
)}
ABLATIONS: dict[str, Callable[[float], evaluate.Rule]] = {
    "VSF": METHODS["VSF"].rule,
    "sign: not flipped": in_attention(lambda s: VSFAttention, lambda s: -s),
    "whole embedding flipped": evaluate.whole_flip_rule,
    "no mask": in_attention(lambda s: rivals.NoMask(), lambda s: s),
    "no duplicate, no mask": METHODS["NegPip (flip)"].rule,
    "padding kept": lambda scale: evaluate.vsf_rule(NODES, scale, 0.0, padding=True),
    "bias 0.2": in_attention(lambda s: VSFAttention, lambda s: s, bias=0.2),
    "bias 1": in_attention(lambda s: VSFAttention, lambda s: s, bias=1.0),
}
"""By the scale. Each takes one thing away, or adds it."""

ABLATIONS_OF: dict[str, dict[str, Callable[[float], evaluate.Rule]]] = {
    "flux": {
        "single blocks left out": in_attention(lambda s: rivals.WithoutSingleBlocks, lambda s: s),
        "N1 at positions of its own": in_attention(lambda s: rivals.OwnPositions(), lambda s: s),
    },
}
"""What only one architecture has: Flux.1 has single blocks and rotary positions on its text, which are all zero."""
