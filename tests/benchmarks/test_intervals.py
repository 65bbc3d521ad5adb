"""Intervals and tests against values known from elsewhere, and the methods' fairness."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "testbed")]

import evaluate  # noqa: E402
import evidence  # noqa: E402
import intervals  # noqa: E402
import methods  # noqa: E402


@pytest.mark.parametrize("hits, total", [(0, 25), (7, 25), (88, 100), (100, 100)])
def test_wilson(hits, total):
    expected = binomtest(hits, total).proportion_ci(0.95, "wilson")
    assert intervals.interval([True] * hits + [False] * (total - hits)) == pytest.approx(tuple(expected), abs=1e-4)


@pytest.mark.parametrize("gained, lost", [(22, 2), (3, 3), (0, 5), (0, 0)])
def test_mcnemar(gained, lost):
    ours = [True] * gained + [False] * lost + [True] * 9
    theirs = [False] * gained + [True] * lost + [True] * 9
    found = intervals.mcnemar(ours, theirs)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert (found["gained"], found["lost"]) == (gained, lost)
    assert found["p"] == pytest.approx(expected)


def test_the_sets_share_no_noise_and_no_order():
    sets = [evidence.PairSet(name, seed, 100) for name, seed in evidence.SEEDS.items()]
    seeds = [range(s.first_seed, s.first_seed + len(s.pairs)) for s in sets]
    assert not any(set(a) & set(b) for i, a in enumerate(seeds) for b in seeds[:i])
    prompts = [[pair.positive for pair in s.pairs[:40]] for s in sets]
    assert prompts[0] != prompts[1] != prompts[2] != prompts[0]
    assert all(s.subjects.count(subject) == 100 for s in sets for subject in set(s.subjects))


def test_context_is_the_prompt_and_then_the_negative():
    case = evaluate.Case(None, ["a red car, day"], "wheels")
    assert case.contexts == ["a red car, day, wheels"]
    assert evaluate.Case(None, ["a red car, day"], "").contexts == ["a red car, day"], "nothing is no comma"


def test_three_times_the_strength():
    assert methods.METHODS["NAG"].stronger((5, 2.5, 0.5)) == (13, 2.5, 0.5)
    assert methods.METHODS["CFG"].stronger(2.0) == 4.0
    assert methods.METHODS["VSF"].stronger(1.5) == 4.5
    assert methods.METHODS["DNG"].stronger((5, 0.2, 0.05)) == (15, 0.2, 0.05)
