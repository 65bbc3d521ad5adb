"""Attention that a model calls without transformer_options (nodes/glue/families/unseen.py)."""
from __future__ import annotations

import threading

import cases
import comfy.ldm.modules.attention
import pytest
import torch
import vsf
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from vsf_pack.nodes.glue.families import unseen
from vsf_pack.nodes.glue.reading.conditioning import WORDS

NAMES = ["pixart-sigma", "ernie-image", "hunyuan-dit", "ace-step-1.5"]


@pytest.fixture(params=NAMES)
def case(request):
    return cases.BY_NAME[request.param]


def negative(case, length: int = 5) -> list:
    return case.conditioning(length, 50, **{WORDS: length})


def sample(case, model, **more) -> torch.Tensor:
    return case.sample(model, case.conditioning(7, 1), **more)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a - b).norm() / b.norm()).item() <= 1e-5


def test_models_call_attention_without_options(case):
    """If ComfyUI hands its options on one day, this file and unseen.py have done their work."""
    calls = []
    model = cases.load(case.name).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = lambda *args, **kwargs: calls.append(1)
    sample(case, model)
    assert not calls


def test_the_model_is_as_before_without_us(case):
    """The patches go with the node, and nothing is left behind by a call."""
    model = cases.load(case.name)
    plain = sample(case, model)
    guided = sample(case, vsf.guide(model, negative(case)))
    assert not torch.equal(guided, plain)
    assert torch.equal(sample(case, model), plain)
    assert unseen._options.get() is None
    assert torch.equal(sample(case, vsf.guide(model, negative(case))), guided)


def test_an_error_in_the_model_leaves_nothing_behind(case):
    model = vsf.guide(cases.load(case.name), negative(case))

    def fail(*args, **kwargs):
        raise RuntimeError("no memory")

    model.model_options["transformer_options"]["optimized_attention_override"] = fail
    with pytest.raises(RuntimeError, match="no memory"):
        sample(case, model)
    assert unseen._options.get() is None


def test_threads_do_not_meet(case):
    """As with several GPUs: while one thread samples with a negative, another finds no options."""
    found = []

    def spy(func, *args, **kwargs):
        thread = threading.Thread(target=lambda: found.append(unseen._options.get()))
        thread.start()
        thread.join()
        return func(*args, **kwargs)

    model = vsf.guide(cases.load(case.name), negative(case))
    model.model_options["transformer_options"]["optimized_attention_override"] = spy
    sample(case, model)
    assert found and set(found) == {None}


def test_two_nodes_wrap_attention_once(case):
    """A second VSF node adds its negative and leaves the patches as they are."""
    once = vsf.guide(cases.load(case.name), negative(case))
    twice = vsf.guide(once, negative(case, 4), 1.0)
    assert once.object_patches and all(twice.object_patches[name] is patch for name, patch in once.object_patches.items())


def test_another_override_is_kept(case):
    """The kernel that a user chose computes the calls that VSF makes."""
    model = cases.load(case.name)
    other, calls = model.clone(), []

    def kernel(func, *args, **kwargs):
        calls.append(1)
        return comfy.ldm.modules.attention.attention_pytorch.__wrapped__(*args, **kwargs)

    other.model_options["transformer_options"]["optimized_attention_override"] = kernel
    out = sample(case, vsf.guide(other, negative(case)))
    assert calls and close(out, sample(case, vsf.guide(model, negative(case))))


def test_attention_of_another_node_is_refused(case):
    model = cases.load(case.name).clone()
    path = next(name for name in vsf.guide(model, negative(case)).object_patches if name != "diffusion_model.forward")
    model.add_object_patch(path, lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match="VSF: remove the node .* Expected ComfyUI's own attention, found one that"):
        vsf.guide(model, negative(case))


@pytest.mark.parametrize("case", ["ernie-image", *(["pixart-sigma"] if vsf.EVERY else [])], indirect=True)
def test_torch_compile(case):
    """TorchCompileModel's own wrapper and its guard filter, with a back end that needs no compiler."""
    model = cases.load(case.name)
    compiled = model.clone()
    torch._dynamo.reset()

    def aot_eager(graph, inputs, **_):
        return graph.forward

    set_torch_compile_wrapper(model=compiled, backend=aot_eager, options={"guard_filter_fn": skip_torch_compile_dict})
    assert close(sample(case, compiled, steps=1), sample(case, model, steps=1))
    for scale, bias, length in ((2.0, 0.3, 5), (0.5, 0.0, 4)):  # all three change: any that stays behind would be seen
        out, eager = (sample(case, vsf.guide(m, negative(case, length), scale, bias), steps=1) for m in (compiled, model))
        assert close(out, eager), (scale, bias, length)
    assert close(sample(case, compiled, steps=1), sample(case, model, steps=1))
