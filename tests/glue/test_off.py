"""Off is off, bit for bit."""
from __future__ import annotations

import comfy.model_management
import pytest
import tiny
import torch
import vsf
from comfy_extras.nodes_easycache import EasyCacheNode
from vsf_pack.nodes.glue.reading.conditioning import WORDS

POSITIVE = tiny.conditioning(7, 1)


def steps_of(model, **kwargs) -> list[torch.Tensor]:
    """The denoised picture after each step."""
    seen = []
    tiny.sample(model, POSITIVE, callback=lambda step, x0, x, total: seen.append(x0.clone()), **kwargs)
    return seen


def conds_of(model, positive=POSITIVE, **kwargs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(positive, uncond) prediction of each step."""
    seen = []

    def remember(args):
        seen.append((args["cond_denoised"].clone(), args["uncond_denoised"].clone()))
        return args["denoised"]

    model = model.clone()
    model.set_model_sampler_post_cfg_function(remember)
    tiny.sample(model, positive, **kwargs)
    return seen


OFF = {
    "scale 0": lambda model: vsf.guide(model, vsf.negative(), scale=0.0),
    "empty text": lambda model: vsf.guide(model, tiny.conditioning(3, 2, **{WORDS: 0})),
    "zeroed out": lambda model: vsf.guide(model, [[torch.zeros(1, 9, tiny.CONTEXT_WIDTH), {}]]),
    "all masked": lambda model: vsf.guide(model, tiny.conditioning(3, 2, attention_mask=torch.zeros(1, 3))),
    "empty window": lambda model: vsf.guide(model, vsf.negative(), start=0.5, end=0.5),
    "ranges that do not meet": lambda model: vsf.guide(model, vsf.negative(start_percent=0.6), end=0.5),
}


@pytest.mark.parametrize("off", OFF.values(), ids=OFF)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_off(model, off, cfg):
    plain = tiny.sample(model, POSITIVE, cfg=cfg, batch=2)
    assert torch.equal(tiny.sample(off(model), POSITIVE, cfg=cfg, batch=2), plain)


@pytest.mark.parametrize("uncond_length", [7, 4], ids=["batched with cond", "apart"])
def test_steps_outside_the_window(model, uncond_length):
    kwargs = dict(steps=6, cfg=3.0, batch=2, negative=tiny.conditioning(uncond_length, 3))
    plain, late = steps_of(model, **kwargs), steps_of(vsf.guide(model, vsf.negative(), start=0.6), **kwargs)
    same = [torch.equal(a, b) for a, b in zip(plain, late, strict=True)]
    assert same[0]
    assert not same[-1]
    assert same == sorted(same, reverse=True), "once it has begun, it acts to the end"


def test_steps_after_the_window_call_the_plain_model(model):
    """From the same picture, a step after the window is the plain model's: restart from what the window left."""
    guided = vsf.guide(model, vsf.negative(), end=0.3)
    assert not torch.equal(tiny.sample(guided, POSITIVE, steps=6), tiny.sample(model, POSITIVE, steps=6))
    tail = dict(steps=6, start_step=5, latent=torch.randn(1, 16, 8, 6), disable_noise=True)
    assert torch.equal(tiny.sample(guided, POSITIVE, **tail), tiny.sample(model, POSITIVE, **tail))


@pytest.mark.parametrize("uncond_length", [7, 4], ids=["one length", "two lengths"])
def test_rows_that_are_not_the_positives(model, uncond_length):
    """The prediction for the ordinary negative prompt is the unpatched model's, at the first step (same picture).

    Prompts of one length ComfyUI may put into one batch (or not, by free memory), and a batch of another size rounds
    differently. With VSF they run apart, so the comparison is with the unpatched model on the ordinary negative alone.
    """
    kwargs = dict(cfg=3.0, batch=2, negative=tiny.conditioning(uncond_length, 3))
    alone = conds_of(model, positive=tiny.conditioning(6, 9), **kwargs)[0][1]
    cond, uncond = conds_of(model, **kwargs)[0]
    vsf_cond, vsf_uncond = conds_of(vsf.guide(model, vsf.negative()), **kwargs)[0]
    assert torch.equal(vsf_uncond, alone)
    assert (vsf_uncond - uncond).norm() / uncond.norm() < 1e-6
    assert not torch.allclose(cond, vsf_cond, atol=1e-3)


def test_the_original_model_after_a_run(model):
    before = tiny.sample(model, POSITIVE)
    options, wrappers = str(model.model_options), str(model.wrappers)
    tiny.sample(vsf.guide(model, vsf.negative()), POSITIVE)
    assert torch.equal(tiny.sample(model, POSITIVE), before)
    assert (str(model.model_options), str(model.wrappers)) == (options, wrappers)


def test_interrupt_leaves_nothing_behind(model):
    before, guided = tiny.sample(model, POSITIVE), vsf.guide(model, vsf.negative())
    whole = tiny.sample(guided, POSITIVE, steps=4)

    def interrupt(step, *_):
        if step == 1:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.sample(guided, POSITIVE, steps=4, callback=interrupt)
    assert torch.equal(tiny.sample(model, POSITIVE), before)
    assert torch.equal(tiny.sample(guided, POSITIVE, steps=4), whole)


def test_large_bias_tends_to_off(model):
    """beta 5 leaves less than beta 0; the formula's limit is tested in core/test_forms.py, beyond the node's range."""
    off = tiny.sample(model, POSITIVE)
    effect = [(tiny.sample(vsf.guide(model, vsf.negative(), bias=b), POSITIVE) - off).norm() for b in (0.0, 1.0, 2.5, 5.0)]
    assert effect == sorted(effect, reverse=True)
    assert effect[-1] < effect[0] / 20


def test_permuting_the_negatives_words_changes_nothing(model):
    """SD3 and Flux.1 give text tokens no positions."""
    negative = vsf.negative(6)
    permuted = [[negative[0][0][:, [3, 0, 5, 1, 4, 2]], negative[0][1]]]
    out, other = (tiny.sample(vsf.guide(model, n, bias=0.2), POSITIVE) for n in (negative, permuted))
    assert (out - other).norm() / out.norm() < 1e-6


def test_deterministic(model):
    guided = vsf.guide(model, vsf.negative())
    assert torch.equal(tiny.sample(guided, POSITIVE), tiny.sample(guided, POSITIVE))


@pytest.mark.parametrize("family", ["flux1"])
def test_a_step_that_a_cache_skips_is_no_error(model, family):
    """EasyCache answers some steps itself: there is no attention to act in, and nothing to complain about."""
    cached = EasyCacheNode.execute(model, 1000.0, 0.15, 0.95, False).args[0]
    for guided in (vsf.guide(cached, vsf.negative()),
                   EasyCacheNode.execute(vsf.guide(model, vsf.negative()), 1000.0, 0.15, 0.95, False).args[0]):
        out = tiny.sample(guided, POSITIVE, steps=6)
        assert not torch.equal(out, tiny.sample(vsf.guide(model, vsf.negative()), POSITIVE, steps=6)), "nothing was skipped"
        assert not torch.equal(out, tiny.sample(cached, POSITIVE, steps=6)), "the negative did nothing"
