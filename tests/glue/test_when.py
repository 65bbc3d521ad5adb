"""Curves: how strong a negative is over the sampling. families/test_contexts.py holds those of contexts to their reference."""
from __future__ import annotations

import dataclasses
import logging

import cases
import comfy.samplers
import pytest
import reference
import times
import tiny
import torch
import vsf
from vsf_pack.nodes.glue.sampling.run import Run
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance

OF_MANY_KINDS = ["sd3", "flux1", "flux2", "qwen-image", "lumina2", "hidream-i1", "kandinsky5", "sd1.5", "wan2.1-t2v", "krea2",
                 "chroma", "ltxv"]
BUMPY = [(0.0, 0.5), (0.4, 1.5), (1.0, 0.25)]


def text(points: list[tuple[float, float]]) -> str:
    return ", ".join(f"{time}:{factor}" for time, factor in points)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def guided(case, curve: str, scale: float = 2.0, start: float = 0.0, end: float = 1.0):
    negative = case.conditioning(3, 2, vsf_words=3)
    return VSFGuidance.execute(cases.load(case.name), negative, scale, 0.3, start, end, curve).args[0]


def contrasted(case, curve: str, strength: float = 1.0, start: float = 0.0, end: float = 1.0):
    return VSFContrast.execute(cases.load(case.name), case.conditioning(9, 3), strength, start, end, curve).args[0]


RULES = {"the paper's": guided, "contexts": contrasted}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=["flux1", "sd1.5"])  # flow and eps; joint and cross
def case(request):
    return cases.BY_NAME[request.param]


@pytest.mark.parametrize("name", OF_MANY_KINDS)
def test_the_papers_rule_equals_the_reference(name):
    case = cases.BY_NAME[name]
    sampling = cases.load(name).get_model_object("model_sampling")
    negative = case.negative(3, 2, alpha=2.0, beta=0.3, factor=lambda s: times.factor(BUMPY, times.time_of(s, sampling)))
    positive = case.conditioning(7, 1)
    truth = case.sample(case.reference(negative), positive, steps=3, batch=2)
    assert relative_error(case.sample(guided(case, text(BUMPY)), positive, steps=3, batch=2), truth) <= 1e-5
    assert relative_error(case.sample(guided(case, "constant"), positive, steps=3, batch=2), truth) >= 1e-4


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2s_ancestral"])
@pytest.mark.parametrize("family", ["sd3", "flux1"])
def test_samplers_that_call_the_model_between_their_steps(family, sampler):
    """Its strength is that of the noise level, not of the step."""
    sampling = tiny.cached(family).get_model_object("model_sampling")
    negative = reference.RefNegative(tiny.tokens(5, 2), 2.0, factor=lambda s: times.factor(BUMPY, times.time_of(s, sampling)))
    positive = tiny.conditioning(7, 1)
    patched = VSFGuidance.execute(tiny.cached(family), vsf.negative(5, 2), 2.0, 0.0, 0.0, 1.0, text(BUMPY)).args[0]
    out = tiny.sample(patched, positive, steps=3, sampler=sampler)
    truth = tiny.sample(reference.patch(tiny.cached(family, torch.float64), negative), positive, steps=3, sampler=sampler)
    assert relative_error(out, truth) <= 1e-5


def test_a_constant_is_no_curve(case, rule):
    positive = case.conditioning(7, 1)
    plain = case.sample(rule(case, "constant"), positive)
    for same in ("", "0:1", "0:1, 0.3:1, 1:1", "Constant"):
        assert torch.equal(case.sample(rule(case, same), positive), plain)
    half = 1.0 if rule is guided else 0.5
    assert torch.equal(case.sample(rule(case, "0:0.5"), positive), case.sample(rule(case, "constant", half), positive))


def test_zero_is_off(case, rule, caplog):
    """At every step, and at one: bit for bit."""
    caplog.set_level(logging.INFO, "vsf")
    model, positive = cases.load(case.name), case.conditioning(7, 1)
    assert rule(case, "0:0, 1:0") is model
    assert rule(case, "fade out", 0.0) is model
    assert [r.message for r in caplog.records] == ["VSF: off: its curve is 0",
                                                   f"VSF: off: {'scale' if rule is guided else 'strength'} 0"]
    plain, fading_in = [], []
    case.sample(model, positive, steps=4, callback=lambda step, x0, *_: plain.append(x0.clone()))
    case.sample(rule(case, "fade in"), positive, steps=4, callback=lambda step, x0, *_: fading_in.append(x0.clone()))
    assert torch.equal(plain[0], fading_in[0]) and not torch.equal(plain[1], fading_in[1])
    assert caplog.records[-1].message.startswith("VSF: acted in 3 of 4 steps")
    never = rule(case, "0:1, 0.001:0")  # no step but the first is there
    first = []
    case.sample(never, positive, steps=4, callback=lambda step, x0, *_: first.append(x0.clone()))
    assert not torch.equal(first[0], plain[0])
    assert caplog.records[-1].message.startswith("VSF: acted in 1 of 4 steps")


def test_within_start_and_end(case, rule, caplog):
    """A window and a curve both have to let it act."""
    caplog.set_level(logging.INFO, "vsf")
    positive = case.conditioning(7, 1)
    case.sample(rule(case, "fade in", end=0.5), positive, steps=5)
    acted = caplog.records[-1].message
    case.sample(rule(case, "constant", end=0.5), positive, steps=5)
    assert int(acted.split()[3]) == int(caplog.records[-1].message.split()[3]) - 1


def test_nothing_is_read_off_the_device_where_nothing_can_be_off(case, rule, monkeypatch):
    """A fading negative acts in every step: its factor stays a tensor."""
    asked = []
    monkeypatch.setattr(Run, "acts", lambda self, c, sigma: asked.append(c) or True)
    for curve in ("constant", "fade out", text(BUMPY)):
        case.sample(rule(case, curve), case.conditioning(7, 1))
        assert not asked
    case.sample(rule(case, "fade in"), case.conditioning(7, 1))
    assert asked


def test_two_negatives_with_curves_of_their_own(case):
    """Against one whole node for each part of the sampling."""
    both = VSFGuidance.execute(guided(case, "0:1, 0.5:1, 0.501:0"), case.conditioning(4, 4, vsf_words=4), 2.0, 0.3, 0.0, 1.0,
                               "0.499:0, 0.5:1").args[0]
    sampling = cases.load(case.name).get_model_object("model_sampling")
    middle = sampling.percent_to_sigma(0.5)
    early = case.negative(3, 2, alpha=2.0, beta=0.3, active=lambda s: s >= middle)
    late = case.negative(4, 4, alpha=2.0, beta=0.3, active=lambda s: s <= middle)
    positive = case.conditioning(7, 1)
    assert relative_error(case.sample(both, positive, steps=5), case.sample(case.reference(early, late), positive,
                                                                            steps=5)) <= 1e-5


def test_half_precision():
    """A factor is a number, whatever the model computes in."""
    for dtype in (torch.bfloat16, torch.float16):
        case = cases.BY_NAME["sd3"]
        model, positive = cases.build(case, dtype), case.conditioning(7, 1)
        for node, negative, more in ((VSFGuidance, case.conditioning(3, 2, vsf_words=3), (0.3,)),
                                     (VSFContrast, case.conditioning(9, 3), ())):
            settings = (model, negative, 1.0, *more, 0.0, 1.0)
            out = case.sample(node.execute(*settings, "0:1, 1:0.999").args[0], positive)
            flat = case.sample(node.execute(*settings).args[0], positive)
            off = case.sample(model, positive)
            assert relative_error(out, flat) < 0.2 * relative_error(off, flat)


@pytest.mark.parametrize("curve", ["fade", "0:1, 0.5", 3])
def test_what_is_no_curve(case, rule, curve):
    with pytest.raises(ValueError, match="VSF: set `curve` to constant, fade out, fade in, bump, or to points"):
        rule(case, curve)


def test_scale_times_its_curve_has_a_limit(case):
    with pytest.raises(ValueError, match=r"VSF: lower `scale`, its `curve` or .* at most 10 for all multiplied, found 12\."):
        guided(case, "0:6, 1:0")


def test_a_sampler_of_one_step(case, rule):
    """The table has every level from none to the highest."""
    model = rule(case, "bump")
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.tensor([float(sampling.percent_to_sigma(0.5)), 0.0])
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(case.conditioning(7, 1), case.conditioning(3, 999))
    full = comfy.samplers.CFGGuider(rule(case, "constant"))
    full.original_conds = guider.original_conds
    noise = torch.randn(1, *case.latent, generator=torch.Generator().manual_seed(0))
    euler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        out, whole = (g.sample(noise, noise * 0, euler, sigmas, disable_pbar=True, seed=0) for g in (guider, full))
    assert relative_error(out, whole) <= 1e-6


def test_a_curve_is_in_the_prompt_it_came_with(case):
    """As every setting: a clone of the model has it too, and another node's negative has not."""
    model = guided(case, "fade out").clone()
    curves = [n.curve is not None for n in model.get_attachment("vsf").negatives]
    chained = VSFGuidance.execute(model, case.conditioning(4, 4, vsf_words=4), 2.0, 0.0, 0.0, 1.0).args[0]
    assert curves == [True] and [n.curve is not None for n in chained.get_attachment("vsf").negatives] == [True, False]
    assert dataclasses.is_dataclass(chained.get_attachment("vsf").negatives[0].curve)
