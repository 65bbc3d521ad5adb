"""What is peculiar to Wan: attentions with as many keys as the text, and audio that other nodes patch in."""
from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import cases
import comfy.ops
import pytest
import tiny
import torch
import vsf
from cases.wan import _WAN, _vision
from comfy.ldm.wan.model_multitalk import MultiTalkCrossAttnPatch, SingleStreamMultiAttention
from comfy_extras import nodes_wan
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from within import random


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def sample_both(case: cases.Case, positive: int, negatives: list[int], change=lambda model: model) -> list[torch.Tensor]:
    """By the node, and by the reference."""
    model = change(cases.load(case.name))
    for c, length in enumerate(negatives):
        model = vsf.guide(model, case.conditioning(length, 50 + c, **{WORDS: length}), 2.0, 0.3)
    truth = change(case.reference(*(case.negative(n, 50 + c, alpha=2.0, beta=0.3) for c, n in enumerate(negatives))))
    return [case.sample(m, case.conditioning(positive, 1)) for m in (model, truth)]


@pytest.mark.parametrize("vision", [257, 514])
@pytest.mark.parametrize("negatives", [[5], [2, 3]], ids=["one negative", "two negatives"])
def test_as_many_tokens_of_text_as_of_clip_vision(vision, negatives):
    """The numbers of one and of two pictures; the text's attention is flipped and the picture's is not."""
    case = dataclasses.replace(cases.BY_NAME["wan2.1-i2v"], options=lambda *_: {"clip_vision_output": _vision(vision)})
    out, truth = sample_both(case, vision - sum(negatives), negatives)
    assert relative_error(out, truth) <= 1e-5


@pytest.mark.parametrize("negatives", [[5], [2, 3]], ids=["one negative", "two negatives"])
def test_as_many_tokens_of_text_as_of_video(negatives):
    case = cases.BY_NAME["wan2.1-t2v"]
    out, truth = sample_both(case, 18 - sum(negatives), negatives)
    assert relative_error(out, truth) <= 1e-5


@pytest.mark.parametrize("negatives", [[9], [4, 5]], ids=["one negative", "two negatives"])
def test_as_many_tokens_of_text_as_of_audio(negatives):
    """HuMo's audio cross-attention has 16 keys."""
    out, truth = sample_both(cases.BY_NAME["wan2.1-humo"], 7, negatives)
    assert relative_error(out, truth) <= 1e-5


def test_multitalk_audio_is_not_flipped():
    """A patch of the core node WanInfiniteTalkToVideo, here with just as many tokens of audio as of text."""
    case = cases.BY_NAME["wan2.1-t2v"]

    def talk(model):
        dtype = model.model.get_dtype()
        attention = SingleStreamMultiAttention(48, 8, 2, True, dtype=dtype, operations=comfy.ops.disable_weight_init)
        tiny.randomise(attention)
        block = SimpleNamespace(norm_x=torch.nn.Identity(), audio_cross_attn=attention.requires_grad_(False))
        patch = MultiTalkCrossAttnPatch(SimpleNamespace(model=SimpleNamespace(blocks=[block] * 2)))
        model = model.clone()
        model.set_model_patch(lambda kwargs: patch(kwargs), "attn2_patch")
        model.model_options["transformer_options"]["audio_embeds"] = random(14, 1, 3, 10, 8).to(dtype)
        return model

    out, truth = sample_both(case, 7, [3], talk)
    assert relative_error(out, truth) <= 1e-5
    assert relative_error(sample_both(case, 7, [3])[0], truth) >= 1e-2, "the audio must matter, or the test proves nothing"


def test_causal_wan_is_refused():
    case = cases.Case("causal", "WAN21_CausalAR_T2V", _WAN, (16, 3, 4, 6), 24)
    if not case.exists:
        pytest.skip("not in this ComfyUI")
    with pytest.raises(ValueError, match="VSF: bypass .* found WAN21_CausalAR, CausalWanModel, .*block by block"):
        vsf.guide(cases.build(case, torch.float32), case.conditioning(5, 50))

@pytest.mark.skipif(not cases.BY_NAME["wan-animate-2"].exists, reason="not in this ComfyUI")
def test_animate_2_keeps_no_negative_in_its_pose_cache():
    """WanAnimate2Cache keeps what the first step makes of the pose video for all others, also for those without a negative."""
    case = cases.BY_NAME["wan-animate-2"]
    model = cases.load(case.name)
    cached = nodes_wan.WanAnimate2Cache.execute(model, "cpu").args[0]
    negative = case.conditioning(5, 50, **{WORDS: 5})
    out, expected = (case.sample(vsf.guide(m, negative, end=0.5), case.conditioning(7, 1)) for m in (cached, model))
    assert not torch.equal(expected, case.sample(model, case.conditioning(7, 1)))
    assert torch.equal(out, expected)
