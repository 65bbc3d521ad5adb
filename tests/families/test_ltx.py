"""What is peculiar to LTX-2: the connectors that a prompt passes through before the model."""
from __future__ import annotations

import cases
import pytest
import tiny
import torch
import vsf
from vsf_pack.nodes.glue.conditioning import WORDS, NegativePrompt
from vsf_pack.nodes.glue.families import TEXT, ltx


@pytest.mark.parametrize("name", ["ltx-2", "ltx-2.3"])
def test_negative_is_connected_as_a_prompt_of_its_own(name):
    """The same rows that ComfyUI makes of a positive, without those of the registers behind them."""
    case, model = cases.BY_NAME[name], cases.load(name).model
    tokens, options = tiny.tokens(5, 50, width=case.width), case.options(5, 50)
    prompt = model.extra_conds(cross_attn=tokens, device=torch.device("cpu"), noise=torch.zeros(1, 1, 8), **options)
    rows = prompt["c_crossattn"].cond
    assert rows.shape[1] == 1024
    assert torch.equal(ltx.encode(model, NegativePrompt(tokens, 1.0, 0.0, 0.0, 1.0, options))[TEXT], rows[:, :5])


def test_negative_of_another_width():
    case = cases.BY_NAME["ltx-2"]
    model = vsf.guide(cases.load(case.name), [[tiny.tokens(5, 50, width=20), {WORDS: 5}]])
    with pytest.raises(ValueError, match="VSF: expected a negative of width 24 or 72, found 20. Encode the negative with"):
        case.sample(model, case.conditioning(7, 1))
