"""ComfyUI's MultiGPU split (comfy/multigpu.py): a run's conditionings on several devices, each with another copy of the
network, in threads. Here the second device is the CPU by another name."""
from __future__ import annotations

import cases
import comfy.model_management
import pytest
import torch
import vsf

multigpu = pytest.importorskip("comfy.multigpu", reason="not in this ComfyUI")
if not hasattr(multigpu, "create_multigpu_deepclones"):
    pytest.skip("not in this ComfyUI", allow_module_level=True)

FIRST, SECOND = torch.device("cpu"), torch.device("cpu", 1)
NAMES = ("sd3", "sd1.5", "z-image", "qwen-image")  # plain joint, cross, object patches, numbered text


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: [FIRST, SECOND])


def build(case):
    """A model whose loader can be asked again, as ComfyUI's own loaders' models."""
    model = cases.build(case, torch.float32)
    model.cached_patcher_init = (cases.build, (case, torch.float32))
    return model


def on_two(model, calls: dict[int, int]):
    """MultiGPU's node; and counts, for each network by its id, the calls of the model."""
    model = multigpu.create_multigpu_deepclones(model, 2)
    assert [m.load_device for m in model.get_additional_models_with_key("multigpu")] == [SECOND]

    def count(executor, *args, **kwargs):
        calls[id(executor.class_obj)] = calls.get(id(executor.class_obj), 0) + 1
        return executor(*args, **kwargs)
    model.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, count)
    return model


@pytest.mark.parametrize("node_first", [True, False], ids=["VSF, then MultiGPU", "MultiGPU, then VSF"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompts, cfg", [(1, 3.0), (2, 1.0)], ids=["positive and negative", "two positives"])
def test_two_devices_give_what_one_gives(two_devices, name, node_first, prompts, cfg):
    case = cases.BY_NAME[name]
    model, calls = build(case), {}
    positive = [entry for i in range(prompts) for entry in case.conditioning(7 + i, 1 + i)]
    negatives = case.conditioning(5, 3, vsf_words=5), case.conditioning(4, 4, vsf_words=4)

    def guided(model):
        return vsf.guide(vsf.guide(model, negatives[0]), negatives[1], scale=1.0, bias=0.5)
    want = case.sample(guided(model), positive, cfg=cfg)
    plain = case.sample(model, positive, cfg=cfg)
    split = on_two(guided(model), calls) if node_first else guided(on_two(model, calls))
    found = case.sample(split, positive, cfg=cfg)
    assert len(calls) == 2, "both copies of the network have to work"
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
    assert (want - plain).abs().max() > 1e-3


def test_off_is_off_on_two_devices(two_devices):
    case = cases.BY_NAME["z-image"]
    model, calls = build(case), {}
    positive, negative = case.conditioning(7, 1), case.conditioning(5, 2, vsf_words=5)
    plain = case.sample(on_two(model, calls), positive, cfg=3.0)
    assert len(calls) == 2
    assert torch.equal(case.sample(on_two(vsf.guide(model, negative, scale=0.0), {}), positive, cfg=3.0), plain)
    assert torch.equal(case.sample(on_two(vsf.guide(model, negative, start=0.99, end=1.0), {}), positive, cfg=3.0), plain)
