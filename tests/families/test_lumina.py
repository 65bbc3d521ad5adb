"""Z-Image beside model patches (Fun ControlNets), with Omni's loose captions, with its patch lost."""
from __future__ import annotations

import dataclasses

import cases
import pytest
import torch
import vsf
from cases.lumina import omni
from vsf_pack.nodes.glue.reading.conditioning import WORDS

SETTINGS = [(2.0, 0.3), (1.1, 0.0)]
PATH = "diffusion_model.patchify_and_embed"


def guided(case, model):
    for c, (scale, bias) in enumerate(SETTINGS):
        model = vsf.guide(model, case.conditioning(3 + c, 50 + c, **{WORDS: 3 + c}), scale, bias)
    return model


def refers(case):
    return case.reference(*(case.negative(3 + c, 50 + c, alpha=a, beta=b) for c, (a, b) in enumerate(SETTINGS)))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a.double() - b.double()).norm() / b.double().norm()).item() <= 1e-5


class AddToImage:
    """Does to the image's tokens what ZImageControlPatch does (comfy_extras/nodes_model_patch.py): in place, from the first."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, kwargs: dict) -> dict:
        img, txt = kwargs.pop("img"), kwargs.pop("txt")
        self.seen.append((txt.shape[1], img.shape[1], kwargs["img_input"].shape[1], kwargs["pe"].shape[1]))
        img[:, :self.tokens] += 0.5 * kwargs["img_input"][:, :self.tokens].roll(1, dims=1) + kwargs["pe"].mean()
        return kwargs


def controlled(model, patch: AddToImage):
    model = model.clone()
    for place in ("double_block", "noise_refiner"):
        model.set_model_patch(patch, place)
    return model


@pytest.mark.parametrize("name", ["z-image", "z-image-pixel"])
def test_model_patches_find_the_image(name):
    case, ours, theirs = cases.BY_NAME[name], AddToImage(12), AddToImage(12)
    positive = case.conditioning(7, 1)
    out = case.sample(controlled(guided(case, cases.load(name)), ours), positive, batch=2)
    assert set(ours.seen) == {(32, 32, 32, 32), (3 + 4 + 32, 32, 32, 32)}, "in the noise refiner; in the blocks"
    assert close(out, case.sample(controlled(refers(case), theirs), positive, batch=2))
    assert not close(out, case.sample(guided(case, cases.load(name)), positive, batch=2))


@pytest.mark.parametrize(("references", "captions", "siglip"), [(1, 3, 2), (2, 3, 0), (2, 0, 1)])
def test_omni_counts_captions_and_siglip(references, captions, siglip):
    """More captions than references (ComfyUI takes those at batch 1 alone), fewer, and references without SigLIP features."""
    case = dataclasses.replace(cases.BY_NAME["z-image-omni"], options=omni(references, captions, siglip))
    positive = case.conditioning(7, 1)
    out = case.sample(guided(case, cases.load(case.name)), positive)
    assert close(out, case.sample(refers(case), positive))
    assert not close(out, case.sample(cases.load(case.name), positive))


def test_a_lost_patch_is_told():
    """Another node puts its own patchify_and_embed over ours: the negatives would never arrive."""
    case = cases.BY_NAME["z-image"]
    model = guided(case, cases.load(case.name))
    model.add_object_patch(PATH, cases.load(case.name).get_model_object(PATH))
    with pytest.raises(RuntimeError, match="VSF: remove .* Expected the attention of Lumina2 to pass"):
        case.sample(model, case.conditioning(7, 1))
