"""Blocks: a negative acts in some of them alone, and rests in the others."""
from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import cases
import comfy.cldm.cldm
import comfy.controlnet
import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.ops
import pytest
import tiny
import torch
import vsf
from comfy.ldm.modules.attention import attention_pytorch
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from neighbours import compiled
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.families.counting import Count, count_blocks, recounted
from vsf_pack.nodes.glue.sampling import patch
from vsf_pack.nodes.glue.sampling.seen import recorded
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance
from vsf_pack.vsf_core.dense import vsf_attention_dense

from nodes import ControlNetApply

OF_MANY_KINDS = ["sd3", "flux1", "flux2", "qwen-image", "lumina2", "hidream-i1", "kandinsky5", "sd1.5", "wan2.1-t2v"]


def guided(case, blocks: str, model=None):
    model = cases.load(case.name) if model is None else model
    return VSFGuidance.execute(model, case.conditioning(3, 2, vsf_words=3), 2.0, 0.3, 0.0, 1.0, "constant", blocks).args[0]


def contrasted(case, blocks: str, model=None):
    model = cases.load(case.name) if model is None else model
    return VSFContrast.execute(model, case.conditioning(9, 3), 1.0, 0.0, 1.0, "constant", blocks).args[0]


@pytest.fixture(params=[guided, contrasted])
def rule(request):
    return request.param


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


class Dense(VSFAttention):
    """Both rules by dense masks, in double precision (vsf_core/dense.py)."""

    def join(self, layout: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, *args: Any,
             **kwargs: Any) -> torch.Tensor:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return vsf_attention_dense(q, k, v, layout).to(q.dtype)


@pytest.mark.parametrize("name", OF_MANY_KINDS)
def test_some_blocks_equal_the_reference(name, rule):
    """Where it rests, its columns are hidden; a second negative acts in all of them."""
    case = cases.BY_NAME[name]
    positive = case.conditioning(7, 1)
    both = guided(case, "", rule(case, "1"))
    dense = patch.attach(cases.load(name), both.get_attachment("vsf").negatives, Dense)
    out = case.sample(both, positive)
    assert relative_error(out, case.sample(dense, positive)) <= 1e-5
    assert relative_error(out, case.sample(guided(case, "", rule(case, "")), positive)) >= 1e-4
    assert relative_error(out, case.sample(guided(case, ""), positive)) >= 1e-4


@pytest.mark.parametrize("name", ["flux1", "sd1.5"])
def test_all_blocks_are_the_neutral_setting(name, rule):
    """Empty is no range: bit for bit. A range of all of them is the same; none is the model without the negative."""
    case = cases.BY_NAME[name]
    positive, total = case.conditioning(7, 1), count_blocks(cases.load(name).model.diffusion_model).blocks
    plain = case.sample(rule(case, ""), positive)
    assert torch.equal(case.sample(rule(case, f"0-{total - 1}"), positive), plain)
    thirds = [case.sample(rule(case, third), positive) for third in ("first third", "last third")]
    assert all(relative_error(out, plain) >= 1e-4 for out in thirds) and relative_error(*thirds) >= 1e-4


def test_blocks_that_are_not_there(rule):
    case = cases.BY_NAME["flux1"]
    total = count_blocks(cases.load("flux1").model.diffusion_model).blocks
    with pytest.raises(RuntimeError, match=f"VSF: set `blocks` to numbers from 0 to {total - 1}. .* found 99"):
        case.sample(rule(case, "0, 99"), case.conditioning(7, 1))


def test_torch_compile(monkeypatch):
    """One compiled model, one range after another: one that stays behind would be seen."""
    monkeypatch.setattr(mmdit, "optimized_attention", attention_pytorch)  # as on a GPU
    case, positive = cases.BY_NAME["sd3"], cases.BY_NAME["sd3"].conditioning(7, 1)
    base, thirds = compiled(cases.load("sd3")), ("first third", "last third")
    wants = [case.sample(guided(case, third), positive, steps=1) for third in thirds]
    assert relative_error(*wants) >= 1e-4
    for third, want in zip(thirds, wants, strict=True):
        assert relative_error(case.sample(guided(case, third, base), positive, steps=1), want) <= 1e-5, third


# -- counting ---------------------------------------------------------------------------------------------------------

OF_THEIR_OWN = {
    "ltx-2": Count(2, 2),  # each block has the video and then its sound read the prompt
    "ltx-2-reference-audio": Count(2, 2),
    "ltx-2-connected": Count(2, 2),
    "ltx-2.3": Count(2, 2),
    "stable-audio-3": Count(2, 2),  # differential attention is two
    "stable-audio-3-unpadded": Count(2, 2),
    "wan2.1-i2v-no-vision": Count(2, 2),  # reads the text once more where the picture's tokens would be
    "sd-x4-upscaler": Count(13),  # some blocks have no attention but with the prompt, twice; others have it once
}
"""Cases whose lists of blocks do not tell how many attentions there are: counted in the run's first call."""


def counts_in(case, model) -> set[tuple[Count, Count]]:
    """What the lists say and what a forward does, in a sampling run."""
    found = set()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(patch, "recounted", lambda *told: found.add((told[0], recounted(*told))) or recounted(*told))
        case.sample(model, case.conditioning(7, 1), steps=1)
    return found


OF_EACH_MODEL = list({case.config: case.name for case in reversed(cases.ALL)}.values())
COUNTED = [case.name for case in cases.ALL if vsf.EVERY or case.name in OF_EACH_MODEL or case.name in OF_THEIR_OWN]
"""All of them; in a plain run the first case of each of ComfyUI's models, and those that differ."""


@pytest.mark.parametrize("name", COUNTED)
def test_blocks_are_counted(name):
    case = cases.BY_NAME[name]
    (listed, shown), = counts_in(case, guided(case, "first third"))
    assert shown == OF_THEIR_OWN.get(name, listed) and shown.blocks


def acting_in(attentions: int, acting: set[int]):
    """RefNegative.share of a negative that acts in some of the attentions of the image with the text, of so many a forward."""
    numbers = itertools.cycle(range(attentions))
    return lambda tokens: torch.full((1, tokens), float(next(numbers) in acting))


@pytest.mark.parametrize(("name", "attentions", "third", "acting"), [
    ("sd3", 2, "last third", {1}),
    ("sd3.5-medium", 2, "first third", {0}),
    ("flux1", 4, "middle third", {1, 2}),
    ("ltx-2", 4, "first third", {0, 1}),
    ("stable-audio-3", 4, "last third", {2, 3}),
    ("wan2.1-i2v-no-vision", 4, "last third", {2, 3}),
    ("ace-step-1.5", 2, "first third", {0}),
    ("hidream-o1", 2, "last third", {1}),
    ("chroma-radiance", 4, "first third", {0}),
    ("sd-x4-upscaler", 13, "middle third", {4, 5, 6, 7, 8}),
])
def test_thirds_equal_the_reference(name, attentions, third, acting):
    """One that counts by itself, in models of each kind: whose lists tell, and whose lists do not."""
    case = cases.BY_NAME[name]
    negative, positive = case.negative(3, 2, alpha=2.0, beta=0.3), case.conditioning(7, 1)
    some = dataclasses.replace(negative, share=acting_in(attentions, acting))
    truth = case.sample(case.reference(some), positive)
    assert relative_error(case.sample(guided(case, third), positive), truth) <= 1e-5
    assert relative_error(case.sample(guided(case, ""), positive), truth) >= 1e-4


@pytest.mark.parametrize(("name", "kind", "layer", "block", "whole", "less"), [
    ("sd3", "double", 0, "1", (2, {1}), (1, {0})),
    ("flux1", "double", 1, "2", (4, {2}), (3, {1})),
    ("flux1", "single", 0, "2", (4, {2}), (3, set())),
    ("kandinsky5", "double", 0, "1", (2, {1}), (1, {0})),
    ("ltx-2", "double", 0, "1", (4, {2, 3}), (2, {0, 1})),
])
def test_blocks_behind_a_skipped_layer_keep_their_numbers(name, kind, layer, block, whole, less):
    """In the extra pass of core's skip-layer guidance, and where each call of the model skips it. whole, less: attentions of a
    forward, and those among them in which the negative acts, of one with all layers and of one without it."""
    case, positive = cases.BY_NAME[name], cases.BY_NAME[name].conditioning(7, 1)
    negative = case.negative(3, 2, alpha=2.0, beta=0.3)

    def in_an_extra_pass(model):
        layers = {"double_layers": "", "single_layers": "", f"{kind}_layers": str(layer)}
        return SkipLayerGuidanceDiT.execute(model, 2.0, 0.0, 1.0, **layers).args[0]

    def always(model):
        model = model.clone()
        model.set_model_patch_replace(lambda args, extra: args, "dit", f"{kind}_block", layer)
        return model

    both = whole[0] + less[0], whole[1] | {whole[0] + i for i in less[1]}
    for skipping, acting in ((in_an_extra_pass, both), (always, less)):
        some = dataclasses.replace(negative, share=acting_in(*acting))
        truth = case.sample(skipping(case.reference(some)), positive)
        assert relative_error(case.sample(skipping(guided(case, block)), positive), truth) <= 1e-5
        assert relative_error(case.sample(skipping(guided(case, "0")), positive), truth) >= 1e-4


@pytest.mark.parametrize("name", ["flux1", "sd1.5"])
def test_a_model_whose_lists_say_nothing(name, rule, monkeypatch):
    """As a newer ComfyUI may bring one: its first call tells, bit for bit. A heat map sees each call once."""
    case = cases.BY_NAME[name]
    count = count_blocks(cases.load(name).model.diffusion_model)
    with recorded() as heats:
        want = case.sample(rule(case, "first third"), case.conditioning(7, 1))
        for wrong in (Count(0), Count(2 * count.blocks + 1)):
            monkeypatch.setattr(patch, "count_blocks", lambda model, wrong=wrong: wrong)
            assert torch.equal(case.sample(rule(case, "first third"), case.conditioning(7, 1)), want)
    assert len(heats) == 3 and all(torch.equal(heat.blocks, heats[0].blocks) for heat in heats)


def test_a_model_that_is_counted_has_its_control_net(monkeypatch):
    """The UNet takes a ControlNet's outputs out of their lists: the call after the one that counted needs them too."""
    case = cases.BY_NAME["sd1.5"]
    config = {name: o for name, o in case.unet_config.items() if name not in ("out_channels", "disable_unet_model_creation")}
    control = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init)
    tiny.randomise(control, 0.3)
    net = comfy.controlnet.ControlNet(control.eval(), load_device=torch.device("cpu"))
    hint = torch.rand(1, 64, 48, 3, generator=torch.Generator().manual_seed(3))
    positive, plain = ControlNetApply().apply_controlnet(case.conditioning(7, 1), net, hint, 1.0)[0], case.conditioning(7, 1)
    model = guided(case, "first third")
    want = case.sample(model, positive)
    assert relative_error(case.sample(model, plain), want) >= 1e-3
    monkeypatch.setattr(patch, "count_blocks", lambda model: Count(0))
    assert torch.equal(case.sample(model, positive), want)


def test_calls_that_skip_layers_count_nothing():
    """Core's skip-layer guidance asks the model once more in each step: as often with a third of the blocks as with all."""
    case = cases.BY_NAME["sd3"]
    model, calls = cases.load("sd3"), []
    hook = model.model.diffusion_model.register_forward_hook(lambda *args: calls.append(1))
    try:
        for where in ("", "first third"):
            skipping = SkipLayerGuidanceDiT.execute(guided(case, where), 2.0, 0.0, 1.0, "1", "", 0.0).args[0]
            case.sample(skipping, case.conditioning(7, 1), cfg=2.0, steps=3)
            calls.append(0)
    finally:
        hook.remove()
    half = len(calls) // 2
    assert calls[:half] == calls[half:] == [1] * (half - 1) + [0] and half > 2 * 3
