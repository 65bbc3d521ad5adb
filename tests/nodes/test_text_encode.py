"""VSFTextEncode on the text encoders of SD3 and Flux, row by row; test_encoders.py has all of them."""
from __future__ import annotations

import functools
import logging

import comfy.sd
import encoders
import pytest
import tiny
import torch
import vsf
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.glue.reading.tokens import real_rows, real_tokens
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode


@functools.cache
def build(name: str) -> comfy.sd.CLIP:
    return encoders.build(encoders.ENCODERS[name])


@pytest.fixture
def clip(request) -> comfy.sd.CLIP:
    return build(request.param)


def encode(clip, text: str):
    (tokens, options), = VSFTextEncode.execute(clip, text).args[0]
    return tokens, options


def full(clip, text: str) -> torch.Tensor:
    """What ComfyUI's own CLIPTextEncode gives."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


BADS = "a red apple, bad hands (ugly:1.3)"  # 9 tokens with start and end for CLIP, 9 with end for T5

# text -> rows of ComfyUI's own output that are words, counted by hand: CLIP has BOS, words, EOS; T5 words and EOS
KEPT = {
    "SD 3": {"blurry": [*range(3), *range(77, 80)], BADS: [*range(9), *range(77, 77 + 9)]},
    "SD 3 without T5": {"blurry": [*range(3)]},
    "SD 3, T5 alone": {"blurry": [*range(3)]},
    "Flux": {"blurry": [*range(3)]},
}


@pytest.mark.parametrize(("clip", "text", "rows"), [(name, text, rows) for name, texts in KEPT.items()
                                                   for text, rows in texts.items()], indirect=["clip"])
def test_keeps_words_and_ends(clip, text, rows):
    tokens, options = encode(clip, text)
    assert torch.equal(tokens, full(clip, text)[:, rows])
    assert options[WORDS] == len(rows)


@pytest.mark.parametrize("clip", ["SD 3"], indirect=True)
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


@pytest.mark.parametrize("clip", ["SD 3", "Flux"], indirect=True)
def test_prompt_weights_are_kept(clip):
    """ComfyUI's own syntax: same rows, other values."""
    plain, weighted = encode(clip, "red apple")[0], encode(clip, "red (apple:1.4)")[0]
    assert plain.shape == weighted.shape
    assert not torch.allclose(plain, weighted)
    assert torch.equal(weighted[:, 0], full(clip, "red (apple:1.4)")[:, 0])


@pytest.mark.parametrize("clip", ["SD 3", "Flux"], indirect=True)
@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_off(clip, text):
    tokens, options = encode(clip, text)
    assert options[WORDS] == 0
    assert tokens.shape[1] > 0, "other nodes can still read it"
    model = tiny.cached("sd3")
    assert vsf.guide(model, [[tokens, options]]) is model


@pytest.mark.parametrize("clip", ["Flux"], indirect=True)
def test_says_how_many_tokens_it_kept(clip, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        encode(clip, "blurry")
    assert [r.message for r in caplog.records] == ["VSF: kept 3 of 256 tokens of the negative"]


@pytest.mark.parametrize("clip", ["SD 3"], indirect=True)
def test_rows_of_the_mask(clip):
    rows = real_rows(clip, clip.tokenize("blurry"), full(clip, "blurry"), {})
    assert rows.tolist() == [True] * 3 + [False] * 74 + [True] * 3 + [False] * 74


def test_no_clip():
    with pytest.raises(ValueError, match="VSF: load a text encoder .*Expected one in `clip`, found none"):
        VSFTextEncode.execute(None, "wheels")


@pytest.mark.parametrize("text", [None, 3, ["wheels"]])
def test_no_text(text):
    with pytest.raises(ValueError, match=f"VSF: write the negative as a text.* found {type(text).__name__}"):
        VSFTextEncode.execute(build("Flux"), text)


def test_real_tokens():
    """SDClipModel.process_tokens' rule, with an embedding, left and right padding, and encoders without an end token."""
    special = {"start": 1, "end": 2, "pad": 0}
    word = torch.zeros(4)
    assert real_tokens([(1, 1.0), (7, 1.0), (word, 1.2), (2, 1.0), (0, 1.0), (2, 1.0)], special) == [True] * 4 + [False] * 2
    assert real_tokens([(7, 1.0), (8, 1.0), (0, 1.0), (0, 1.0)], {"pad": 0}) == [True, True, False, False]
    assert real_tokens([(0, 1.0), (0, 1.0), (7, 1.0), (0, 1.0)], {"pad": 0}) == [False, False, True, False]
    assert real_tokens([(0, 1.0), (7, 1.0), (2, 1.0), (7, 1.0)], special) == [False, True, True, False]
    assert real_tokens([(7, 1.0), (8, 1.0)], {}) == [True, True]
