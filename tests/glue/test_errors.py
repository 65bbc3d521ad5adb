"""What cannot work is said, with VSF's name, what was expected, what was found and what to do."""
from __future__ import annotations

import logging

import comfy.supported_models
import pytest
import tiny
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from vsf_pack.nodes.glue.conditioning import WORDS, without_padding
from vsf_pack.nodes.glue.families import FAMILIES

POSITIVE = tiny.conditioning(7, 1)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("settings", "message"), [
    (dict(scale=NAN), "`scale` between 0 and 10, found nan"),
    (dict(scale=INF), "`scale` between 0 and 10, found inf"),
    (dict(scale=-1.0), "`scale` between 0 and 10, found -1.0"),
    (dict(bias=-0.1), "`bias` between 0 and 5, found -0.1"),
    (dict(bias=NAN), "`bias` between 0 and 5, found nan"),
    (dict(start=1.5), "`start_percent` between 0 and 1, found 1.5"),
    (dict(end=NAN), "`end_percent` between 0 and 1, found nan"),
    (dict(start=0.7, end=0.3), "start_percent below end_percent, found 0.7 and 0.3"),
])
def test_settings(settings, message):
    with pytest.raises(ValueError, match=f"VSF: expected {message}"):
        vsf.guide(tiny.cached("sd3"), vsf.negative(), **settings)


@pytest.mark.parametrize(("conditioning", "message"), [
    ([], "found an empty one"),
    (None, "found an empty one"),
    ([[torch.zeros(1, 24), {}]], r"found \(1, 24\)"),
    ([[None, {}]], "found NoneType"),
    ([[torch.full((1, 3, 24), NAN), {}]], "not finite"),
    ([[torch.full((1, 3, 24), INF), {}]], "not finite"),
    ([[torch.ones(1, 3, 24), {"area": (8, 8, 0, 0)}]], r"limited to a region \(area\)"),
    ([[torch.ones(1, 3, 24), {"mask": torch.ones(1, 8, 8)}]], r"limited to a region \(mask\)"),
])
def test_conditioning(conditioning, message):
    with pytest.raises(ValueError, match=f"VSF: .*{message}"):
        vsf.guide(tiny.cached("sd3"), conditioning)


def test_width_of_another_text_encoder(model):
    negative = [[tiny.tokens(5, 2, width=16), {WORDS: 5}]]
    with pytest.raises(ValueError, match="VSF: expected a negative of width 24, as the positive prompt has, found 16"):
        tiny.sample(vsf.guide(model, negative), POSITIVE)


def test_call_without_text(model):
    with pytest.raises(ValueError, match="VSF: expected a model that takes text, found a call without text"):
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
        with pytest.raises(ValueError, match=r"VSF: this model \(AuraFlow, MMDiT\) is not supported. Supported: SD3, SD3.5; "):
            vsf.guide(model, negative)
    assert vsf.guide(model, vsf.negative(), scale=0.0) is model


def test_sd3_with_a_context_processor():
    model = tiny.load("sd3")
    model.model.diffusion_model.context_processor = torch.nn.Identity()
    with pytest.raises(ValueError, match="VSF: .* its context processor mixes the text"):
        vsf.guide(model, vsf.negative())


def test_forward_that_drops_transformer_options(model):
    """TeaCache and its like replace the forward and call the blocks without transformer_options: N0 would be a positive."""
    patched = vsf.guide(model, vsf.negative())
    forward = model.model.diffusion_model.forward

    def forgetful(*args, transformer_options=None, **kwargs):
        options = {"wrappers": transformer_options.get("wrappers", {})}
        return forward(*args, transformer_options=options, **kwargs)

    patched.add_object_patch("diffusion_model.forward", forgetful)
    with pytest.raises(RuntimeError, match="VSF: expected the attention of .* found not one call in this step"):
        tiny.sample(patched, POSITIVE)


def test_window_that_no_step_lies_in_is_a_warning(model, caplog):
    """Image to image at low strength begins after the window has ended."""
    guided = vsf.guide(model, vsf.negative(), end=0.1)
    with caplog.at_level(logging.WARNING, "vsf"):
        tiny.sample(guided, POSITIVE, steps=3, denoise=0.3, latent=torch.randn(1, 16, 8, 6))
    assert "VSF: had no effect: none of the sampler's 3 steps" in caplog.text


def test_one_line_says_what_acts(model, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        tiny.sample(vsf.guide(vsf.guide(model, vsf.negative(5), 2.0, 0.3), vsf.negative(3), 1.5), POSITIVE)
    lines = [r.message for r in caplog.records if r.name == "vsf"]
    assert lines == ["VSF: negative of 5 tokens, scale 2, bias 0.3; negative of 3 tokens, scale 1.5, bias 0"]


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
    assert "Use VSF Text Encode" in caplog.text
