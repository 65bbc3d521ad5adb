"""What is peculiar to MiniMax H3: the plan of its sequence, and tensors that come in containers."""
from __future__ import annotations

import cases
import comfy.ldm.modules.attention as comfy_attention
import pytest
import reference
import tiny
import torch
import vsf
from comfy.conds import CONDConstant
from vsf_pack.nodes.glue.reading.conditioning import WORDS

minimax = pytest.importorskip("comfy.ldm.minimax.model", reason="not in this ComfyUI")
OVERRIDE = "optimized_attention_override"


def sample(case: cases.Case, model, cfg: float = 1.0) -> torch.Tensor:
    return case.sample(model, case.conditioning(7, 1), cfg=cfg)


def negative(case: cases.Case) -> list:
    return case.conditioning(5, 50, **{WORDS: 5})


@pytest.mark.parametrize("name", ["minimax-h3", "minimax-h3-flf", "minimax-h3-references"])
@pytest.mark.parametrize("stale", [None, (7, 2, 2, 2, 3)])
def test_without_the_plan_from_before_the_run(name, stale, monkeypatch):
    """The model then makes its own; so does the adapter."""
    case = cases.BY_NAME[name]
    patcher = cases.load(name)
    model = vsf.guide(patcher, negative(case))
    out, extra_conds = sample(case, model), patcher.model.extra_conds

    def other_plan(**kwargs):
        conds = extra_conds(**kwargs)
        payload = {k: v for k, v in conds["minimax_payload"].cond.items() if k != "layout"}
        return {**conds, "minimax_payload": CONDConstant(payload if stale is None else payload | {
            "layout": minimax.PackedLayout(*stale)})}

    monkeypatch.setattr(patcher.model, "extra_conds", other_plan)
    assert torch.equal(sample(case, model), out)


def test_nothing_is_written_on_the_plan(monkeypatch):
    """It is the positive's, and goes on to steps in which no negative acts."""
    case = cases.BY_NAME["minimax-h3-i2v"]
    patcher = cases.load(case.name)
    extra_conds, payloads = patcher.model.extra_conds, []

    def kept(**kwargs):
        conds = extra_conds(**kwargs)
        payload = conds["minimax_payload"].cond
        payloads.append((payload, dict(payload), dict(vars(payload["layout"]))))
        return conds

    monkeypatch.setattr(patcher.model, "extra_conds", kept)
    sample(case, vsf.guide(patcher, negative(case)))
    assert payloads
    for payload, before, plan in payloads:
        assert all(payload[name] is value for name, value in before.items())
        assert all(getattr(payload["layout"], name) is value for name, value in plan.items())


def test_negative_of_another_width():
    case = cases.BY_NAME["minimax-h3"]
    with pytest.raises(ValueError, match="VSF: encode .* Expected a negative of width 24, as MiniMaxH3 takes, found 20"):
        vsf.guide(cases.load(case.name), [[tiny.tokens(5, 50, width=20), {WORDS: 5}]])


def test_in_the_precision_of_the_model():
    """The text comes in float32: the adapter refines it in the model's precision, as the model does."""
    case = cases.BY_NAME["minimax-h3"]
    model, exact = cases.build(case, torch.bfloat16), cases.load(case.name)
    plain, out = sample(case, model), sample(case, vsf.guide(model, negative(case)))
    assert torch.isfinite(out).all() and not torch.equal(out, plain)
    change = sample(case, vsf.guide(exact, negative(case))) - sample(case, exact)
    assert torch.cosine_similarity((out - plain).flatten(), change.flatten(), dim=0) > 0.5


@pytest.mark.skipif(not hasattr(comfy_attention, "AttentionTensorContainer"), reason="not in this ComfyUI")
@pytest.mark.parametrize("takes_containers", [False, True])
@pytest.mark.parametrize("order", ["before", "after"])
def test_containers_and_another_override(order, takes_containers):
    """Terminal overrides (ModelAttentionBackend, sage and their like), and those of them that ask for containers: beside ours
    they get tensors. Without ours they get what they ask for."""
    case = cases.BY_NAME["minimax-h3"]
    calls = {"tensors": 0, "containers": 0}

    def terminal(func, q, k, v, heads, **kwargs):
        assert all(isinstance(t, torch.Tensor) for t in (q, k, v))
        calls["tensors"] += 1
        return comfy_attention.attention_split.__wrapped__(q, k, v, heads, **kwargs)

    def with_containers(q, k, v, heads, **kwargs):
        calls["containers"] += 1
        return comfy_attention.attention_split.__wrapped__(q.take(), k.take(), v.take(), heads, **kwargs)

    if takes_containers:
        terminal.container_function = with_containers
    model = cases.load(case.name).clone() if order == "before" else vsf.guide(cases.load(case.name), negative(case))
    model.model_options["transformer_options"][OVERRIDE] = terminal
    if order == "before":
        model = vsf.guide(model, negative(case))
    out = sample(case, model, cfg=3.0)
    assert calls["tensors"] and bool(calls["containers"]) == takes_containers  # the other prompt's calls are not ours
    truth = sample(case, case.reference(reference.RefNegative(tiny.tokens(5, 50, width=24), 2.0)), cfg=3.0)
    assert (out - truth).norm() / truth.norm() <= 1e-5
