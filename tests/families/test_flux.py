"""Flux's relatives and Chroma beside other nodes: cached reference keys, rotary options, Radiance's options."""
from __future__ import annotations

import dataclasses

import cases
import pytest
import tiny
import torch
import vsf
from comfy_extras.nodes_chroma_radiance import ChromaRadianceOptions
from vsf_pack.nodes.glue.reading.conditioning import WORDS

SETTINGS = [(2.0, 0.3), (1.1, 0.0)]


def guided(case, model):
    for c, (scale, bias) in enumerate(SETTINGS):
        model = vsf.guide(model, case.conditioning(3 + c, 50 + c, **{WORDS: 3 + c}), scale, bias)
    return model


def refers(case):
    return case.reference(*(case.negative(3 + c, 50 + c, alpha=a, beta=b) for c, (a, b) in enumerate(SETTINGS)))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def check(case, change) -> None:
    """change(model): another node, on ours and on the reference's model alike; it must matter, and do the same in both."""
    positive = case.conditioning(7, 1)
    out, truth = (case.sample(change(model), positive) for model in (guided(case, cases.load(case.name)), refers(case)))
    assert distance(out, truth) <= 1e-5
    assert distance(case.sample(guided(case, change(cases.load(case.name))), positive), truth) <= 1e-5, "the nodes' order"
    assert distance(case.sample(guided(case, cases.load(case.name)), positive), truth) >= 1e-4, "the other node must matter"


def test_cached_reference_keys():
    """From the second step on FluxKVCache gives attention more keys than queries, the references' behind the image's."""
    nodes_flux = pytest.importorskip("comfy_extras.nodes_flux")
    if not hasattr(nodes_flux, "FluxKVCache"):
        pytest.skip("not in this ComfyUI")
    check(cases.BY_NAME["flux2-klein-edit"], lambda model: nodes_flux.FluxKVCache.execute(model).args[0])


@pytest.mark.parametrize("options", [{"scale_y": 1.5}, {"shift_y": 3.0, "shift_x": 0.0}, {"shift_t": 2.0}])
def test_longcat_obeys_rope_options(options):
    """The user's own win over LongCat's: what they leave out is LongCat's, the length of the positive text."""
    def with_rope(model):
        model = model.clone()
        model.model_options["transformer_options"]["rope_options"] = dict(options)
        return model
    check(cases.BY_NAME["longcat-image"], with_rope)


def test_radiance_numbers_the_text_on_request():
    """ChromaRadianceOptions, for a model that does not say so itself: the negative is the text's end, and has its numbers."""
    if "force_sequential_txt_ids" not in {i.id for i in ChromaRadianceOptions.define_schema().inputs}:
        pytest.skip("not in this ComfyUI")

    def numbered(model):
        return ChromaRadianceOptions.execute(model=model, preserve_wrapper=True, start_sigma=1.0, end_sigma=0.0,
                                             nerf_tile_size=-1, force_sequential_txt_ids=True).args[0]
    check(cases.BY_NAME["chroma-radiance"], numbered)


class BeforeText:
    """What USOStyleReference installs (comfy_extras/nodes_model_patch.py): tokens of a picture, put before the text's."""
    tokens = tiny.tokens(4, 9, width=64)

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, inputs: dict) -> dict:
        txt, ids = inputs["txt"], inputs["txt_ids"]
        self.seen.append(txt.shape[1])
        own = self.tokens.to(txt).expand(len(txt), -1, -1)
        return {**inputs, "txt": torch.cat([own, txt], dim=1), "txt_ids": torch.cat([torch.zeros_like(ids[:, :4]), ids], dim=1)}


@pytest.mark.parametrize("name", ["flux1", "flux1-kontext", "ovis-image"])
def test_a_node_that_lengthens_the_text_inside(name):
    """The node sees the positive's tokens alone, as without us; its own are the positive's."""
    case, seen = cases.BY_NAME[name], []

    def kinds(call, batch, queries, keys):
        text = "PPPP" + call.text_kinds
        return text + "I" * (queries - len(text)), text + "I" * (keys - len(text))

    def styled(model):
        model, patch = model.clone(), BeforeText()
        seen.append(patch.seen)
        model.set_model_post_input_patch(patch)
        return model

    check(dataclasses.replace(case, kinds=kinds), styled)
    assert set(seen[0]) == {7}
