"""Which conditionings are positive, whatever other nodes copy, cut or pass again; and calls with other rows than ComfyUI's."""
from __future__ import annotations

import dataclasses
import gc
import weakref

import cases
import comfy.samplers
import pytest
import tiny
import torch
import vsf
from neighbours import single, tiles
from vsf_pack.nodes.glue.sampling.patch import MARK, Run

FAMILIES = ("sd3", "sd1.5", "z-image")  # joint, cross, object-patched


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.fixture(params=FAMILIES)
def case(request):
    return cases.BY_NAME[request.param]


def guided(case, model=None, length: int = 5):
    return vsf.guide(cases.load(case.name) if model is None else model, case.conditioning(length, 2, vsf_words=length))


@pytest.mark.parametrize("name", ["wan2.1-t2v", "hunyuan-video", "cogvideox-2b", "ltxv"])
@pytest.mark.parametrize("order", ["windows last", "windows first"])
def test_context_windows(name, order):
    """ComfyUI's context windows copy the conditionings of each window: the negative acts in every one."""
    windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    import comfy.context_windows as cw
    case = cases.BY_NAME[name]
    if not case.exists:
        pytest.skip("not in this ComfyUI")
    case = dataclasses.replace(case, latent=(case.latent[0], 12, *case.latent[2:]))

    def windowed(model):
        return windows.ContextWindowsManualNode.execute(
            model, context_length=6, context_overlap=2, context_schedule=cw.ContextSchedules.STATIC_STANDARD, context_stride=1,
            closed_loop=False, fuse_method=cw.ContextFuseMethods.PYRAMID, dim=2, freenoise=False).args[0]
    positive = case.conditioning(7, 1)
    want = case.sample(windowed(case.reference(case.negative(5, 2, alpha=2.0))), positive, steps=3)
    out = windowed(guided(case)) if order == "windows last" else guided(case, windowed(cases.load(name)))
    assert relative_error(case.sample(out, positive, steps=3), want) <= 1e-5
    off = case.sample(windowed(cases.load(name)), positive, steps=3)
    assert relative_error(off, want) >= 1e-3


def test_a_second_pass_over_a_copy_of_the_positive(case):
    """As LTXVReferenceAudio, PAG and their like do: the negative acts there as in the first pass."""
    seen = []

    def again(args):
        entries = [{**e, "model_conds": dict(e["model_conds"])} for e in args["cond"]]
        (out,) = comfy.samplers.calc_cond_batch(args["model"], [entries], args["input"], args["sigma"], args["model_options"])
        seen.append(relative_error(out, args["cond_denoised"]))
        return args["denoised"]
    model = guided(case)
    model.set_model_sampler_post_cfg_function(again)
    case.sample(model, case.conditioning(7, 1))
    assert seen and max(seen) <= 1e-6


def test_no_mark_reaches_the_model_outside_the_window(case):
    """Off is the model without us: ComfyUI batches the positive with the others, and no input of ours arrives."""
    rows, keys = [], set()

    def spy(apply, args):
        rows.append(len(args["input"]))
        keys.update(args["c"])
        return apply(args["input"], args["timestep"], **args["c"])
    outs = []
    for model in (vsf.guide(cases.load(case.name), case.conditioning(5, 2, vsf_words=5), start=0.999), cases.load(case.name)):
        model = model.clone()
        model.set_model_unet_function_wrapper(spy)
        outs.append(case.sample(model, case.conditioning(7, 1), case.conditioning(7, 3), cfg=3.0))
    assert torch.equal(*outs)
    assert set(rows) == {2} and MARK not in keys and "vsf" not in keys


def test_a_step_without_its_positive_is_an_error_at_that_step(case):
    steps = []

    class Forgets(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006  ComfyUI's signature
            steps.append(1)
            name = "negative" if len(steps) == 2 else "positive"
            return comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, model_options)[0]
    guider = Forgets(guided(case))
    guider.set_conds(case.conditioning(7, 1), case.conditioning(7, 3))
    noise = torch.randn(1, *case.latent)
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "simple", 4)
    with pytest.raises(RuntimeError, match="VSF: use another guider.*Expected Forgets"):
        guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)
    assert len(steps) == 2


def test_a_call_around_calc_cond_batch_is_refused(case):
    """A node that hands a positive's inputs to the model by itself would lose the negative."""
    def around(args):
        entry = args["cond"][0]
        inputs = {k: c.process_cond(batch_size=1, area=None).cond for k, c in entry["model_conds"].items()}
        options = args["model_options"]["transformer_options"]
        args["model"].apply_model(args["input"], args["sigma"], transformer_options=options, **inputs)
    model = guided(case)
    model.set_model_sampler_post_cfg_function(around)
    with pytest.raises(ValueError, match="VSF: use a sampler built on ComfyUI's guiders"):
        case.sample(model, case.conditioning(7, 1))


@pytest.mark.parametrize("name", ["sd3", "flux1", "sd1.5", "wan2.1-t2v", "z-image", "hunyuan-video", "pixart-alpha",
                                  "ace-step"])
@pytest.mark.parametrize("wrapper", [single, tiles])
def test_other_rows_than_comfyui_batched(name, wrapper):
    """A model_function_wrapper may give the model single rows, or tiles."""
    case = cases.BY_NAME[name]
    want = case.sample(guided(case), case.conditioning(7, 1), batch=2)
    model = guided(case)
    model.set_model_unet_function_wrapper(wrapper)
    assert relative_error(case.sample(model, case.conditioning(7, 1), batch=2), want) <= 1e-5


@pytest.mark.parametrize("wrapper", [single, tiles])
def test_other_rows_with_a_negative_for_each_picture(case, wrapper):
    """Refused where rows differ, since which is whose cannot be known; as ever where they are alike."""
    def model(*seeds: int):
        tokens = torch.cat([tiny.tokens(5, seed, width=case.width) for seed in seeds])
        patched = vsf.guide(cases.load(case.name), [[tokens, {**case.options(5, 2), "vsf_words": 5}]])
        patched.set_model_unet_function_wrapper(wrapper)
        return patched
    positive = case.conditioning(7, 1)
    with pytest.raises(RuntimeError, match="VSF: connect one negative prompt for all pictures"):
        case.sample(model(2, 3), positive, batch=2)
    assert relative_error(case.sample(model(2, 2), positive, batch=2), case.sample(guided(case), positive, batch=2)) <= 1e-5


def test_nothing_of_a_run_is_left(case):
    """A run and its tags go with the run's end, without the garbage collector."""
    runs = []
    init = Run.__init__

    def remember(self, *args, **kwargs):
        init(self, *args, **kwargs)
        runs.append(weakref.ref(self))
    Run.__init__ = remember
    gc.collect()
    gc.disable()
    try:
        case.sample(guided(case), case.conditioning(7, 1), case.conditioning(7, 3), cfg=2.0)
        assert [run() for run in runs] == [None]
    finally:
        gc.enable()
        Run.__init__ = init
