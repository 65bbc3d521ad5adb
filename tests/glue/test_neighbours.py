"""Other nodes on the same model: overrides on either side, other guiders, hooks, torch.compile."""
from __future__ import annotations

import comfy.ldm.modules.attention
import comfy.samplers
import pytest
import reference
import tiny
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG
from neighbours import compiled, with_override

POSITIVE = tiny.conditioning(7, 1)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a - b).norm() / b.norm()).item() <= 1e-5


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_another_override_before_or_after(model, model64, bias):
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0, bias)), POSITIVE)
    for order in ("before", "after"):
        calls = []
        if order == "before":
            patched = vsf.guide(with_override(model, calls), vsf.negative(), bias=bias)
        else:
            patched = with_override(vsf.guide(model, vsf.negative(), bias=bias), calls)
        assert close(tiny.sample(patched, POSITIVE), ref), order
        assert calls, f"the other override ({order}) was not used"


@pytest.mark.skipif(not hasattr(ModelPatcher, "set_model_optimized_attention"), reason="not in this ComfyUI")
@pytest.mark.parametrize("order", ["before", "after"])
def test_attention_chosen_for_the_model(model, model64, order):
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0)), POSITIVE)
    patched = model.clone() if order == "before" else vsf.guide(model, vsf.negative())
    patched.set_model_optimized_attention(comfy.ldm.modules.attention.attention_split)
    if order == "before":
        patched = vsf.guide(patched, vsf.negative())
    assert close(tiny.sample(patched, POSITIVE), ref)


@pytest.mark.parametrize("limited", ["positive", "negative", "both"])
def test_areas_with_cfg(model, model64, limited):
    """ComfyUI gives an entry with an area a partner among the others, with the same uuid."""
    def conds(name: str, seed: int) -> list:
        whole, part = tiny.conditioning(7, seed), tiny.conditioning(7, seed + 10)
        area = {"area": (4, 4, 2 if name == "negative" else 0, 0), "strength": 0.7}
        return [*whole, [part[0][0], {**part[0][1], **area}]] if limited in (name, "both") else whole
    positive, other = conds("positive", 1), conds("negative", 4)
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0, 0.3)), positive, other, cfg=3.0)
    assert close(tiny.sample(vsf.guide(model, vsf.negative(), bias=0.3), positive, other, cfg=3.0), ref)
    assert not close(tiny.sample(model, positive, other, cfg=3.0), ref)


def run_guider(guider, steps: int = 2) -> torch.Tensor:
    noise = torch.randn(2, 16, 8, 6, generator=torch.Generator().manual_seed(0))
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
    return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)


def dual_cfg(model) -> Guider_DualCFG:
    """ComfyUI evaluates [negative, middle, positive]: the positive is index 2 there, not 0."""
    guider = Guider_DualCFG(model)
    guider.set_conds(POSITIVE, tiny.conditioning(7, 4), tiny.conditioning(7, 5))
    guider.set_cfg(3.0, 2.0)
    return guider


def test_dual_cfg_guider(model, model64):
    negative = reference.RefNegative(tiny.tokens(5, 2), 2.0, 0.3)
    ref = run_guider(dual_cfg(reference.patch(model64, negative, positive_index=2)))
    wrong = run_guider(dual_cfg(reference.patch(model64, negative, positive_index=0)))
    out = run_guider(dual_cfg(vsf.guide(model, vsf.negative(), bias=0.3)))
    assert close(out, ref)
    assert not close(wrong, ref)


def test_basic_guider(model, model64):
    """SamplerCustomAdvanced with BasicGuider, which has no negative input at all."""
    out, ref = vsf.guide(model, vsf.negative()), reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0))
    guiders = [Guider_Basic(m) for m in (out, ref)]
    for guider in guiders:
        guider.set_conds(POSITIVE)
    assert close(*map(run_guider, guiders))


def test_guider_without_a_positive(model):
    class Odd(comfy.samplers.CFGGuider):
        def set_conds(self, cond):
            self.inner_set_conds({"only": cond})

    guider = Odd(vsf.guide(model, vsf.negative()))
    guider.set_conds(POSITIVE)
    with pytest.raises(ValueError, match="VSF: use a guider .* Expected a guider with a positive conditioning, found Odd with"):
        run_guider(guider)


def test_guider_that_never_uses_its_positive(model):
    class Ignores(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006  ComfyUI's signature
            return comfy.samplers.calc_cond_batch(self.inner_model, [self.conds["negative"]], x, timestep, model_options)[0]

    guider = Ignores(vsf.guide(model, vsf.negative()))
    guider.set_conds(POSITIVE, tiny.conditioning(4, 3))
    with pytest.raises(RuntimeError, match="VSF: use another guider.*Expected Ignores to use its positive"):
        run_guider(guider)


def test_sampler_that_goes_around_comfyuis(model):
    class Bypasses(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006  ComfyUI's signature
            options = {k: v for k, v in model_options.items() if k != "vsf"}
            return super().predict_noise(x, timestep, options, seed)

    guider = Bypasses(vsf.guide(model, vsf.negative()))
    guider.set_conds(POSITIVE, tiny.conditioning(4, 3))
    with pytest.raises(ValueError, match="VSF: use a sampler .* found a call of the model outside of one"):
        run_guider(guider)


def test_negative_of_batch_size(model, model64):
    """A negative with one prompt for each picture of the batch, as prompt-schedule nodes make."""
    negative = [[torch.cat([tiny.tokens(5, 2), tiny.tokens(5, 3)]), {"vsf_words": 5}]]
    out = tiny.sample(vsf.guide(model, negative), POSITIVE, batch=2)
    for row, seed in enumerate((2, 3)):
        ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, seed), 2.0)), POSITIVE, batch=2)
        assert close(out[row], ref[row])


@pytest.mark.parametrize("family", ["sd3", *(["flux1"] if vsf.EVERY else [])])
def test_torch_compile_does_not_freeze_the_settings(model):
    """One compiled model, without a negative and with one after another: each must be the uncompiled result."""
    base = compiled(model)
    assert close(tiny.sample(base, POSITIVE, steps=1), tiny.sample(model, POSITIVE, steps=1))
    for scale, bias, length in ((2.0, 0.3, 5), (0.5, 0.0, 3)):  # all three change: any that stays behind would be seen
        out, eager = (vsf.guide(m, vsf.negative(length), scale, bias) for m in (base, model))
        assert close(tiny.sample(out, POSITIVE, steps=1), tiny.sample(eager, POSITIVE, steps=1)), (scale, bias, length)
    assert close(tiny.sample(base, POSITIVE, steps=1), tiny.sample(model, POSITIVE, steps=1))
