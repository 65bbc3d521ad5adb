"""What is peculiar to LTX-2: the connectors that a prompt passes through before the model, and a guider of its own."""
from __future__ import annotations

import cases
import comfy.samplers
import pytest
import tiny
import torch
import vsf
from comfy.nested_tensor import NestedTensor
from comfy_extras import nodes_lt
from vsf_pack.nodes.glue.families import TEXT, ltx
from vsf_pack.nodes.glue.reading.conditioning import WORDS, NegativePrompt


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
    with pytest.raises(ValueError, match="VSF: encode the negative with .* Expected a negative of width 24 or 72, found 20"):
        case.sample(model, case.conditioning(7, 1))


@pytest.mark.skipif(not hasattr(nodes_lt, "LTXVDualCFGGuider"), reason="not in this ComfyUI")
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 3.0)])
@pytest.mark.parametrize("name", ["ltx-2.3", "ltx-2.5"])
def test_dual_cfg_guider(name, scales):
    """One CFG for the video and one for the audio: LTX-2.5's templates set both to 1."""
    case = cases.BY_NAME[name]

    def sample(model) -> torch.Tensor:
        guider = nodes_lt.LTXVDualCFGGuider.execute(model, case.conditioning(7, 1), case.conditioning(4, 2), *scales).args[0]
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
        noise = NestedTensor([torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)) for shape in case.latent])
        with torch.inference_mode():
            out = guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)
        return torch.cat([part.flatten(1) for part in out.unbind()], dim=1)

    model = cases.load(name)
    out, plain = sample(vsf.guide(model, case.conditioning(5, 50, **{WORDS: 5}), bias=0.3)), sample(model)
    truth = sample(case.reference(case.negative(5, 50, alpha=2.0, beta=0.3)))
    assert (out - truth).norm() / truth.norm() <= 1e-5
    assert (plain - truth).norm() / truth.norm() >= 1e-3
