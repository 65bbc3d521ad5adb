"""The methods that the evidence compares, and the ablations of VSF, as rules of testbed/evaluate.py.

Fair: every method has BUDGET settings over its own parameters, no more and no less, and is shown at the best of them. Rivals
are there twice: with the negative alone ("wheels"), as their papers have it, and with the negative in the prompt's context
("a red car, wheels"), because much of what the context rule gains comes from there.
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
import torch  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)  # loads the pack as vsf_pack

import rivals  # noqa: E402
from vsf_pack.nodes.glue.attention.override import VSFAttention  # noqa: E402
from vsf_pack.nodes.glue.reading.conditioning import negative_prompts  # noqa: E402
from vsf_pack.nodes.glue.sampling.patch import attach  # noqa: E402

BUDGET = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a negative prompt, and the settings that are tried, weakest first: as many for each method.

    stronger: a setting -> the same with three times its strength, whatever the method calls so.
    """
    name: str
    settings: tuple[Any, ...]
    rule: Callable[[Any], evaluate.Rule]
    stronger: Callable[[Any], Any] = lambda s: 3 * s

    def __post_init__(self) -> None:
        if len(self.settings) != BUDGET:
            raise ValueError(f"{self.name} has {len(self.settings)} settings, every method has {BUDGET}")


def words(case: evaluate.Case, context: bool) -> Any:
    """What must not be there, as VSFTextEncode gives it: one row for all pictures, or in each prompt's context."""
    texts = case.contexts if context else [case.negative]
    encoded = [NODES["VSFTextEncode"].execute(case.pipe.clip, text).args[0][0] for text in texts]
    return [[torch.cat([tokens for tokens, _ in encoded]), encoded[0][1]]]


def in_attention(make: Callable[[Any], Callable[..., VSFAttention]], scale: Callable[[Any], float] = lambda s: 1.0,
                 bias: float = 0.0, context: bool = False) -> Callable[[Any], evaluate.Rule]:
    """A method that stands in attention, on the pack's own glue: what becomes of the negative's words there, by `make`."""
    def rule(setting: Any) -> evaluate.Rule:
        def prepare(case: evaluate.Case) -> tuple[Any, Any, Any, float]:
            prompts = negative_prompts(words(case, context), scale(setting), bias, 0.0, 1.0)
            model = attach(case.pipe.model, prompts, make(setting)) if prompts else case.pipe.model
            return model, case.positive, None, 1.0
        return evaluate.Rule(str(setting), prepare)
    return rule


def as_negative(case: evaluate.Case, context: bool) -> Any:
    """The sampler's ordinary negative."""
    return evaluate.stack(case.pipe, case.contexts) if context else case.pipe.encode(case.negative)


def cfg_rule(context: bool) -> Callable[[float], evaluate.Rule]:
    return lambda cfg: evaluate.Rule(
        str(cfg), lambda case: (case.pipe.model, case.positive, as_negative(case, context), cfg))


def dng_rule(context: bool) -> Callable[[tuple[float, float, float]], evaluate.Rule]:
    """Dynamic negative guidance with (scale, prior, temperature)."""
    def rule(setting: tuple[float, float, float]) -> evaluate.Rule:
        def prepare(case: evaluate.Case) -> tuple[Any, Any, Any, float]:
            return rivals.DNG(*setting).attach(case.pipe.model), case.positive, as_negative(case, context), 1.0
        return evaluate.Rule(str(setting), prepare)
    return rule


def from_one(setting: Any) -> Any:
    """Three times as far from 1, where the method is off: NAG's and CFG's scales."""
    first, *rest = setting if isinstance(setting, tuple) else (setting,)
    return (1 + 3 * (first - 1), *rest) if rest else 1 + 3 * (first - 1)


FLIPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
NAGS = ((2, 2.5, 0.125), (4, 2.5, 0.125), (4, 2.5, 0.25), (5, 2.5, 0.5), (9, 5, 0.5), (10, 5, 0.5), (11, 5, 0.75),
        (11, 10, 1.0))
NASAS = (0.05, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.7)
CFGS = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
DNGS = ((1, 0.2, 0.05), (2, 0.2, 0.05), (5, 0.01, 0.2), (5, 0.2, 0.05), (5, 0.2, 0.2), (5, 0.5, 0.05), (10, 0.2, 0.05),
        (10, 0.5, 0.2))
CONTEXT = ", in context"
STRENGTHS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
METHODS = {method.name: method for method in (
    Method("VSF", (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0), in_attention(lambda s: VSFAttention, lambda s: s)),
    Method("VSF context", STRENGTHS, lambda s: evaluate.prompt_rule(NODES, s)),
    *(Method(name + (CONTEXT if context else ""), settings, rule, stronger) for context in (False, True)
      for name, settings, rule, stronger in (
          ("NAG", NAGS, in_attention(lambda s: rivals.NAG(*s), context=context), from_one),
          ("NASA", NASAS, in_attention(lambda s: rivals.NASA(s), context=context), lambda s: 3 * s),
          ("NegPip (flip)", FLIPS, in_attention(lambda s: rivals.Flip(), lambda s: s, context=context), lambda s: 3 * s),
          ("CFG", CFGS, cfg_rule(context), from_one),
          ("DNG", DNGS, dng_rule(context), lambda s: (3 * s[0], *s[1:])))),
    Method("flip about the mean", FLIPS, in_attention(lambda s: rivals.Flip(about_mean=True), lambda s: s)),
)}
ABLATIONS: dict[str, Callable[[float], evaluate.Rule]] = {
    "VSF": METHODS["VSF"].rule,
    "sign: not flipped": in_attention(lambda s: VSFAttention, lambda s: -s),
    "whole embedding flipped": evaluate.whole_flip_rule,
    "no mask": in_attention(lambda s: rivals.NoMask(), lambda s: s),
    "no duplicate, no mask": METHODS["NegPip (flip)"].rule,
    "padding kept": lambda scale: evaluate.vsf_rule(NODES, scale, 0.0, padding=True),
    "negative in the prompt's context": in_attention(lambda s: VSFAttention, lambda s: s, context=True),
    "bias 0.2": in_attention(lambda s: VSFAttention, lambda s: s, bias=0.2),
    "bias 1": in_attention(lambda s: VSFAttention, lambda s: s, bias=1.0),
}
"""By the scale. Each takes one thing away from the paper's form, or adds it."""

ABLATIONS_OF: dict[str, dict[str, Callable[[float], evaluate.Rule]]] = {
    "flux": {
        "single blocks left out": in_attention(lambda s: rivals.WithoutSingleBlocks, lambda s: s),
        "N1 at positions of its own": in_attention(lambda s: rivals.OwnPositions(), lambda s: s),
    },
}
"""What only one architecture has: Flux.1 has single blocks and rotary positions on its text, which are all zero."""
