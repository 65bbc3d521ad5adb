"""The context rule beside other nodes: what changes attention, rows and precision, and the paper's rule on one model."""
from __future__ import annotations

import gc
import weakref

import cases
import comfy.ldm.modules.attention as comfy_attention
import pytest
import tiny
import torch
import vsf
from neighbours import compiled, single, tiles, with_override
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.reading.contexts import ContextPrompt
from vsf_pack.nodes.glue.sampling.patch import Run, attach
from vsf_pack.vsf_core.dense import vsf_attention_dense

CASES = ("sd3", "sd1.5", "qwen-image", "z-image")  # joint, cross, numbered, patched objects


@pytest.fixture(params=CASES)
def case(request):
    return cases.BY_NAME[request.param]


class Dense(VSFAttention):
    """Both rules by dense masks, in double precision (vsf_core/dense.py)."""

    def join(self, layout, q, k, v, mask, *args):
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return vsf_attention_dense(q, k, v, layout).to(q.dtype)


def context(case, seed: int = 50, strength: float = 1.0, of: int = 1, **window) -> ContextPrompt:
    """A context of the prompt with seed `of`."""
    return ContextPrompt(tiny.tokens(9, seed, width=case.width), strength, options=case.options(7, of),
                         prompt=case.conditioning(7, of)[0][0], **window)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def sample(case, model, **settings) -> torch.Tensor:
    return case.sample(model, case.conditioning(7, 1), case.conditioning(4, 2), **settings)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("order", ["VSF Guidance first", "VSF Guidance last"])
def test_beside_the_papers_rule(case, order, cfg):
    """Chained on one model, in either order: what the dense form of both makes of it."""
    model, paper = cases.load(case.name), case.conditioning(5, 2, vsf_words=5)
    chained = (attach(vsf.guide(model, paper, bias=0.3), [context(case)]) if order == "VSF Guidance first"
               else vsf.guide(attach(model, [context(case)]), paper, bias=0.3))
    dense = attach(chained, [], Dense)
    assert error(sample(case, chained, cfg=cfg, batch=2), sample(case, dense, cfg=cfg, batch=2)) <= 1e-5
    for alone in (vsf.guide(model, paper, bias=0.3), attach(model, [context(case)])):
        assert error(sample(case, alone, cfg=cfg, batch=2), sample(case, chained, cfg=cfg, batch=2)) >= 1e-4


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_override_that_tells_no_log_sum_exp(case, order):
    calls, model = [], cases.load(case.name)
    guided = (attach(with_override(model, calls), [context(case)]) if order == "before"
              else with_override(attach(model, [context(case)]), calls))
    assert error(sample(case, guided), sample(case, attach(model, [context(case)], Dense))) <= 1e-5
    assert calls


def test_an_override_that_ignores_masks(case):
    """The rule needs no mask of its own."""
    def ignores(func, q, k, v, heads, mask=None, **kwargs):
        return comfy_attention.attention_pytorch.__wrapped__(q, k, v, heads, mask=None, **kwargs)
    model = cases.load(case.name).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = ignores
    assert error(sample(case, attach(model, [context(case)])),
                 sample(case, attach(cases.load(case.name), [context(case)], Dense))) <= 1e-5


@pytest.mark.parametrize("backend", ["pytorch", "sub_quad", "split"])
def test_cpu_backends(case, backend):
    """Chosen by an override, as nodes do that choose a backend for one model."""
    chosen = getattr(comfy_attention, f"attention_{backend}")
    model = cases.load(case.name).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = (
        lambda func, *args, **kwargs: chosen.__wrapped__(*args, **kwargs))
    assert error(sample(case, attach(model, [context(case)])),
                 sample(case, attach(cases.load(case.name), [context(case)], Dense))) <= 1e-5


@pytest.mark.parametrize("wrapper", [single, tiles])
def test_other_rows_than_comfyui_batched(case, wrapper):
    guided = attach(cases.load(case.name), [context(case)])
    want = sample(case, guided, batch=2)
    changed = guided.clone()
    changed.set_model_unet_function_wrapper(wrapper)
    assert error(sample(case, changed, batch=2), want) <= 1e-5


def test_a_copy_of_the_model(case):
    guided = attach(cases.load(case.name), [context(case)])
    assert torch.equal(sample(case, guided.clone()), sample(case, guided))


def test_an_ordinary_negative_stays_what_it_is(case):
    """CFG 3: away from the ordinary negative, which itself has no contexts."""
    guided = attach(cases.load(case.name), [context(case)])
    assert error(sample(case, guided, cfg=3.0, batch=3),
                 sample(case, attach(cases.load(case.name), [context(case)], Dense), cfg=3.0, batch=3)) <= 1e-5


def test_each_prompt_has_its_own_negative(case):
    """Two prompts joined: each one's context acts on it alone."""
    first, second = context(case), context(case, 51, of=3)
    positive = [*case.conditioning(7, 1), *case.conditioning(7, 3)]
    model = cases.load(case.name)
    both = case.sample(attach(model, [first, second]), positive)
    assert error(both, case.sample(attach(model, [first, second], Dense), positive)) <= 1e-5
    swapped = case.sample(attach(model, [context(case, 51), context(case, of=3)]), positive)
    assert error(swapped, both) >= 1e-4
    assert error(case.sample(attach(model, [first, context(case, 52)]), case.conditioning(7, 1)),
                 case.sample(attach(model, [first]), case.conditioning(7, 1))) >= 1e-4, "two negatives of one prompt both act"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["sd3", "flux1"])
def test_half_precision(name, dtype):
    """Finite, and as near to single precision as the model itself is."""
    case = cases.BY_NAME[name]
    half, whole = cases.load(name, dtype), cases.load(name)
    out, want = (sample(case, attach(m, [context(case)])).float() for m in (half, whole))
    assert torch.isfinite(out).all()
    assert error(out, want) <= max(3 * error(sample(case, half).float(), sample(case, whole)), 0.02)


def test_torch_compile():
    name = "sd3"
    case = cases.BY_NAME[name]
    base = compiled(cases.load(name))
    for c, steps in ((context(case), 3), (context(case, strength=0.04), 1)):  # the push fades from step to step
        out, want = (sample(case, attach(m, [c]), steps=steps) for m in (base, cases.load(name)))
        assert error(out, want) <= 1e-5
    assert error(sample(case, base, steps=1), sample(case, cases.load(name), steps=1)) <= 1e-5


def test_nothing_of_a_run_is_left(case, monkeypatch):
    runs, init = [], Run.__init__

    def remember(self, *args, **kwargs):
        init(self, *args, **kwargs)
        runs.append(weakref.ref(self))
    monkeypatch.setattr(Run, "__init__", remember)
    gc.collect()
    gc.disable()
    try:
        sample(case, attach(cases.load(case.name), [context(case)]), cfg=2.0)
        assert [run() for run in runs] == [None]
    finally:
        gc.enable()


def test_a_prompt_is_known_in_each_row_of_a_batch():
    """As nodes repeat a conditioning for a batch; with other rows behind it; and no other prompt."""
    prompt, other = torch.randn(1, 7, 8), torch.randn(1, 7, 8)
    own = ContextPrompt(prompt, prompt=prompt)
    for rows, known in ((prompt, True), (prompt.repeat(3, 1, 1), True), (torch.cat([prompt, other], dim=1), True),
                        (other, False), (prompt[:, :6], False), (torch.cat([prompt, other]), False), (prompt[..., :4], False)):
        assert own.belongs_to({"cross_attn": rows}) is known, rows.shape
