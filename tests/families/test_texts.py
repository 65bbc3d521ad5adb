"""What adapters that embed the negative themselves, or need more than its tokens, do with what users may connect."""
from __future__ import annotations

import cases
import pytest
import torch
import vsf
from vsf_pack.nodes.glue.reading.conditioning import WORDS


def negative(case: cases.Case, length: int = 5, **more) -> list:
    return case.conditioning(length, 50, **{WORDS: length}, **more)


def sample(case: cases.Case, model, positive: list | None = None) -> torch.Tensor:
    return case.sample(model, case.conditioning(7, 1) if positive is None else positive)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["pixeldit", "pid", "hunyuan-dit"])
def test_in_the_precision_of_the_model(name, dtype):
    """The text comes in float32: the adapter embeds it in the model's precision, as the model does."""
    case = cases.BY_NAME[name]
    model = cases.build(case, dtype)
    plain, out = sample(case, model), sample(case, vsf.guide(model, negative(case)))
    assert torch.isfinite(out).all() and not torch.equal(out, plain)
    exact = cases.load(name)
    change = sample(case, vsf.guide(exact, negative(case))) - sample(case, exact)
    assert torch.cosine_similarity((out - plain).flatten(), change.flatten(), dim=0) > 0.5


def test_pixeldit_cuts_a_negative_as_it_cuts_a_prompt():
    case = cases.BY_NAME["pixeldit"]
    model, limit = cases.load(case.name), case.unet_config["txt_max_length"]
    (tokens, options), = negative(case, limit + 3)
    cut = [[tokens[:, :limit], options]]
    assert torch.equal(sample(case, vsf.guide(model, [[tokens, options]])), sample(case, vsf.guide(model, cut)))


def test_hunyuan_dit_wants_both_encoders():
    case = cases.BY_NAME["hunyuan-dit"]
    (tokens, options), = negative(case)
    options = {k: v for k, v in options.items() if k != "conditioning_mt5xl"}
    model = vsf.guide(cases.load(case.name), [[tokens, options]])
    with pytest.raises(ValueError, match="VSF: encode .* Expected one of Hunyuan-DiT's text encoders, found one without mT5's"):
        sample(case, model)


def test_hunyuan_dit_takes_an_ordinary_negative_without_its_padding():
    """CLIPTextEncode's negative, with masks, is that of VSF Text Encode."""
    case = cases.BY_NAME["hunyuan-dit"]
    (tokens, options), = case.conditioning(5, 50)  # the last token of both encoders is padding
    words = {**options, WORDS: 4, "conditioning_mt5xl": options["conditioning_mt5xl"][:, :-1]}
    model = cases.load(case.name)
    out = sample(case, vsf.guide(model, [[tokens, options]]))
    assert torch.equal(out, sample(case, vsf.guide(model, [[tokens[:, :-1], words]])))


def test_ace_step_wants_a_positive():
    """ConditioningZeroOut on the positive makes the model put its null embedding in place of all text."""
    case = cases.BY_NAME["ace-step-1.5"]
    (tokens, options), = case.conditioning(7, 1)
    with pytest.raises(ValueError, match="VSF: connect another positive prompt.* found one that is all zeros"):
        sample(case, vsf.guide(cases.load(case.name), negative(case)), [[torch.zeros_like(tokens), options]])


def test_ace_step_does_not_use_a_negative_s_lyrics():
    case = cases.BY_NAME["ace-step-1.5"]
    model = cases.load(case.name)
    other = negative(case, conditioning_lyrics=torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(sample(case, vsf.guide(model, other)), sample(case, vsf.guide(model, negative(case))))
