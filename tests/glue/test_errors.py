"""What cannot work is said, with VSF's name, what was expected, what was found and what to do."""
from __future__ import annotations

import logging
import re
from typing import Any

import cases
import comfy.hooks
import comfy.supported_models
import encoders
import pytest
import tiny
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from vsf_pack.nodes.glue.families import FAMILIES, find_family
from vsf_pack.nodes.glue.families.widths import text_width
from vsf_pack.nodes.glue.reading.conditioning import WORDS, without_padding
from vsf_pack.nodes.inputs import WAITING
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_prompt import VSFPrompt

POSITIVE = tiny.conditioning(7, 1)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("settings", "message"), [
    (dict(scale=NAN), "set `scale` between 0 and 10. Expected .*, found nan"),
    (dict(scale=INF), "set `scale` between 0 and 10. Expected .*, found inf"),
    (dict(scale=-1.0), "set `scale` between 0 and 10. Expected .*, found -1.0"),
    (dict(scale="2"), "set `scale` between 0 and 10. Expected a number .*, found '2'"),
    (dict(scale=None), "set `scale` between 0 and 10. Expected a number .*, found None"),
    (dict(bias=-0.1), "set `bias` between 0 and 5. Expected .*, found -0.1"),
    (dict(bias=NAN), "set `bias` between 0 and 5. Expected .*, found nan"),
    (dict(start=1.5), "set `start_percent` between 0 and 1. Expected .*, found 1.5"),
    (dict(end=NAN), "set `end_percent` between 0 and 1. Expected .*, found nan"),
    (dict(start=0.7, end=0.3), "set start_percent below end_percent. Expected a time in which to act, found 0.7 to 0.3"),
])
def test_settings(settings, message):
    with pytest.raises(ValueError, match=f"^VSF: {message}"):
        vsf.guide(tiny.cached("sd3"), vsf.negative(), **settings)


def hooked(strength_model: float) -> list:
    return [[torch.ones(1, 3, 24), {"hooks": comfy.hooks.create_hook_lora({}, strength_model, 1.0)}]]


CONDITIONINGS = [
    ([], "connect VSF Text Encode to `negative`. Expected .*, found an empty one"),
    (None, "found an empty one"),
    ("wheels", "found str"),
    ([None], "Expected prompts of text tokens and options, found NoneType"),
    ([torch.ones(1, 3, 24)], r"Expected prompts of text tokens and options, found \(1, 3, 24\)"),
    ([[torch.ones(1, 3, 24)]], "Expected prompts of text tokens and options, found list"),
    ([[torch.ones(1, 3, 24), None]], "Expected prompts of text tokens and options, found list"),
    ([[torch.zeros(1, 24), {}]], r"found \(1, 24\)"),
    ([[torch.ones(0, 3, 24), {}]], r"found \(0, 3, 24\)"),
    ([[torch.ones(1, 3, 0), {}]], r"found \(1, 3, 0\)"),
    ([[None, {}]], "found NoneType"),
    ([[torch.ones(1, 3, 24, device="meta"), {}]], r"found tokens without values \(meta\)"),
    ([[torch.ones(1, 3, 24, dtype=torch.int64), {}]], "found tokens in torch.int64"),
    ([[torch.ones(1, 3, 24).to_sparse(), {}]], "found tokens in torch.float32, torch.sparse_coo"),
    ([[torch.full((1, 3, 24), NAN), {}]], "encode `negative` in another precision.* not finite"),
    ([[torch.full((1, 3, 24), INF), {}]], "encode `negative` in another precision.* not finite"),
    ([[torch.ones(1, 3, 24), {"area": (8, 8, -1, 0)}]], r"set the area of the negative anew.*found \(8, 8, -1, 0\)"),
    ([[torch.ones(1, 3, 24), {"mask": torch.ones(8)}]], r"connect a mask to `mask`.*found one of shape \(8,\)"),
    ([[torch.ones(1, 3, 24), {"mask": torch.full((8, 8), NAN)}]], "make the mask anew.*not finite"),
    ([[torch.ones(1, 3, 24), {"strength": -1.0}]], "set `strength` of the prompt in `negative` .*, found -1.0"),
    ([[torch.ones(1, 3, 24), {"strength": "1"}]], "set `strength` of the prompt in `negative` .*, found '1'"),
    ([[torch.ones(1, 3, 24), {"strength": 6.0}]], "lower `scale`, its `curve` or the strength .* at most 10 .*, found 12"),
    ([[torch.ones(1, 3, 24), {"start_percent": NAN}]], "set `start_percent` of the prompt in `negative` .*, found nan"),
    ([[torch.ones(1, 3, 24), {WORDS: "3"}]], "Expected a number of words in vsf_words, found '3'"),
    (hooked(1.0), r"take the hooks off `negative` .* found hooks on the model \(WeightHook\)"),
]


@pytest.mark.parametrize(("conditioning", "message"), CONDITIONINGS)
def test_conditioning(conditioning, message):
    with pytest.raises(ValueError, match=f"^VSF: .*{message}"):
        vsf.guide(tiny.cached("sd3"), conditioning)


@pytest.mark.parametrize(("conditioning", "message"), [o for o in CONDITIONINGS if "`scale`" not in o[1]])
def test_context(conditioning, message):
    """The same at VSF Contrast, by the name of its own input."""
    message = message.replace("VSF Text Encode", "the prompt with the negative behind it,.*").replace("`negative`", "`context`")
    with pytest.raises(ValueError, match=f"^VSF: .*{message}") as error:
        VSFContrast.execute(tiny.cached("sd3"), conditioning, 1.0, 0.0, 1.0)
    assert "`negative`" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_tokens_of_another_type_act_by_their_values(dtype):
    """In 8 bits torch can neither compare nor join them."""
    model, tokens = tiny.cached("sd3"), tiny.tokens(5, 2).to(dtype)
    other, same = ([[t, {WORDS: 5}]] for t in (tokens, tokens.float()))
    assert torch.equal(tiny.sample(vsf.guide(model, other), POSITIVE), tiny.sample(vsf.guide(model, same), POSITIVE))


DIFFERENT_BUILDS = ["sd3", "sd1.5", "wan2.1-t2v", "z-image"]


@pytest.mark.parametrize("name", DIFFERENT_BUILDS)
def test_tokens_too_large_to_compute_with(name):
    """Finite, but their products are not: the picture would be NaN."""
    case = cases.BY_NAME[name]
    (tokens, options), = case.conditioning(5, 2, **{WORDS: 5})
    with pytest.raises(ValueError, match=r"^VSF: encode `negative` again.* Expected values up to 1e\+09, .*, found 1e\+30"):
        vsf.guide(cases.load(name), [[tokens.clamp(-1, 0) * 1e29 + 1e30, options]])
    largest = [[tokens / tokens.abs().max() * 1e9, options]]
    assert torch.isfinite(case.sample(vsf.guide(cases.load(name), largest), case.conditioning(7, 1))).all()


def test_tokens_too_large_for_half_precision():
    case = cases.BY_NAME["wan2.1-t2v"]
    (tokens, options), = case.conditioning(5, 2, **{WORDS: 5})
    with pytest.raises(ValueError, match="Expected values up to 65504, .*, found 70000"):
        vsf.guide(cases.build(case, torch.float16), [[tokens / tokens.abs().max() * 7e4, options]])


WIDTH_UNKNOWN = ("anima", "ltx-2", "qwen-image-2.1", "prefix-stand-in", "hidream-o1")  # how their cases' names begin


@pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.name)
def test_width_of_another_text_encoder(case):
    """Said at the node: a model's own first layer for text tells."""
    model, tokens = cases.load(case.name), tiny.tokens(5, 2, width=case.width + 8)
    width = text_width(find_family(model.model), model.model)
    if case.name in ("cosmos", "cosmos-i2v") or case.name.startswith(WIDTH_UNKNOWN):
        assert width is None
        return
    assert width == case.width
    with pytest.raises(ValueError, match="^VSF: encode the negative with the text encoder .CLIP. of this model. Expected a "
                                         f"negative of width {case.width}, .* found {case.width + 8}"):
        vsf.guide(model, [[tokens, {**case.options(5, 2), WORDS: 5}]])


@pytest.mark.parametrize("name", ["flux1", "sd1.5", "qwen-image"])
def test_contexts_that_do_not_fit(name):
    """As a negative, at VSF Contrast and VSF Prompt too; and a window that ends before it begins."""
    case = cases.BY_NAME[name]
    model, (tokens, options) = cases.load(name), case.conditioning(5, 2)[0]
    wide = [[tiny.tokens(5, 2, width=case.width + 8), options]]
    with pytest.raises(ValueError, match=f"^VSF: encode the negative with .* width {case.width}, .* found {case.width + 8}"):
        VSFContrast.execute(model, wide, 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"^VSF: encode `context` again.* Expected values up to 1e\+09, .*, found 1e\+30"):
        VSFContrast.execute(model, [[tokens / tokens.abs().max() * 1e30, options]], 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="^VSF: encode `context` in another precision; .* not finite"):
        VSFContrast.execute(model, [[tokens * NAN, options]], 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="^VSF: set start_percent below end_percent. .* found 0.6 to 0.5"):
        VSFContrast.execute(model, [[tokens, options]], 1.0, 0.6, 0.5)
    clip = encoders.build(encoders.ENCODERS["PixArt, Chroma"], embedding_directory="")
    with pytest.raises(ValueError, match=f"^VSF: encode the negative with .* width {case.width}, .* found 64"):
        VSFPrompt.execute(model, clip, "a red apple", "table", 1.0)


def test_width_that_only_the_positive_tells():
    case = cases.BY_NAME["cosmos"]
    negative = [[tiny.tokens(5, 2, width=16), {**case.options(5, 2), WORDS: 5}]]
    with pytest.raises(ValueError, match="VSF: encode .* of width 24, as the positive prompt has, found 16"):
        case.sample(vsf.guide(cases.load(case.name), negative), case.conditioning(7, 1))


def test_call_without_text(model):
    with pytest.raises(ValueError, match="VSF: connect .* Expected a model that takes text, found a call without text"):
        tiny.sample(vsf.guide(model, vsf.negative()), [[None, POSITIVE[0][1]]])


def unsupported(name: str, config: dict) -> ModelPatcher:
    """A real ComfyUI BaseModel of a class that has no adapter."""
    supported = getattr(comfy.supported_models, name)(config)
    return ModelPatcher(supported.get_model({}, "", device="cpu"), torch.device("cpu"), torch.device("cpu"))


def test_model_of_another_family(monkeypatch):
    """A class that nobody taught, as a newer ComfyUI may bring one."""
    monkeypatch.delitem(FAMILIES, "comfy.ldm.aura.mmdit.MMDiT")
    config = dict(image_model="aura_flow", in_channels=4, out_channels=4, dim=64, n_layers=3, n_double_layers=1, n_heads=2,
                  global_conddim=64, cond_seq_dim=24, max_seq=256)
    model = unsupported("AuraFlow", {k: v for k, v in config.items() if k != "image_model"})
    for negative in (vsf.negative(), tiny.conditioning(3, 2, **{WORDS: 0})):
        with pytest.raises(ValueError) as error:
            vsf.guide(model, negative)
        assert re.fullmatch(r"VSF: bypass or remove the VSF node for this model\. Expected a supported one "
                            r"\(nearest by name: [^;]+; [^;]+; [^;]+; the log has all\), found AuraFlow, MMDiT\. "
                            r"Its text seems to be an ordinary .*: CONTRIBUTING.md, \"Teach VSF a new model\"\.",
                            str(error.value))
    assert vsf.guide(model, vsf.negative(), scale=0.0) is model


def forget(monkeypatch, name: str) -> Any:
    """The model of a case, whose class nobody taught."""
    model = cases.load(name)
    cls = type(model.model.diffusion_model)
    monkeypatch.delitem(FAMILIES, f"{cls.__module__}.{cls.__qualname__}")
    return model


@pytest.mark.parametrize(("name", "nearest"), [("wan2.1-vace", "Wan"), ("flux1", ""), ("z-image", "Lumina 2"),
                                               ("cosmos-predict2", "Cosmos 1")])
def test_a_class_that_can_probably_be_taught(monkeypatch, name, nearest, caplog):
    """An ordinary context, and attention that passes ComfyUI's override; the log has the names of all that are supported."""
    with pytest.raises(ValueError, match=f'^VSF: bypass .* name: {nearest}.*"Teach VSF a new model"') as error, caplog.at_level(
            logging.INFO, "vsf"):
        vsf.guide(forget(monkeypatch, name), vsf.negative())
    assert len(str(error.value)) < 500
    assert all(label in caplog.text for _, label in FAMILIES.values())


@pytest.mark.parametrize("name", ["pixart-sigma", "ernie-image"])
def test_a_class_whose_attention_does_not_pass_the_override(monkeypatch, name):
    with pytest.raises(ValueError, match=r"^VSF: bypass .*, found \w+, \w+\.$"):
        vsf.guide(forget(monkeypatch, name), vsf.negative())


def test_sd3_with_a_context_processor():
    model = tiny.load("sd3")
    model.model.diffusion_model.context_processor = torch.nn.Identity()
    with pytest.raises(ValueError, match="VSF: .* in which VSF cannot work: its context processor mixes the text"):
        vsf.guide(model, vsf.negative())


def test_forward_that_drops_transformer_options(model):
    """TeaCache and its like replace the forward and call the blocks without transformer_options: N0 would be a positive."""
    patched = vsf.guide(model, vsf.negative())
    forward = model.model.diffusion_model.forward

    def forgetful(*args, transformer_options=None, **kwargs):
        options = {"wrappers": transformer_options.get("wrappers", {})}
        return forward(*args, transformer_options=options, **kwargs)

    patched.add_object_patch("diffusion_model.forward", forgetful)
    with pytest.raises(RuntimeError, match="VSF: remove the node .* Expected the attention .* not one call in this step"):
        tiny.sample(patched, POSITIVE)


def test_window_that_no_step_lies_in_is_a_warning(model, caplog):
    """Image to image at low strength begins after the window has ended."""
    guided = vsf.guide(model, vsf.negative(), end=0.1)
    with caplog.at_level(logging.WARNING, "vsf"):
        tiny.sample(guided, POSITIVE, steps=3, denoise=0.3, latent=torch.randn(1, 16, 8, 6))
    assert "VSF: had no effect: in none of the sampler's 3 steps is it on" in caplog.text


def test_one_line_says_what_acts(model, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        tiny.sample(vsf.guide(vsf.guide(model, vsf.negative(5), 2.0, 0.3), vsf.negative(3), 1.5), POSITIVE)
    lines = [r.message for r in caplog.records if r.name == "vsf"]
    assert lines[:2] == [f"VSF: {WAITING}"] * 2
    assert lines[2:] == ["VSF: negative 1 acted in 2 of 2 steps on 5 tokens\nnegative 2 acted in 2 of 2 steps on 3 tokens"]


def test_padding_of_an_ordinary_text_encode_node(caplog):
    tokens = tiny.tokens(6, 2)
    masked, options = without_padding(tokens, {"attention_mask": torch.tensor([[1, 1, 1, 0, 0, 0]])})
    assert torch.equal(masked, tokens[:, :3])
    assert options["attention_mask"].tolist() == [[1, 1, 1]]
    zeroed = tokens.clone()
    zeroed[:, 4:] = 0
    assert torch.equal(without_padding(zeroed, {})[0], tokens[:, :4])
    left = tokens.clone()
    left[:, :2] = 0
    assert torch.equal(without_padding(left, {})[0], tokens[:, 2:])
    assert not caplog.records
    assert torch.equal(without_padding(tokens, {"attention_mask": torch.ones(1, 6)})[0], tokens)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "vsf"):
        assert torch.equal(without_padding(tokens, {})[0], tokens)
    assert len(caplog.records) == 1
    assert "VSF: use VSF Text Encode" in caplog.text
