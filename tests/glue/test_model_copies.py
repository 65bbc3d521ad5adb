"""Clones that ComfyUI puts on another copy of the network (`clone(model_override=...)`: torch.compile and LoRA hooks under
dynamic VRAM, MultiGPU): they run on their own weights, in every family with object patches."""
from __future__ import annotations

import inspect

import cases
import pytest
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from vsf_pack.nodes.glue.families import find_family, object_patches

NAMES = ("sd3", "sd1.5", "flux1", "z-image", "lumina2", "hunyuan-video", "omnigen2", "boogu", "kandinsky5", "pixeldit",
         "ace-step", "ace-step-1.5", "pixart-alpha", "hunyuan-dit", "ernie-image", "qwen-image", "flux2", "ideogram4", "lens",
         "chroma-radiance-x0-sequential")
pytestmark = pytest.mark.skipif("model_override" not in inspect.signature(ModelPatcher.clone).parameters,
                                reason="not in this ComfyUI")


def weights(model, value: float) -> None:
    with torch.no_grad():
        for p in model.model.diffusion_model.parameters():
            p.fill_(value)


def with_lora(model, seed: int = 0):
    """A weight patch on every second matrix, as a LoRA loader adds it."""
    patched, g = model.clone(), torch.Generator().manual_seed(seed)
    keys = [k for k, p in model.model.state_dict().items() if k.startswith("diffusion_model.") and p.ndim == 2][::2]
    patches = {k: ("diff", (0.02 * torch.randn(model.model.state_dict()[k].shape, generator=g),)) for k in keys}
    assert len(patched.add_patches(patches)) == len(keys) > 0
    return patched


@pytest.fixture(params=NAMES)
def case(request):
    case = cases.BY_NAME.get(request.param)
    if case is None or not case.exists:
        pytest.skip("not in this ComfyUI")
    return case


def test_all_families_with_object_patches_are_here():
    """At least one case of each adapter."""
    modules = {find_family(cases.load(name).model) for name in NAMES if name in cases.BY_NAME and cases.BY_NAME[name].exists}
    for case in cases.ALL:
        if case.exists:
            family = find_family(cases.load(case.name).model)
            assert family in modules or not object_patches(family, cases.load(case.name).model), case.name


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_a_copy_runs_its_own_weights(case, lora):
    first, second = (cases.build(case, torch.float32) for _ in range(2))
    positive, negative = case.conditioning(7, 1), case.conditioning(5, 2, vsf_words=5)
    patched = vsf.guide(with_lora(first) if lora else first, negative)
    want = case.sample(patched, positive)
    patched.unpatch_model()
    copy = patched.clone(model_override=(second.model, ({}, {}, {}, set())))
    assert copy.model is second.model
    weights(first, 0.0)
    assert torch.equal(case.sample(copy, positive), want)
    copy.unpatch_model()
    again = vsf.guide(copy, case.conditioning(4, 3, vsf_words=4))  # another negative, chained on the copy
    copied_twice = again.clone()
    assert torch.equal(case.sample(copied_twice, positive), case.sample(again, positive))


@pytest.mark.parametrize("order", ["under", "over"])
def test_what_another_node_put_on_the_same_path_is_kept(order):
    """Another node's object patch, which reads the model that it is called for."""
    case = cases.BY_NAME["z-image"]
    first, second = (cases.build(case, torch.float32) for _ in range(2))
    positive, negative, path = case.conditioning(7, 1), case.conditioning(5, 2, vsf_words=5), "patchify_and_embed"
    calls = []

    def other(patcher):
        patcher = patcher.clone()
        original = patcher.get_model_object(f"diffusion_model.{path}")

        def patch(*args, **kwargs):
            calls.append(1)
            return original(*args, **kwargs)
        patcher.add_object_patch(f"diffusion_model.{path}", patch)
        return patcher
    patched = vsf.guide(other(first), negative) if order == "under" else other(vsf.guide(first, negative))
    copy = patched.clone(model_override=(second.model, ({}, {}, {}, set())))
    case.sample(copy, positive)
    assert calls, "the other node's patch was lost"


def test_patches_that_stand_on_the_model_are_not_patched_again():
    """A loaded model carries the object patches of the last run."""
    case = cases.BY_NAME["z-image"]
    model = cases.build(case, torch.float32)
    negative = case.conditioning(5, 2, vsf_words=5)
    patched = vsf.guide(model, negative)
    want = case.sample(patched, case.conditioning(7, 1))
    patched.patch_model()  # the patches stand on the model when the next node looks at it
    other = vsf.guide(model, negative)
    patched.unpatch_model()
    assert torch.equal(case.sample(other, case.conditioning(7, 1)), want)
