"""VSF through ComfyUI's sampler against an independent dense reference in double precision."""
from __future__ import annotations

import dataclasses
import functools

import pytest
import reference
import tiny
import torch
import vsf

POSITIVE, UNCOND = 7, 4
SETTINGS = {"beta 0": [(2.0, 0.0)], "beta 0.3": [(2.0, 0.3)], "two negatives": [(2.0, 0.3), (1.1, 0.0)]}
LENGTHS = [3, 12]  # below and above the positive's


@functools.cache
def expected(family: str, settings: tuple, length: int, batch: int, cfg: float, uncond: int) -> torch.Tensor:
    negatives = [reference.RefNegative(tiny.tokens(length + c, 50 + c), *s) for c, s in enumerate(settings)]
    model = tiny.cached(family, torch.float64)
    return tiny.sample(reference.patch(model, *negatives), tiny.conditioning(POSITIVE, 1),
                       tiny.conditioning(uncond, 2), batch=batch, cfg=cfg)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_equals_the_reference(family, model, backend, settings, length, batch, cfg):
    patched = model
    for c, (scale, bias) in enumerate(settings):
        patched = vsf.guide(patched, vsf.negative(length + c, 50 + c), scale, bias)
    out = tiny.sample(patched, tiny.conditioning(POSITIVE, 1), tiny.conditioning(UNCOND, 2), batch=batch, cfg=cfg)
    reference_out = expected(family, tuple(settings), length, batch, cfg, UNCOND)
    off = expected(family, (), length, batch, cfg, UNCOND)
    assert relative_error(out, reference_out) <= 1e-5
    assert relative_error(off, reference_out) >= 1e-2, "the negative must matter, or the comparison proves nothing"


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_prompts_of_one_length_that_comfyui_would_batch(family, model, cfg):
    """Without VSF, ComfyUI runs [uncond, cond] in one batch here; the reference does so too, with a mask for each row."""
    patched = vsf.guide(model, vsf.negative(3, 50), 2.0, 0.3)
    out = tiny.sample(patched, tiny.conditioning(POSITIVE, 1), tiny.conditioning(POSITIVE, 2), batch=2, cfg=cfg)
    assert relative_error(out, expected(family, ((2.0, 0.3),), 3, 2, cfg, POSITIVE)) <= 1e-5


def test_odd_sizes(family, model, model64):
    """Latents that do not divide into patches."""
    negative = reference.RefNegative(tiny.tokens(5, 2), 2.0, 0.3)
    for size in ((7, 5), (8, 7)):
        out = tiny.sample(vsf.guide(model, vsf.negative(5, 2), 2.0, 0.3), tiny.conditioning(POSITIVE, 1), size=size)
        ref = tiny.sample(reference.patch(model64, negative), tiny.conditioning(POSITIVE, 1), size=size)
        assert relative_error(out, ref) <= 1e-5


@pytest.mark.parametrize("family", ["flux1"])
@pytest.mark.parametrize("references", [1, 2])
def test_flux_reference_latents(family, model, model64, references):
    """Kontext: reference latents stand after the image's tokens and count as image."""
    latents = [torch.randn(1, 16, 6 + 2 * i, 4, generator=torch.Generator().manual_seed(i)) for i in range(references)]
    positive = tiny.conditioning(POSITIVE, 1, reference_latents=latents)
    out = tiny.sample(vsf.guide(model, vsf.negative(5, 2), 2.0, 0.3), positive, batch=2)
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0, 0.3)), positive, batch=2)
    assert relative_error(out, ref) <= 1e-5


@pytest.mark.parametrize("family", ["flux1"])
def test_flux_guidance_is_kept(family, model, model64):
    """FluxGuidance, as Flux.1 dev uses it, reaches the model beside the negative."""
    for guidance in (1.0, 3.5):
        positive = tiny.conditioning(POSITIVE, 1, guidance=guidance)
        out = tiny.sample(vsf.guide(model, vsf.negative(5, 2)), positive)
        ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0)), positive)
        assert relative_error(out, ref) <= 1e-5


@pytest.mark.parametrize("sampler", ["euler_ancestral", "heun", "dpmpp_2m", "uni_pc"])
def test_other_samplers(family, model, model64, sampler):
    out = tiny.sample(vsf.guide(model, vsf.negative(5, 2)), tiny.conditioning(POSITIVE, 1), steps=3, sampler=sampler)
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0)),
                      tiny.conditioning(POSITIVE, 1), steps=3, sampler=sampler)
    assert relative_error(out, ref) <= 1e-5


def test_img2img_and_inpaint(family, model, model64):
    g = torch.Generator().manual_seed(5)
    latent, mask = torch.randn(1, 16, 8, 6, generator=g), torch.rand(1, 1, 8, 6, generator=g)
    kwargs = dict(denoise=0.6, noise_mask=mask, latent=latent)
    out = tiny.sample(vsf.guide(model, vsf.negative(5, 2)), tiny.conditioning(POSITIVE, 1), steps=3, **kwargs)
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0)),
                      tiny.conditioning(POSITIVE, 1), steps=3, **kwargs)
    assert relative_error(out, ref) <= 1e-5


def test_two_positives_of_one_length_in_one_batch(family, model, model64):
    """Conditioning (Combine): both entries are positive, each keeps its own text."""
    positive = tiny.conditioning(POSITIVE, 1) + tiny.conditioning(POSITIVE, 8)
    out = tiny.sample(vsf.guide(model, vsf.negative(5, 2)), positive, cfg=3.0, batch=2)
    ref = tiny.sample(reference.patch(model64, reference.RefNegative(tiny.tokens(5, 2), 2.0)), positive, cfg=3.0, batch=2)
    assert relative_error(out, ref) <= 1e-5


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.4), (0.4, 1.0), (0.3, 0.7)])
def test_window(family, model, model64, start, end):
    sampling = model.model.model_sampling
    high, low = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    assert high > low
    always = reference.RefNegative(tiny.tokens(5, 2), 2.0)
    within = dataclasses.replace(always, active=lambda sigma: low <= sigma <= high)
    out = tiny.sample(vsf.guide(model, vsf.negative(5, 2), start=start, end=end), tiny.conditioning(POSITIVE, 1), steps=5)
    ref = tiny.sample(reference.patch(model64, within), tiny.conditioning(POSITIVE, 1), steps=5)
    assert relative_error(out, ref) <= 1e-5
    ref_always = tiny.sample(reference.patch(model64, always), tiny.conditioning(POSITIVE, 1), steps=5)
    assert relative_error(ref_always, ref) >= 1e-3


def test_negatives_with_windows_of_their_own(family, model, model64):
    """At each step just those act whose window it is in."""
    high, low = (model.model.model_sampling.percent_to_sigma(p) for p in (0.3, 0.55))
    early = reference.RefNegative(tiny.tokens(5, 2), 2.0, active=lambda sigma: sigma >= low)
    late = reference.RefNegative(tiny.tokens(3, 3), 2.0, active=lambda sigma: sigma <= high)
    both = vsf.guide(vsf.guide(model, vsf.negative(5, 2), end=0.55), vsf.negative(3, 3), start=0.3)
    out = tiny.sample(both, tiny.conditioning(POSITIVE, 1), steps=5)
    ref = tiny.sample(reference.patch(model64, early, late), tiny.conditioning(POSITIVE, 1), steps=5)
    assert relative_error(out, ref) <= 1e-5


def test_an_entrys_own_time_range_narrows_the_window(family, model):
    """ConditioningSetTimestepRange on the negative, and the ranges of scheduled CLIP hooks."""
    plain = tiny.sample(vsf.guide(model, vsf.negative(5, 2), start=0.2, end=0.6), tiny.conditioning(POSITIVE, 1), steps=5)
    for kind in ("", "clip_"):
        own = {f"{kind}start_percent": 0.2, f"{kind}end_percent": 0.9}
        ranged = vsf.guide(model, vsf.negative(5, 2, **own), start=0.0, end=0.6)
        assert torch.equal(tiny.sample(ranged, tiny.conditioning(POSITIVE, 1), steps=5), plain)


def test_entries_of_one_conditioning_are_negatives_of_their_own(family, model):
    """Conditioning (Combine) of two negatives is the same as two chained nodes."""
    combined = vsf.guide(model, vsf.negative(5, 2) + vsf.negative(3, 3), bias=0.2)
    chained = vsf.guide(vsf.guide(model, vsf.negative(5, 2), bias=0.2), vsf.negative(3, 3), bias=0.2)
    assert torch.equal(tiny.sample(combined, tiny.conditioning(POSITIVE, 1)),
                       tiny.sample(chained, tiny.conditioning(POSITIVE, 1)))
