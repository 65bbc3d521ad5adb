"""Core's NAGuidance beside VSF: it needs prompt and negative prompt in one batch, and both act there."""
from __future__ import annotations

import cases
import pytest
import tiny
import torch
import vsf
from vsf_pack.nodes.glue.reading.conditioning import NegativePrompt
from vsf_pack.nodes.glue.sampling.patch import attach

nag = pytest.importorskip("comfy_extras.nodes_nag")
NAMES = ("flux1", "sd1.5", "krea2", "hunyuan-video", "chroma")  # those in which core's NAG acts


def with_nag(model, alpha: float = 0.5):
    return nag.NAGuidance.execute(model, 5.0, alpha, 1.5).args[0]


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.fixture(params=NAMES)
def case(request):
    case = cases.BY_NAME[request.param]
    if not case.exists:
        pytest.skip("not in this ComfyUI")
    return case


@pytest.mark.parametrize("order", ["VSF first", "NAG first"])
@pytest.mark.parametrize("batch", [1, 2])
def test_both_act(case, order, batch):
    model, positive, other = cases.load(case.name), case.conditioning(7, 1), case.conditioning(7, 9)
    negative = case.conditioning(5, 2, vsf_words=5)

    def run(patched):
        return case.sample(patched, positive, other, batch=batch)
    both = with_nag(vsf.guide(model, negative)) if order == "VSF first" else vsf.guide(with_nag(model), negative)
    out = run(both)
    assert relative_error(run(with_nag(model)), run(model)) > 1e-3
    assert relative_error(out, run(vsf.guide(model, negative))) > 1e-3, "NAG does nothing"
    assert relative_error(out, run(with_nag(model))) > 1e-3, "VSF does nothing"


def test_neither_changes_what_is_the_others(case):
    """NAG without an effect (alpha 0) leaves VSF alone; a negative without an effect (beta 60) leaves NAG alone, so that the
    other prompt's rows are as without VSF."""
    model, positive, other = cases.load(case.name), case.conditioning(7, 1), case.conditioning(7, 9)

    def run(patched, cfg: float = 1.0):
        return case.sample(patched, positive, other, batch=2, cfg=cfg)
    guided = vsf.guide(model, case.conditioning(5, 2, vsf_words=5))
    assert relative_error(run(with_nag(guided, 0.0)), run(guided)) <= 1e-5
    far = attach(model, [NegativePrompt(tiny.tokens(5, 50, width=case.width), 2.0, 60.0, 0.0, 1.0, case.options(5, 50))])
    for cfg in (1.0, 3.0):
        assert relative_error(run(with_nag(far), cfg), run(with_nag(model), cfg)) <= 1e-5


def test_single_rows_are_refused(case):
    """Which row is which prompt's cannot be known then."""
    def single(apply, args):
        c = {k: v[:1] if isinstance(v, torch.Tensor) and v.ndim and len(v) == 2 else v for k, v in args["c"].items()}
        return apply(args["input"][:1], args["timestep"][:1], **c).repeat(2, *[1] * (args["input"].ndim - 1))
    model = with_nag(vsf.guide(cases.load(case.name), case.conditioning(5, 2, vsf_words=5)))
    model.set_model_unet_function_wrapper(single)
    with pytest.raises(RuntimeError, match="VSF: remove the node that changes attention"):
        case.sample(model, case.conditioning(7, 1), case.conditioning(7, 9))
