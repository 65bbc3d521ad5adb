"""VSF Prompt and VSF Contrast with ComfyUI's own text encoders and models at toy size."""
from __future__ import annotations

import dataclasses
import functools
import logging

import cases
import encoders
import pytest
import torch
from cases import Case
from comfy_extras.nodes_flux import FluxGuidance
from safetensors.torch import save_file
from vsf_pack.nodes.glue.conditioning import CARRIED
from vsf_pack.nodes.glue.sampling.run import KEY as ATTACHED
from vsf_pack.nodes.vsf_conditioning import VSFConditioning
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance
from vsf_pack.nodes.vsf_prompt import VSFPrompt
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode

from nodes import (
    CLIPTextEncode,
    ConditioningCombine,
    ConditioningConcat,
    ConditioningSetArea,
    ConditioningSetTimestepRange,
)

PROMPT, NEGATIVE = "a red apple on a table", "bad hands"
# name of the encoder -> the case, and its model's widths for this encoder's text
MODELS = {
    "SD 1": ("sd1.5", dict(context_dim=64)),
    "SDXL": ("sdxl", dict(context_dim=128, adm_in_channels=64 + 6 * 256)),
    "SD 3": ("sd3", dict(adm_in_channels=768 + 1280, context_embedder_config={
        "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}})),
    "Flux": ("flux1", dict(context_in_dim=64, vec_in_dim=64)),
    "Qwen-Image": ("qwen-image", dict(joint_attention_dim=32)),
    "Z-Image": ("z-image", dict(cap_feat_dim=32)),
}


@functools.cache
def clip_of(name: str):
    return encoders.build(encoders.ENCODERS[name])


@functools.cache
def model_of(name: str):
    return cases.build(case_of(name), torch.float32)


def case_of(name: str) -> Case:
    own, widths = MODELS[name]
    return dataclasses.replace(cases.BY_NAME[own], unet_config={**cases.BY_NAME[own].unet_config, **widths})


@pytest.fixture(params=MODELS)
def name(request) -> str:
    if not case_of(request.param).exists:
        pytest.skip("not in this ComfyUI")
    return request.param


def encode(name: str, text: str) -> list:
    return CLIPTextEncode().encode(clip_of(name), text)[0]


def prompt(name: str, negative: str = NEGATIVE, strength: float = 1.0, text: str = PROMPT, model=None):
    """The node's two outputs."""
    return VSFPrompt.execute(model_of(name) if model is None else model, clip_of(name), text, negative, strength).args


def sample(name: str, model, positive: list, cfg: float = 1.0) -> torch.Tensor:
    return case_of(name).sample(model, positive, encode(name, ""), cfg=cfg)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def contexts_of(model) -> tuple:
    return model.get_attachment(ATTACHED).negatives


def same_conditioning(a: list, b: list) -> bool:
    def same(x, y) -> bool:
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    return len(a) == len(b) and all(torch.equal(x, y) and o.keys() <= p.keys() and all(same(o[k], p[k]) for k in o)
                                    for (x, o), (y, p) in zip(b, a, strict=True))


def test_the_prompt_is_clip_text_encodes_and_the_negative_acts(name):
    model, positive = prompt(name)
    plain = encode(name, PROMPT)
    assert same_conditioning(positive, plain)
    off = sample(name, model_of(name), plain)
    out = sample(name, model, positive)
    assert torch.isfinite(out).all() and difference(out, off) >= 1e-5


@pytest.mark.parametrize(("negative", "strength"), [("", 1.0), (" \n", 1.0), (NEGATIVE, 0.0), ("a Red apple", 1.0)])
def test_off_is_the_model_itself(name, negative, strength):
    """Nothing to leave out, strength 0, or words of the prompt alone."""
    model, positive = prompt(name, negative, strength)
    assert model is model_of(name)
    assert same_conditioning(positive, encode(name, PROMPT))


def test_a_line_is_a_negative_of_its_own():
    model, positive = prompt("Flux", "hands\n\nblurry\nthe table")
    assert len(contexts_of(model)) == 3
    one, _ = prompt("Flux", "hands")
    assert difference(sample("Flux", model, positive), sample("Flux", one, positive)) >= 1e-5


@pytest.mark.parametrize("same", ["hands:1", "(hands:1.0)", "\n  hands # not these\n# nothing\n", "hands\nclouds:0"])
def test_one_line_is_no_list(same):
    """Bit for bit: its weight is 1, and what is no negative adds nothing."""
    (model, positive), (other, _) = prompt("Flux", "hands"), prompt("Flux", same)
    assert torch.equal(sample("Flux", other, positive), sample("Flux", model, positive))


def test_words_of_the_prompt_are_left_out():
    """"red hands" is "hands" where the apple is red."""
    (model, positive), (other, _) = prompt("Flux", "red hands"), prompt("Flux", "hands")
    assert torch.equal(sample("Flux", model, positive), sample("Flux", other, positive))
    assert len(contexts_of(model)) == 1


def test_a_prompt_of_several_sections():
    text = "apple " * 100
    model, positive = prompt("SD 1", text=text)
    assert positive[0][0].shape[1] == 154
    assert difference(sample("SD 1", model, positive), sample("SD 1", model_of("SD 1"), encode("SD 1", text))) >= 1e-5


CHANGES = {
    "FluxGuidance": lambda c: FluxGuidance.execute(c, 2.5).args[0],
    "set area": lambda c: ConditioningSetArea().append(c, 32, 32, 0, 0, 1.0)[0],
    "time range": lambda c: [*ConditioningSetTimestepRange().set_range(c, 0.0, 0.4)[0],
                             *ConditioningSetTimestepRange().set_range(encode("Flux", "a blurry apple"), 0.4, 1.0)[0]],
    "combine": lambda c: ConditioningCombine().combine(c, encode("Flux", "a blurry apple"))[0],
    "concat": lambda c: ConditioningConcat().concat(c, encode("Flux", "a blurry apple"))[0],
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_contrast_survives_other_nodes(change):
    """Nodes behind VSF Prompt that change its conditioning's options, or put other rows and entries beside."""
    model, positive = prompt("Flux")
    changed = CHANGES[change](positive)
    off = sample("Flux", model_of("Flux"), changed)
    assert difference(sample("Flux", model, changed), off) >= 1e-5


def test_another_prompt_at_the_sampler_is_an_error(name):
    model, _ = prompt(name)
    with pytest.raises(ValueError, match="VSF: connect the `positive` output of VSF Prompt to the sampler"):
        sample(name, model, encode(name, "a blurry table"))


def test_two_prompts_each_with_its_own_negative():
    """Joined by Combine: swapped negatives make another picture, and so does either alone."""
    first, positive = prompt("Flux", "hands")
    both, other = prompt("Flux", "faces", text="a blurry table", model=first)
    out = sample("Flux", both, ConditioningCombine().combine(positive, other)[0])
    second, _ = prompt("Flux", "faces", text="a blurry table")
    joined = ConditioningCombine().combine(positive, other)[0]
    for model in (first, second, model_of("Flux")):
        assert difference(sample("Flux", model, joined), out) >= 1e-5


def test_contrast_is_the_same_rule(name):
    """VSF Contrast with the context encoded by hand, whole rows of both; strength 0 is the model itself."""
    positive, context = encode(name, PROMPT), encode(name, f"{PROMPT}, {NEGATIVE}")
    model = VSFContrast.execute(model_of(name), context, 1.0, 0.0, 1.0).args[0]
    assert difference(sample(name, model, positive), sample(name, model_of(name), positive)) >= 1e-5
    same = VSFContrast.execute(model_of(name), positive, 1.0, 0.0, 1.0).args[0]
    assert torch.equal(sample(name, same, positive), sample(name, model_of(name), positive))
    assert VSFContrast.execute(model_of(name), context, 0.0, 0.0, 1.0).args[0] is model_of(name)


@pytest.mark.parametrize("strength", [-0.1, 3.5, float("nan"), "1"])
def test_a_strength_that_is_none(strength):
    with pytest.raises(ValueError, match="VSF: set `strength` between 0 and 3"):
        prompt("Flux", strength=strength)
    with pytest.raises(ValueError, match="VSF: set `strength` between 0 and 3"):
        VSFContrast.execute(model_of("Flux"), encode("Flux", PROMPT), strength, 0.0, 1.0)


def test_contrast_without_a_prompt():
    with pytest.raises(ValueError, match="VSF: "):
        VSFContrast.execute(model_of("Flux"), [], 1.0, 0.0, 1.0)


def test_embeddings_in_lines(tmp_path, caplog):
    """A file of three vectors, by itself, weighted as ComfyUI weights it, among words; and one that is not there."""
    save_file({"emb_params": torch.randn(3, 64, generator=torch.Generator().manual_seed(1))}, tmp_path / "rust.safetensors")
    clip = encoders.build(encoders.ENCODERS["SD 1"], embedding_directory=str(tmp_path))
    lines = ["embedding:rust", "(embedding:rust:1.3)", "wheels embedding:rust table"]
    with caplog.at_level(logging.INFO, "vsf"):
        (rows, options), = VSFConditioning.execute(clip, "a red apple", "\n".join([*lines, "embedding:nowhere"]), 1.0).args[0]
    assert '"embedding:nowhere" is off: the text encoder makes nothing of it' in caplog.text
    contexts = options[CARRIED]
    assert [(c.name, c.strength) for c in contexts] == [(line, 1.0) for line in lines]
    for context, words in zip(contexts, (3, 3, 5), strict=True):
        assert torch.equal(context.tokens, CLIPTextEncode().encode(clip, f"a red apple, {context.name}")[0][0][0])
        assert int(context.own["cross_attn"].sum()) == 1 + 3 + 1 + words + 1, "start, prompt, comma, vectors and words, end"
        assert torch.equal(rows, context.prompt) and int(context.words["cross_attn"].sum()) == 5
    alone, weighted, among = (c.tokens for c in contexts)
    assert not torch.equal(alone, weighted) and not torch.equal(alone, among)


@pytest.mark.parametrize("name", ["SD 3", "SD 1", "Z-Image"])
def test_a_prompt_with_negatives_by_the_papers_rule(name):
    """Bit for bit what VSF Guidance makes of each line, with its weight; without a scale, VSF Prompt's rule."""
    clip, model = clip_of(name), model_of(name)
    own = VSFConditioning.execute(clip, PROMPT, "bad hands:0.5\nblurry", 2.0, scale=1.5, bias=0.2).args[0]
    assert same_conditioning([[own[0][0], {}]], [[encode(name, PROMPT)[0][0], {}]])
    guided = model
    for line, scale in (("bad hands", 1.5), ("blurry", 3.0)):
        guided = VSFGuidance.execute(guided, VSFTextEncode.execute(clip, line).args[0], scale, 0.2, 0.0, 1.0).args[0]
    out = sample(name, model, own)
    assert torch.equal(out, sample(name, guided, encode(name, PROMPT)))
    assert difference(out, sample(name, model, encode(name, PROMPT))) >= 1e-5
    other = VSFConditioning.execute(clip, PROMPT, "bad hands:0.5\nblurry", 2.0, bias=0.2).args[0]
    prompted, positive = VSFPrompt.execute(model, clip, PROMPT, "bad hands:0.5\nblurry", 2.0).args
    assert torch.equal(sample(name, model, other), sample(name, prompted, positive))
    assert difference(out, sample(name, model, other)) >= 1e-5


def test_a_scale_beyond_its_limit():
    with pytest.raises(ValueError, match="VSF: lower `scale`, its `curve` or the strength of `negative`. .* at most 10 .* 12"):
        VSFConditioning.execute(clip_of("SD 1"), PROMPT, "hands", 2.0, scale=6.0)
    with pytest.raises(ValueError, match="VSF: set `scale` between 0 and 10. .* found 11"):
        VSFConditioning.execute(clip_of("SD 1"), PROMPT, "hands", 2.0, scale=11.0)
