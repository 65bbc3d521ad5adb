"""Every family through its own BaseModel and ComfyUI's sampler."""
from __future__ import annotations

import functools

import cases
import pytest
import reference
import tiny
import torch
import vsf
from cases import Case
from vsf_pack.nodes.glue.reading.conditioning import WORDS, NegativePrompt
from vsf_pack.nodes.glue.sampling.patch import attach

POSITIVE, UNCOND = 7, 4
SETTINGS = {"beta 0": [(2.0, 0.0)], "beta 0.3": [(2.0, 0.3)], "two negatives": [(2.0, 0.3), (1.1, 0.0)]}


@pytest.fixture(scope="module", params=cases.ALL, ids=lambda case: case.name)  # a model's tests run one after the other
def case(request) -> Case:
    if not request.param.exists:
        pytest.skip("not in this ComfyUI")
    return request.param


def negative(case: Case, length: int, seed: int) -> list:
    """A negative as VSFTextEncode gives it."""
    return case.conditioning(length, seed, **{WORDS: length})


def guided(case: Case, settings: list[tuple[float, float]], length: int, model=None):
    model = cases.load(case.name) if model is None else model
    for c, (scale, bias) in enumerate(settings):
        model = vsf.guide(model, negative(case, length + c, 50 + c), scale, bias)
    return model


def sample(case: Case, model, cfg: float = 1.0, batch: int = 2) -> torch.Tensor:
    return case.sample(model, case.conditioning(POSITIVE, 1), case.conditioning(UNCOND, 2), cfg=cfg, batch=batch)


@functools.cache
def plain(name: str, cfg: float) -> torch.Tensor:
    """Without a negative, by the model itself."""
    return sample(cases.BY_NAME[name], cases.load(name), cfg)


@functools.cache
def expected(name: str, settings: tuple, length: int, cfg: float, rules: reference.Rules = reference.TRUTH) -> torch.Tensor:
    case = cases.BY_NAME[name]
    negatives = [case.negative(length + c, 50 + c, alpha=a, beta=b) for c, (a, b) in enumerate(settings)]
    return sample(case, case.reference(*negatives, rules=rules), cfg)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_off(case, cfg):
    """Bit for bit: scale 0, an empty negative, and a window that no step is in."""
    model, without = cases.load(case.name), plain(case.name, cfg)
    assert torch.isfinite(without).all()
    empty = case.conditioning(5, 60, **{WORDS: 0})  # not the rows of the negative: those are known to be words
    for off in (vsf.guide(model, negative(case, 5, 50), 0.0), vsf.guide(model, empty)):
        assert off is model or torch.equal(sample(case, off, cfg), without)  # the very model needs no second run
    assert torch.equal(sample(case, vsf.guide(model, negative(case, 5, 50), start=0.999, end=1.0), cfg), without)


def test_beta_large_is_off(case):
    """beta 60, beyond the node's range."""
    tokens = tiny.tokens(5, 50, width=case.width)
    far = attach(cases.load(case.name), [NegativePrompt(tokens, 2.0, 60.0, 0.0, 1.0, case.options(5, 50))])
    assert relative_error(sample(case, far), plain(case.name, 1.0)) <= 1e-6


# every setting with every length and every CFG, and every length with every CFG; a plain run has some (conftest.py)
PAIRS = [("beta 0", 3, 3.0), ("beta 0", 12, 1.0), ("beta 0.3", 3, 3.0), ("beta 0.3", 12, 1.0), ("two negatives", 3, 1.0),
         ("two negatives", 12, 3.0)]


@pytest.mark.parametrize(("settings", "length", "cfg"), PAIRS)
def test_equals_the_reference(case, settings, length, cfg):
    settings = SETTINGS[settings]
    out = sample(case, guided(case, settings, length), cfg)
    truth = expected(case.name, tuple(settings), length, cfg)
    assert relative_error(out, truth) <= 1e-5
    assert relative_error(plain(case.name, cfg), truth) >= 1e-3, "the negative must matter, or the comparison proves nothing"


@pytest.mark.parametrize("mutant", reference.MUTANTS)
def test_a_wrong_mask_row_or_sign_would_be_seen(case, mutant):
    """The comparison's power: the reference with one rule broken is farther from the truth than the tolerance."""
    settings = tuple(SETTINGS["two negatives"])
    if mutant in case.no_mutants:
        pytest.skip("no such rule in this model")
    wrong = expected(case.name, settings, 3, 1.0, reference.MUTANTS[mutant])
    assert relative_error(wrong, expected(case.name, settings, 3, 1.0)) >= 1e-4


def test_positions_of_the_negative(case):
    """Where a model numbers its text, the order of the negative's words matters; where not, not at all."""
    model = cases.load(case.name)
    tokens = tiny.tokens(6, 50, width=case.width)
    options = {**case.options(6, 50), WORDS: 6}
    order = [3, 0, 5, 1, 4, 2]
    shuffled = {k: torch.cat([t[:, order], t[:, 6:]], dim=1) for k, t in options.items() if k == "text_input_ids"}
    entries = [tokens, options], [tokens[:, order], options | shuffled]
    out, other = (sample(case, vsf.guide(model, [entry])) for entry in entries)
    if case.positions:
        assert relative_error(other, out) >= 1e-4
    else:
        assert relative_error(other, out) <= 1e-5
