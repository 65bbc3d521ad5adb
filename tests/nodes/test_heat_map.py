"""VSF Heat Map: which run it shows, and how."""
from __future__ import annotations

import gc

import cases
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustom
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.glue.sampling import seen
from vsf_pack.nodes.glue.sampling.drawn import AVERAGE, EACH_STEP, draw, frame_of
from vsf_pack.nodes.glue.sampling.patch import KEY
from vsf_pack.nodes.vsf_guidance import VSFGuidance

import nodes

CASE = cases.BY_NAME["sd3"]
SIZE = (8, 6)


def guided(*seeds: int, model=None):
    model = cases.load("sd3") if model is None else model
    for seed in seeds:
        model = VSFGuidance.execute(model, CASE.conditioning(5, seed, **{WORDS: 5}), 2.0, 0.0, 0.0, 1.0).args[0]
    return model


def sampled(model, seed: int = 0, batch: int = 1, steps: int = 2, **options) -> dict:
    """What KSampler gives."""
    empty = {"samples": torch.zeros(batch, 16, *SIZE)}
    positive, negative = CASE.conditioning(7, 1), CASE.conditioning(3, 9)
    with seen.recorded(), torch.inference_mode():
        return nodes.common_ksampler(model, seed, steps, 1.0, "euler", "simple", positive, negative, empty, **options)[0]


def shown(model, latent: dict, negative: int = 0, show: str = AVERAGE, opacity: float = 0.7, brightest: float = 1.0,
          image=None):
    """overlay, map, mask, numbers."""
    return draw(model, latent, negative, show, opacity, brightest, image)


def test_each_sampler_has_its_own_map():
    """Two samplers with one model, and two stages: the map is of the one whose latent is given."""
    model = guided(2)
    first, second = sampled(model, 0), sampled(model, 1, steps=3)
    maps = [shown(model, latent, show=EACH_STEP)[2] for latent in (first, second, first)]
    assert [len(m) for m in maps] == [2, 3, 2]
    assert torch.equal(maps[0], maps[2])
    assert not torch.equal(maps[0], maps[1][:2])


def test_a_denoised_output_is_known_too():
    """SamplerCustomAdvanced's second output, here of a run that stops early."""
    model, sampler = guided(2), comfy.samplers.sampler_object("euler")
    with seen.recorded(), torch.inference_mode():
        output, denoised = SamplerCustom.execute(model, True, 5, 1.0, CASE.conditioning(7, 1), CASE.conditioning(3, 9), sampler,
                                                 torch.tensor([1.0, 0.7, 0.4]), {"samples": torch.zeros(1, 16, *SIZE)}).args
    assert not torch.equal(output["samples"], denoised["samples"])
    assert torch.equal(shown(model, output)[2], shown(model, denoised)[2])


def test_another_latent_or_model_is_refused():
    model = guided(2)
    latent = sampled(model)
    for other, samples in ((model, {"samples": latent["samples"] + 1e-3}), (guided(2), latent)):
        with pytest.raises(ValueError, match="^VSF: connect what the sampler gives to `latent`"):
            shown(other, samples)
    with pytest.raises(ValueError, match="^VSF: set `negative` between 0 and 1"):
        shown(model, latent, negative=2)


def test_what_other_prompts_do_does_not_mix():
    """Two negatives on one loaded model, sampled in turn."""
    one, other = guided(2), guided(3)
    latents = [sampled(one), sampled(other), sampled(one, 5)]
    maps = [shown(model, latent)[2] for model, latent in zip((one, other, one), latents, strict=True)]
    assert not any(torch.equal(a, b) for a, b in zip(maps, maps[1:], strict=False))
    assert torch.equal(shown(one, latents[0])[2], maps[0])


def test_an_interrupted_run_leaves_nothing():
    model, steps = guided(2), []

    def interrupt(step, *args):
        steps.append(step)
        raise KeyboardInterrupt

    with seen.recorded() as heats, pytest.raises(KeyboardInterrupt):
        CASE.sample(model, CASE.conditioning(7, 1), callback=interrupt)
    assert steps == [0] and not heats and not seen.SEEN.about(model.get_attachment(KEY))


def test_maps_go_with_their_model_and_are_few():
    model = guided(2)
    first, *_, latent = [sampled(model, seed) for seed in range(seen.MOST + 3)]
    patch = model.get_attachment(KEY)
    assert len({id(heat) for heat in seen.SEEN.about(patch).values()}) == seen.MOST
    with pytest.raises(ValueError, match="run again"):
        shown(model, first)
    shown(model, latent)
    key = id(patch)
    assert key in seen.SEEN._of
    del model, patch
    gc.collect()
    assert key not in seen.SEEN._of


def test_without_a_negative_it_is_black():
    """The node may stay in a graph whose negative is empty."""
    overlay, _, mask, numbers = shown(cases.load("sd3"), {"samples": torch.zeros(2, 16, *SIZE)}, negative=3)
    assert mask.shape == (2, 64, 48) and not mask.any()
    assert numbers.startswith("no negative acts: connect the model that comes out of a VSF node")


def test_what_is_drawn():
    model = guided(2, 3)
    latent = sampled(model, batch=2)
    heat = seen.find(model.get_attachment(KEY), latent["samples"])
    assert heat.maps.shape == (2, 3, 2, 1, 4, 3) and heat.cell == (1, 2, 2)
    image = torch.rand(2, 32, 24, 3, generator=torch.Generator().manual_seed(0))
    overlay, alone, mask, _ = shown(model, latent, opacity=0.25, image=image)
    assert overlay.shape == alone.shape == (2, 32, 24, 3) and mask.shape == (2, 32, 24)
    torch.testing.assert_close(overlay, 0.75 * image + 0.25 * alone)
    # eight pixels a token: what bilinear enlarging leaves of each mean
    torch.testing.assert_close(mask.mean((1, 2)), heat.maps[:, 0].mean((0, 2, 3, 4)), atol=2e-3, rtol=0)
    each = shown(model, latent, show=EACH_STEP, image=image)[2]
    assert each.shape == (4, 32, 24)
    torch.testing.assert_close(each.unflatten(0, (2, 2)).mean(1), mask)  # of each picture, step by step
    parts = [shown(model, latent, negative=n)[2] for n in (0, 1, 2)]
    torch.testing.assert_close(parts[0], parts[1] + parts[2])
    assert shown(model, latent, brightest=0.0)[2].amax() == 1


def test_the_numbers_say_it():
    model = guided(2, 3)
    latent = sampled(model)
    heat, text = seen.find(model.get_attachment(KEY), latent["samples"]), shown(model, latent)[3]
    step, block = divmod(int(heat.blocks[:, 0].argmax()), heat.blocks.shape[2])
    assert text.splitlines()[0] == (
        f"all negatives: mean {heat.maps[:, 0].mean():.3f}, strongest place {heat.maps[:, 0].amax():.3f}, "
        f"strongest in attention {block + 1} of {heat.blocks.shape[2]} at step {step + 1}")
    assert "\nnegative 1: " in text and "\nnegative 2: " in text and "brightest colour: 1.000" in text
    late = VSFGuidance.execute(cases.load("sd3"), CASE.conditioning(5, 2, **{WORDS: 5}), 2.0, 0.0, 0.9, 1.0).args[0]
    assert shown(late, sampled(late))[3] == "no negative acted in any step"


@pytest.mark.parametrize(("frames", "cells", "expected"), [
    (9, 3, [0, 1, 1, 1, 1, 2, 2, 2, 2]),
    (5, 5, [0, 1, 2, 3, 4]),
    (1, 1, [0]),
    (4, 1, [0, 0, 0, 0]),
])
def test_frames_of_a_video(frames, cells, expected):
    assert [frame_of(i, frames, cells) for i in range(frames)] == expected


def test_pictures_of_another_number_are_refused():
    model = guided(2)
    with pytest.raises(ValueError, match="^VSF: connect the decoded picture of this very `latent`"):
        shown(model, sampled(model, batch=2), image=torch.zeros(3, 8, 8, 3))
