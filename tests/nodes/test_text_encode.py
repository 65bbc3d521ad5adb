"""VSFTextEncode on ComfyUI's own SD3 and Flux text encoders (real tokenizers, small random transformers)."""
from __future__ import annotations

import logging

import comfy.sd
import comfy.supported_models_base
import pytest
import tiny
import torch
import vsf
from comfy import sdxl_clip
from comfy.text_encoders.flux import FluxTokenizer, flux_clip
from comfy.text_encoders.sd3_clip import SD3Tokenizer, sd3_clip
from vsf_pack.nodes.glue.conditioning import WORDS
from vsf_pack.nodes.glue.tokens import real_rows, real_tokens
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode

CLIP_L = dict(hidden_size=768, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64)
CLIP_G = dict(hidden_size=1280, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64)
T5 = dict(d_model=4096, d_ff=64, d_kv=16, num_heads=2, num_layers=1)
SMALL = {"clip_l_model_config": CLIP_L, "clip_g_model_config": CLIP_G, "t5xxl_model_config": T5}


def make_clip(encoder: type, tokenizer: type) -> comfy.sd.CLIP:
    """ComfyUI's CLIP around its own encoder and tokenizer classes, few layers, seeded random weights."""
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, parameters=1, model_options={**SMALL, "dtype": torch.float32})
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in clip.cond_stage_model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.05 + (p.ndim == 1))
    return clip


ENCODERS = {
    "sd3": lambda: make_clip(sd3_clip(), SD3Tokenizer),
    "sd3 without T5": lambda: make_clip(sd3_clip(t5=False), SD3Tokenizer),
    "sd3 T5 alone": lambda: make_clip(sd3_clip(clip_l=False, clip_g=False), SD3Tokenizer),
    "flux": lambda: make_clip(flux_clip(), FluxTokenizer),
    "sdxl": lambda: make_clip(sdxl_clip.SDXLClipModel, sdxl_clip.SDXLTokenizer),
}
_clips: dict[str, comfy.sd.CLIP] = {}


@pytest.fixture
def clip(request) -> comfy.sd.CLIP:
    if request.param not in _clips:
        _clips[request.param] = ENCODERS[request.param]()
    return _clips[request.param]


def encode(clip, text: str):
    (tokens, options), = VSFTextEncode.execute(clip, text).args[0]
    return tokens, options


def full(clip, text: str) -> torch.Tensor:
    """What ComfyUI's own CLIPTextEncode gives."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


BADS = "a red apple, bad hands (ugly:1.3)"  # 9 tokens with start and end for CLIP, 9 with end for T5

# text -> rows of ComfyUI's own output that are words, counted by hand: CLIP has BOS, words, EOS; T5 words and EOS
KEPT = {
    "sd3": {"blurry": [*range(3), *range(77, 80)], BADS: [*range(9), *range(77, 77 + 9)]},
    "sd3 without T5": {"blurry": [*range(3)]},
    "sd3 T5 alone": {"blurry": [*range(3)]},
    "flux": {"blurry": [*range(3)]},
}


@pytest.mark.parametrize(("clip", "text", "rows"), [(name, text, rows) for name, texts in KEPT.items()
                                                   for text, rows in texts.items()], indirect=["clip"])
def test_keeps_words_and_ends(clip, text, rows):
    tokens, options = encode(clip, text)
    assert torch.equal(tokens, full(clip, text)[:, rows])
    assert options[WORDS] == len(rows)


@pytest.mark.parametrize("clip", ["sd3"], indirect=True)
def test_prompts_longer_than_one_section(clip):
    """CLIP's sections of 77: BOS, words, EOS of each are kept, the last one's padding is not; T5 is one long section."""
    text = " ".join(["apple"] * 100)
    tokens, _ = encode(clip, text)
    whole = full(clip, text)
    t5 = whole.shape[1] - 2 * 77
    first, second = list(range(77)), list(range(77, 77 + 1 + 25 + 1))
    words_of_t5 = sum(token != 0 for token, _ in clip.tokenize(text)["t5xxl"][0])
    assert t5 == max(77, words_of_t5)
    assert torch.equal(tokens, whole[:, [*first, *second, *range(154, 154 + words_of_t5)]])


@pytest.mark.parametrize("clip", ["sd3", "flux"], indirect=True)
def test_prompt_weights_are_kept(clip):
    """ComfyUI's own syntax: same rows, other values."""
    plain, weighted = encode(clip, "red apple")[0], encode(clip, "red (apple:1.4)")[0]
    assert plain.shape == weighted.shape
    assert not torch.allclose(plain, weighted)
    assert torch.equal(weighted[:, 0], full(clip, "red (apple:1.4)")[:, 0])


@pytest.mark.parametrize("clip", ["sd3", "flux"], indirect=True)
@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_off(clip, text):
    tokens, options = encode(clip, text)
    assert options[WORDS] == 0
    assert tokens.shape[1] > 0, "other nodes can still read it"
    model = tiny.cached("sd3")
    assert vsf.guide(model, [[tokens, options]]) is model


@pytest.mark.parametrize("clip", ["flux"], indirect=True)
def test_says_how_many_tokens_it_kept(clip, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        encode(clip, "blurry")
    assert [r.message for r in caplog.records] == ["VSF: kept 3 of 256 tokens of the negative"]


@pytest.mark.parametrize("clip", ["sdxl"], indirect=True)
def test_encoder_whose_layout_is_not_known_keeps_everything(clip, caplog):
    tokens, options = encode(clip, "blurry")
    assert torch.equal(tokens, full(clip, "blurry"))
    assert WORDS not in options


@pytest.mark.parametrize("clip", ["sd3"], indirect=True)
def test_rows_of_the_mask(clip):
    rows = real_rows(clip, clip.tokenize("blurry"))
    assert rows.tolist() == [True] * 3 + [False] * 74 + [True] * 3 + [False] * 74


def test_no_clip():
    with pytest.raises(ValueError, match="VSF: expected a text encoder in `clip`, found none"):
        VSFTextEncode.execute(None, "wheels")


def test_real_tokens():
    """SDClipModel.process_tokens' rule, with an embedding, left and right padding, and encoders without an end token."""
    special = {"start": 1, "end": 2, "pad": 0}
    word = torch.zeros(4)
    assert real_tokens([(1, 1.0), (7, 1.0), (word, 1.2), (2, 1.0), (0, 1.0), (2, 1.0)], special) == [True] * 4 + [False] * 2
    assert real_tokens([(7, 1.0), (8, 1.0), (0, 1.0), (0, 1.0)], {"pad": 0}) == [True, True, False, False]
