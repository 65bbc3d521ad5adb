"""Lanes: a negative is read once a run, kept no longer, and never taken for another. Qwen-Image 2.1, where this ComfyUI has it,
and our model that calls attention as it does; HiDream-O1."""
from __future__ import annotations

import gc
import importlib
import weakref

import cases
import comfy.ldm.modules.attention as comfy_attention
import comfy.supported_models
import pytest
import tiny
import torch
import vsf
from cases import Case
from vsf_pack.nodes.glue.attention import override
from vsf_pack.nodes.glue.families import lanes as families_lanes
from vsf_pack.nodes.glue.reading.conditioning import WORDS

QWEN = ["qwen-image-2.1", "qwen-image-2.1-edit", "prefix-stand-in", "prefix-stand-in-edit"]

NAMES = [*QWEN, "hidream-o1", "hidream-o1-edit"]


@pytest.fixture(params=NAMES)
def case(request) -> Case:
    case = cases.BY_NAME[request.param]
    if not case.exists:
        pytest.skip("not in this ComfyUI")
    return case


@pytest.fixture
def lanes(monkeypatch) -> list:
    """Every lane that is read: a weak reference to its first keys."""
    read, found = families_lanes.read, []

    def note(*args, **kwargs):
        lane = read(*args, **kwargs)
        found.append(weakref.ref(next(iter(lane.values()))[0]))
        return lane

    for family in ("qwen_image21", "hidream_o1"):
        if family == "qwen_image21" or hasattr(comfy.supported_models, "HiDreamO1"):
            monkeypatch.setattr(importlib.import_module(f"{families_lanes.__package__}.{family}"), "read", note)
    return found


def negative(case: Case, length: int = 5, seed: int = 50) -> list:
    return case.conditioning(length, seed, **{WORDS: length})


def sample(case: Case, model, steps: int = 3, **settings) -> torch.Tensor:
    return case.sample(model, case.conditioning(7, 1), steps=steps, **settings)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a.double() - b.double()).norm() / b.double().norm()).item() <= 1e-5


def test_a_negative_is_read_once_a_run_and_kept_no_longer(case, lanes):
    model = vsf.guide(cases.load(case.name), negative(case))
    gc.collect()
    gc.disable()  # nor does it wait for the collector
    try:
        first = sample(case, model)
        assert len(lanes) == 1
        assert lanes[0]() is None
    finally:
        gc.enable()
    assert torch.equal(sample(case, model), first)
    assert len(lanes) == 2


def test_no_negative_is_taken_for_another(case, lanes):
    """Two of the same length: chained, in windows of their own, and one after the other on the same weights."""
    model = cases.load(case.name)
    one, two = negative(case), negative(case, seed=51)
    early, late = vsf.guide(model, one, end=0.5), vsf.guide(model, two, start=0.5)
    alone = [sample(case, m) for m in (early, late)]
    both = sample(case, vsf.guide(early, two, start=0.5))
    assert len(lanes) == 4
    swapped = sample(case, vsf.guide(vsf.guide(model, two, end=0.5), one, start=0.5))
    assert not close(both, swapped)
    assert all(not close(both, a) for a in alone)
    sigma = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    truth = case.reference(case.negative(5, 50, alpha=2.0, active=lambda s: s >= sigma),
                           case.negative(5, 51, alpha=2.0, active=lambda s: s <= sigma))
    assert close(both, sample(case, truth))


def test_other_negatives_on_the_same_model_after_each_other(case):
    model = cases.load(case.name)
    runs = [(50, 1), (51, 2), (50, 1)]
    outs = [sample(case, vsf.guide(model, negative(case, seed=seed)), batch=batch) for seed, batch in runs]
    assert torch.equal(outs[0], outs[2])
    assert not close(outs[0], outs[1][:1])


def test_positives_that_come_and_go(case):
    """ComfyUI runs two prompts in one batch, and one alone where the other has ended."""
    positive = case.conditioning(7, 1) + case.conditioning(7, 2, end_percent=0.5)
    out = case.sample(vsf.guide(cases.load(case.name), negative(case), 2.0, 0.3), positive, steps=3)
    assert close(out, case.sample(case.reference(case.negative(5, 50, alpha=2.0, beta=0.3)), positive, steps=3))


def test_where_hooks_change_the_weights_it_is_read_in_every_step(case, lanes):
    """So ComfyUI does with the model's own cache."""
    guided = vsf.guide(cases.load(case.name), negative(case))
    kept = sample(case, guided)
    lanes.clear()
    guided.hook_patches = {"a hook": {}}
    assert close(sample(case, guided), kept)
    assert len(lanes) == 3


@pytest.mark.parametrize("case", QWEN, indirect=True)
def test_the_models_cache_has_the_prompt_alone(case, monkeypatch):
    """Every step asks it for the same prompt, and never for a negative."""
    guided = vsf.guide(cases.load(case.name), negative(case))
    model, asked = guided.model.diffusion_model, []
    name = "kept" if case.stands_in else "select_prefix_cache"
    own = getattr(model, name)

    def ask(key, *args):
        if not (args and args[-1].get("device") == "off"):
            asked.append(key)
        return own(key, *args)

    monkeypatch.setattr(model, name, ask)
    sample(case, guided)
    assert len(asked) == 3
    assert all(torch.equal(a, b) for key in asked for a, b in zip(key, asked[0], strict=True))


@pytest.mark.parametrize("case", QWEN, indirect=True)
def test_merged_by_log_sum_exp(case, monkeypatch):
    """With PyTorch's own attention, whose kernel tells its log-sum-exp."""
    model = cases.load(case.name)
    names = type(model.model.diffusion_model)._forward.__globals__
    monkeypatch.setitem(names, "optimized_attention", comfy_attention.attention_pytorch)
    merged, calls = override.vsf_attention_merged, []
    monkeypatch.setattr(override, "vsf_attention_merged", lambda *args: calls.append(args) or merged(*args))
    out = sample(case, vsf.guide(model, negative(case), 2.0, 0.3))
    assert len(calls) == 3 * len({block for layout in [c[3] for c in calls] for block in layout.lanes[0]})
    monkeypatch.undo()
    assert close(out, sample(case, case.reference(case.negative(5, 50, alpha=2.0, beta=0.3))))


@pytest.mark.parametrize("case", ["hidream-o1", "hidream-o1-edit"], indirect=True)
def test_hidream_o1_keeps_the_prompt_alone(case):
    """The model has room for two prompts' keys and values: there are as many in it as without VSF."""
    model, kept = cases.load(case.name), []
    inner = model.model.diffusion_model
    for run in (model, vsf.guide(model, negative(case))):
        inner.clear_kv_cache()
        sample(case, run)
        kept.append([entry["input_ids"] for entry in inner._kv_cache_entries])
    inner.clear_kv_cache()
    assert kept[0] and len(kept[0]) == len(kept[1])
    assert all(torch.equal(a, b) for a, b in zip(*kept, strict=True))


def test_a_negative_of_another_text_encoder():
    """HiDream-O1 reads ids of tokens, which others do not give."""
    case = cases.BY_NAME["hidream-o1"]
    negative = [[tiny.tokens(5, 50, width=case.width), {WORDS: 5}]]
    with pytest.raises(ValueError, match="^VSF: encode the negative .* Expected text_input_ids, found none"):
        case.sample(vsf.guide(cases.load(case.name), negative), case.conditioning(7, 1))
