"""HunyuanVideo with what it takes at batch 1 alone (text masks, a reference frame), its refiner, and its first frame."""
from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import cases
import pytest
import reference
import tiny
import torch
import vsf
from cases import Case
from cases.hunyuan_video import REFINED
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from contexts_of import POSITIVE, context_of, given, sample_pack, words_of
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.glue.sampling import run

SETTINGS = [(2.0, 0.3), (1.1, 0.0)]


def guided(case: Case):
    model = cases.load(case.name)
    for c, (scale, bias) in enumerate(SETTINGS):
        model = vsf.guide(model, case.conditioning(3 + c, 50 + c, **{WORDS: 3 + c}), scale, bias)
    return model


def refers(case: Case):
    return case.reference(*(case.negative(3 + c, 50 + c, alpha=a, beta=b) for c, (a, b) in enumerate(SETTINGS)))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def with_options(name: str, **options: Any) -> Case:
    case = cases.BY_NAME[name]
    return dataclasses.replace(case, options=lambda length, seed: {**case.options(length, seed), **options})


def test_text_mask():
    """ComfyUI's own code takes a mask at batch 1 alone."""
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 0]])
    case = cases.BY_NAME["hunyuan-video"]
    positive = case.conditioning(7, 1, attention_mask=mask)
    out = case.sample(guided(case), positive)
    assert distance(out, case.sample(refers(case), positive)) <= 1e-5
    assert distance(out, case.sample(guided(case), case.conditioning(7, 1))) >= 1e-3, "the mask must matter"
    plain = case.sample(cases.load(case.name), positive)
    assert distance(case.sample(vsf.guide(cases.load(case.name), case.conditioning(3, 50, **{WORDS: 3}), 0.0), positive),
                    plain) == 0


def test_a_context_under_a_text_mask(monkeypatch):
    """The prompt once more changes nothing: in the refiner, too, its words are seen, and its padding is as little as before."""
    case = with_options("hunyuan-video", attention_mask=torch.tensor([[1, 1, 1, 1, 1, 0, 1]]))
    monkeypatch.setattr(run, "_same", lambda a, b: False)
    words = words_of(case, "words")
    plain = sample_pack(case, [], 1)
    same, other = (sample_pack(case, [given(case, words, *text)], 1)
                   for text in (case.conditioning(POSITIVE, 1)[0], context_of(case, 50, words)))
    assert distance(same, plain) <= 1e-6
    assert distance(other, plain) >= 1e-4


def test_reference_frame():
    """ref_latent, tokens before the image's, at batch 1 alone."""
    case = with_options("hunyuan-video", ref_latent=tiny.tokens(16, 7, width=4 * 6).view(1, 16, 1, 4, 6))
    positive = case.conditioning(7, 1)
    out = case.sample(guided(case), positive)
    assert distance(out, case.sample(refers(case), positive)) <= 1e-5
    assert distance(out, case.sample(guided(case), cases.BY_NAME[case.name].conditioning(7, 1))) >= 1e-3


@pytest.mark.parametrize("text", [4, 7])
def test_first_frame_shorter_and_longer_than_the_text(text):
    """The first frame has 6 tokens, and the single blocks find them in the text, or in text and image."""
    case = cases.BY_NAME["hunyuan-video-i2v"]
    positive = case.conditioning(text, 1)
    assert distance(case.sample(guided(case), positive), case.sample(refers(case), positive)) <= 1e-5


@pytest.mark.parametrize("name", ["hunyuan-video-1.5", "hunyuan-video-1.5-sr"])
@pytest.mark.parametrize("vision", [0, 5, 14])
def test_first_frame_shorter_and_longer_than_what_stands_before_the_text(name, vision):
    """12 tokens, after CLIP vision and 3 of ByT5."""
    case = with_options(name, guiding_frame_index=0)
    seen = SimpleNamespace(last_hidden_state=tiny.tokens(vision, 8, width=20))
    positive = case.conditioning(7, 1, clip_vision_output=seen)
    assert distance(case.sample(guided(case), positive), case.sample(refers(case), positive)) <= 1e-5


def test_another_nodes_block_replacement_is_kept():
    """ComfyUI's patches_replace, which the first frame's count goes through as well."""
    case, seen = cases.BY_NAME["hunyuan-video-i2v"], []

    def replace(args, extra):
        seen.append(args["modulation_dims"])
        return {"img": 1.25 * extra["original_block"](args)["img"]}

    def replaced(model):
        model = model.clone()
        model.set_model_patch_replace(replace, "dit", "single_block", 0)
        return model

    positive = case.conditioning(7, 1)
    out = case.sample(replaced(guided(case)), positive)
    assert seen and all(dims == [(0, 6 + 3 + 4, 0), (6 + 3 + 4, None, 1)] for dims in seen)
    assert distance(out, case.sample(replaced(refers(case)), positive)) <= 1e-5


def test_a_mean_of_all_prompts_would_be_seen():
    """The comparison's power: attention kept apart, but prompt and negative in one mean."""
    case = cases.BY_NAME["hunyuan-video"]

    def one_mean(call: reference.RefCall) -> None:
        case.lengthen(call)
        call.options[REFINED] = "P" * len(call.text_kinds)

    positive = case.conditioning(7, 1)
    wrong = case.sample(refers(dataclasses.replace(case, lengthen=one_mean)), positive)
    assert distance(wrong, case.sample(refers(case), positive)) >= 1e-4


def test_the_refiner_is_given_back():
    """Without the node the model is bit for bit what it was, before and after."""
    case = cases.BY_NAME["hunyuan-video"]
    positive, model = case.conditioning(7, 1), cases.load(case.name)
    before = case.sample(model, positive)
    assert not torch.equal(case.sample(guided(case), positive), before)
    assert torch.equal(case.sample(model, positive), before)


@pytest.mark.skipif(not vsf.EVERY, reason="half a minute for what tests/glue/test_neighbours.py does with SD 3 (vsf.EVERY)")
def test_torch_compile_does_not_freeze_the_lengths():
    """TorchCompileModel's guard filter; prompt and negative of other lengths, of as many tokens together."""
    case = cases.BY_NAME["hunyuan-video-i2v"]
    model = cases.load(case.name)
    compiled = model.clone()
    torch._dynamo.reset()
    set_torch_compile_wrapper(model=compiled, backend=lambda graph, inputs, **_: graph.forward,
                              options={"guard_filter_fn": skip_torch_compile_dict})
    for text, length in ((7, 5), (8, 4)):
        out, eager = (case.sample(vsf.guide(m, case.conditioning(length, 50, **{WORDS: length})), case.conditioning(text, 1),
                                  steps=1) for m in (compiled, model))
        assert distance(out, eager) <= 1e-5
