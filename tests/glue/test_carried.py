"""Negatives that a CONDITIONING brings with it: each acts on that one, and no wire to the model is needed."""
from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import cases
import comfy.hooks
import comfy.samplers
import context_reference as reference
import pytest
import tiny
import torch
import vsf
from comfy_extras.nodes_custom_sampler import BasicGuider, DualCFGGuider
from comfy_extras.nodes_perpneg import PerpNegGuider
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.conditioning import CARRIED
from vsf_pack.nodes.glue.reading.conditioning import negative_prompts
from vsf_pack.nodes.glue.reading.contexts import ContextPrompt
from vsf_pack.nodes.glue.reading.masks import of_mask
from vsf_pack.nodes.glue.sampling.carry import carrying
from vsf_pack.nodes.glue.sampling.patch import attach
from vsf_pack.nodes.inputs import WAITING
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.schedule import read_curve

from nodes import (
    ConditioningAverage,
    ConditioningCombine,
    ConditioningConcat,
    ConditioningSetMask,
    ConditioningSetTimestepRange,
)

# joint, with positions, with object patches, cross, eps
NAMES = ["sd3", "flux1", "flux2", "lumina2", "kandinsky5", "sd1.5", "wan2.1-t2v", "qwen-image"]
POSITIVE = 7


@pytest.fixture(params=["flux1", "lumina2", "sd1.5"])
def case(request):
    return cases.BY_NAME[request.param]


def context_of(case, positive: list, seed: int, strength: float = 1.0, **settings) -> ContextPrompt:
    """A context as long as its prompt, all of it words."""
    rows, options = positive[0]
    words = {"cross_attn": torch.ones(POSITIVE, dtype=torch.bool)}
    return ContextPrompt(tiny.tokens(POSITIVE, seed, width=case.width), strength, options=options, own=words, prompt=rows,
                         words=words, **settings)


def carried(case, seed: int, negative: int, strength: float = 1.0, **settings) -> list:
    positive = case.conditioning(POSITIVE, seed)
    return carrying(positive, [context_of(case, positive, negative, strength, **settings)])


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("name", NAMES)
def test_alone_it_is_what_it_is_on_the_model(name):
    """Bit for bit; and the model and the conditioning are as they were."""
    case = cases.BY_NAME[name]
    model, positive = cases.load(name), case.conditioning(POSITIVE, 1)
    context = context_of(case, positive, 50)
    plain = case.sample(model, positive)
    on_the_model = case.sample(attach(model, [context]), positive)
    own = carrying(positive, [context])
    before = str(model.model_options), str(model.wrappers), str(model.callbacks), dict(model.object_patches)
    for _ in range(2):
        assert torch.equal(case.sample(model, own), on_the_model)
    assert not torch.equal(plain, on_the_model)
    assert before == (str(model.model_options), str(model.wrappers), str(model.callbacks), dict(model.object_patches))
    assert torch.equal(case.sample(model, positive), plain)
    assert own[0][0] is positive[0][0] and CARRIED not in positive[0][1] and "hooks" in own[0][1]


class Regions(reference.Branches):
    """Each prompt with its own contexts in a call of its own; their mean by masks. From noise on, in double precision."""

    def set_regions(self, regions: list[tuple[list, list[list], torch.Tensor]]) -> None:
        self.masks = [mask for *_, mask in regions]
        self.texts = [len(contexts) for _, contexts, _ in regions]
        self.inner_set_conds({f"{i} {j}": text for i, (positive, contexts, _) in enumerate(regions)
                              for j, text in enumerate([positive, *contexts])})

    def predict_noise(self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = {},  # noqa: B006  ComfyUI's
                      seed: Any = None) -> torch.Tensor:
        total = torch.zeros_like(x)
        for i, (mask, contexts) in enumerate(zip(self.masks, self.texts, strict=True)):
            conds = [self.conds[f"{i} {j}"] for j in range(1 + contexts)]
            total += mask.to(x) * comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]
        return total / sum(self.masks).to(x)


def sample(case, guider: comfy.samplers.CFGGuider, steps: int = 2) -> torch.Tensor:
    noise = torch.randn(1, *case.latent, generator=torch.Generator().manual_seed(0))
    model = guider.model_patcher
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    with torch.inference_mode():
        return guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)


def three_parts(case: cases.Case) -> list[torch.Tensor]:
    """Masks of the left half, of the right half at 0.7, and of the first row at 0.5, over both."""
    height, width = case.latent[-2:]
    masks = [torch.zeros(1, height, width) for _ in range(3)]
    masks[0][..., :width // 2], masks[1][..., width // 2:], masks[2][:, :1] = 1.0, 0.7, 0.5
    return masks


@pytest.mark.parametrize("name", NAMES)
def test_regions_equal_the_reference(name):
    """Two prompts side by side, each with a negative of its own, and a third that has none."""
    case = cases.BY_NAME[name]
    masks = three_parts(case)
    first, second, third = (case.conditioning(POSITIVE, seed) for seed in (1, 2, 3))
    contexts = [context_of(case, first, 50), context_of(case, second, 51)]
    parts = [carrying(first, contexts[:1]), carrying(second, contexts[1:]), third]
    positive = sum((ConditioningSetMask().append(part, mask, "default", 1.0)[0]
                    for part, mask in zip(parts, masks, strict=True)), [])
    out = case.sample(cases.load(name), positive)

    words = {"cross_attn": torch.ones(POSITIVE, dtype=torch.bool)}
    guider = Regions(reference.patch(case, cases.load(name, torch.float64), words, [1.0]))
    texts = [[[[c.tokens, c.options]]] for c in contexts]
    guider.set_regions([(first, texts[0], masks[0]), (second, texts[1], masks[1]), (third, [], masks[2])])
    truth = sample(case, guider)
    assert relative_error(out, truth) <= 1e-5
    without = sum((ConditioningSetMask().append(part, mask, "default", 1.0)[0]
                   for part, mask in zip((first, second, third), masks, strict=True)), [])
    assert relative_error(case.sample(cases.load(name), without), truth) >= 1e-3


def test_one_prompt_after_another(case):
    """Prompt scheduling: each part of the sampling has its own prompt and its own negative."""
    first, second = carried(case, 1, 50), carried(case, 2, 51)

    def parts(a: list, b: list) -> list:
        between = ConditioningSetTimestepRange().set_range
        return [*between(a, 0.0, 0.5)[0], *between(b, 0.51, 1.0)[0]]
    model = cases.load(case.name)
    out = case.sample(model, parts(first, second), steps=4)
    plain = case.conditioning(POSITIVE, 1), case.conditioning(POSITIVE, 2)
    contexts = [context_of(case, plain[0], 50), context_of(case, plain[1], 51)]
    assert torch.equal(out, case.sample(attach(model, contexts), parts(*plain), steps=4))
    assert not torch.equal(out, case.sample(model, parts(first, plain[1]), steps=4))


def test_the_same_text_with_and_without(case):
    """Of two conditionings of one text, only the one that carries it has it: on the model, it would be both's."""
    width = case.latent[-1]
    left = torch.zeros(1, case.latent[-2], width)
    left[..., :width // 2] = 1.0
    plain, own = case.conditioning(POSITIVE, 1), carried(case, 1, 50)

    def halves(a: list, b: list) -> list:
        return [*ConditioningSetMask().append(a, left, "default", 1.0)[0],
                *ConditioningSetMask().append(b, 1 - left, "default", 1.0)[0]]
    model, seen = cases.load(case.name), []
    for positive in (halves(plain, plain), halves(own, plain), halves(own, own)):
        case.sample(model, positive, steps=1, callback=lambda step, x0, *_: seen.append(x0.clone()))
    without, one, both = seen
    half = left.bool().expand_as(without)
    assert torch.allclose(one[~half], without[~half], atol=1e-5) and torch.allclose(one[half], both[half], atol=1e-5)
    assert relative_error(one, without) >= 1e-3 and relative_error(one, both) >= 1e-3


class Dense(VSFAttention):
    """Both rules by dense masks, in double precision (vsf_core/dense.py)."""

    def join(self, layout: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, *args: Any,
             **kwargs: Any) -> torch.Tensor:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return vsf_attention_dense(q, k, v, layout).to(q.dtype)


@pytest.mark.parametrize("name", ["flux1", "kandinsky5", "sd1.5", "wan2.1-t2v"])
def test_beside_negatives_of_the_model(name):
    """The model's act on every prompt, a conditioning's on its own; against dense attention in double precision."""
    case = cases.BY_NAME[name]
    model = vsf.guide(cases.load(name), case.conditioning(4, 4, vsf_words=4), 1.5, 0.2)
    positive = [*carried(case, 1, 50, curve=read_curve("fade out")), *case.conditioning(POSITIVE, 2)]
    out = case.sample(model, positive)
    dense = attach(cases.load(name), model.get_attachment("vsf").negatives, Dense)
    truth = case.sample(dense, positive)
    assert relative_error(out, truth) <= 1e-5
    assert relative_error(case.sample(cases.load(name), positive), truth) >= 1e-4
    assert relative_error(case.sample(model, [*case.conditioning(POSITIVE, 1), *case.conditioning(POSITIVE, 2)]), truth) >= 1e-4


def test_it_says_on_its_node_what_it_did(case, caplog):
    caplog.set_level(logging.INFO, "vsf")
    fading_in = carried(case, 2, 51, node="4", curve=read_curve("fade in"))
    case.sample(cases.load(case.name), [*carried(case, 1, 50, node="3"), *fading_in], steps=4)
    assert [r.message for r in caplog.records if r.name == "vsf"] == ["VSF: acted in 4 of 4 steps",
                                                                      "VSF: acted in 3 of 4 steps"]


def test_a_guider_of_one_input(case):
    model, own = cases.load(case.name), carried(case, 1, 50)
    guider = BasicGuider.execute(model, own).args[0]
    other = BasicGuider.execute(attach(model, [context_of(case, plain := case.conditioning(POSITIVE, 1), 50)]), plain).args[0]
    assert torch.equal(sample(case, guider), sample(case, other))
    assert guider.model_patcher is model


@pytest.mark.parametrize("name", ["flux1", "sd1.5"])
def test_hooks_of_other_nodes_stay(name):
    """A LoRA on the model by hooks beside it acts as it does without."""
    case = cases.BY_NAME[name]
    weights = cases.load(case.name).model.state_dict()
    group = comfy.hooks.create_hook_lora({}, 1.0, 0.0)
    group.hooks[0].weights = {key: ("diff", (0.3 * w,)) for key, w in weights.items() if w.ndim == 2 and "att" in key}
    group.hooks[0].need_weight_init = False

    def hooked(cond: list) -> list:
        return comfy.hooks.set_hooks_for_conditioning(cond, group)
    model, plain = cases.load(case.name), case.conditioning(POSITIVE, 1)
    out = case.sample(model, hooked(carried(case, 1, 50)))
    assert torch.equal(out, case.sample(attach(model, [context_of(case, plain, 50)]), hooked(plain)))
    assert relative_error(out, case.sample(model, carried(case, 1, 50))) > 1e-3
    assert relative_error(out, case.sample(model, hooked(plain))) > 1e-3


def test_where_it_cannot_act_is_an_error(case):
    model, own, plain = cases.load(case.name), carried(case, 1, 50), case.conditioning(POSITIVE, 1)
    with pytest.raises(ValueError, match="VSF: connect VSF Conditioning to a `positive` input. .* the guider's negative ones"):
        case.sample(model, plain, own, cfg=2.0)
    averaged = ConditioningAverage().addWeighted(own, case.conditioning(POSITIVE, 9), 0.5)[0]
    with pytest.raises(ValueError, match="VSF: put VSF Conditioning behind the nodes that change a prompt's text"):
        case.sample(model, averaged)
    with pytest.raises(ValueError, match="VSF: connect VSF Text Encode to `negative`. .* VSF Conditioning is for a `positive`"):
        vsf.guide(model, own)
    with pytest.raises(ValueError, match="VSF: connect the prompt .* to `context`. .* VSF Conditioning is for"):
        VSFContrast.execute(model, own, 1.0, 0.0, 1.0)
    both = ConditioningCombine().combine(own, plain)[0]
    assert torch.isfinite(case.sample(model, both, cfg=2.0)).all()


def test_a_model_that_vsf_cannot_work_in_is_an_error(case, monkeypatch):
    from vsf_pack.nodes.glue import families
    monkeypatch.setattr(families, "FAMILIES", {})
    with pytest.raises(ValueError, match="VSF: bypass or remove the VSF node for this model"):
        case.sample(cases.load(case.name), carried(case, 1, 50))


@pytest.mark.skipif(cases.VERSION < (0, 30, 0), reason="an older ComfyUI has no such guider, or does not tell its options")
def test_a_second_model_for_the_negative_alone(case):
    """Core's DualModelGuider runs it by the first model's wrappers: nothing of ours would be called."""
    from comfy_extras.nodes_custom_sampler import DualModelGuider
    model, positive = cases.build(case, torch.float32), case.conditioning(POSITIVE, 1)
    guided = vsf.guide(cases.load(case.name), case.conditioning(4, 4, vsf_words=4))
    wrong = DualModelGuider.execute(model, positive, 2.0, guided, case.conditioning(4, 2)).args[0]
    with pytest.raises(ValueError, match="VSF: put the VSF node on the model that samples the positive prompt"):
        sample(case, wrong)
    for first, second in ((guided, model), (guided, guided)):
        right = DualModelGuider.execute(first, positive, 2.0, second, case.conditioning(4, 2)).args[0]
        assert torch.isfinite(sample(case, right)).all()


@pytest.mark.skipif(cases.VERSION < (0, 30, 0), reason="an older ComfyUI has no such guider")
def test_a_second_model_that_is_left_out(case, caplog):
    """At CFG 1 the guider does not touch it, so that nothing in it can speak: its node shows what to do since before."""
    from comfy_extras.nodes_custom_sampler import DualModelGuider
    caplog.set_level(logging.INFO, "vsf")
    model, positive = cases.build(case, torch.float32), case.conditioning(POSITIVE, 1)
    for guided in (vsf.guide(cases.load(case.name), case.conditioning(4, 4, vsf_words=4)),
                   VSFContrast.execute(cases.load(case.name), case.conditioning(9, 3), 1.0, 0.0, 1.0).args[0]):
        guider = DualModelGuider.execute(model, positive, 1.0, guided, case.conditioning(4, 2)).args[0]
        assert torch.equal(sample(case, guider), sample(case, BasicGuider.execute(model, positive).args[0]))
    assert [r.message for r in caplog.records if r.name == "vsf"] == 2 * [f"VSF: {WAITING}"]


def test_guiders_of_several_prompts(case):
    """Core's: it acts as the guider's `positive`, and in any other place it is told where it belongs."""
    model, own, other = cases.load(case.name), carried(case, 1, 50), case.conditioning(4, 2)
    on_the_model = attach(model, [context_of(case, plain := case.conditioning(POSITIVE, 1), 50)])

    def dual(model: Any, positive: list, middle: list, negative: list) -> Any:
        return DualCFGGuider.execute(model, positive, middle, negative, 2.0, 1.5, "regular").args[0]

    def perpendicular(model: Any, positive: list, empty: list, negative: list) -> Any:
        return PerpNegGuider.execute(model, positive, negative, empty, 2.0, 1.0).args[0]

    for name, guider in {"middle": dual, "empty_negative_prompt": perpendicular}.items():
        out = sample(case, guider(model, own, other, other))
        assert torch.equal(out, sample(case, guider(on_the_model, plain, other, other)))
        assert relative_error(out, sample(case, guider(model, plain, other, other))) >= 1e-3
        with pytest.raises(ValueError, match=f"VSF: connect VSF Conditioning to a `positive` input. .* guider's {name} ones"):
            sample(case, guider(model, plain, own, other))


@pytest.mark.parametrize("change", [
    lambda own, plain: ConditioningConcat().concat(plain, own)[0],
    lambda own, plain: ConditioningAverage().addWeighted(plain, own, 0.5)[0],
    lambda own, plain: [[own[0][0], {"pooled_output": own[0][1]["pooled_output"]}]],
], ids=["behind another prompt", "averaged into another", "options dropped"])
def test_nodes_that_leave_it_out(change, case, caplog):
    """What ComfyUI's nodes drop of a second conditioning cannot speak in the run; the node shows that it was not sampled."""
    caplog.set_level(logging.INFO, "vsf")
    own, plain = carried(case, 1, 50), case.conditioning(POSITIVE, 2)
    left = change(own, plain)
    assert all(CARRIED not in options and "hooks" not in options for _, options in left)
    case.sample(cases.load(case.name), left)
    assert not [r for r in caplog.records if r.name == "vsf"], "nothing says that it has acted"


def test_its_hook_alone_is_dropped(case, caplog):
    """The model's own VSF nodes read the conditioning all the same; without them, the node shows that it was not sampled."""
    caplog.set_level(logging.INFO, "vsf")
    own, plain = carried(case, 1, 50), case.conditioning(POSITIVE, 1)
    without = [[rows, {name: o for name, o in options.items() if name != "hooks"}] for rows, options in own]
    guided = vsf.guide(cases.load(case.name), case.conditioning(4, 4, vsf_words=4))
    assert torch.equal(case.sample(guided, without), case.sample(guided, own))
    caplog.clear()
    assert torch.equal(case.sample(cases.load(case.name), without), case.sample(cases.load(case.name), plain))
    assert not [r for r in caplog.records if r.name == "vsf"]


def test_a_negative_is_kept_once_for_all_that_carry_it(case):
    """The same conditioning in two places of a combination."""
    own = carried(case, 1, 50)
    find = functools.partial(ConditioningSetTimestepRange().set_range, own)
    model = cases.load(case.name)
    twice = [*find(0.0, 0.5)[0], *find(0.501, 1.0)[0]]
    assert torch.equal(case.sample(model, twice, steps=3), case.sample(model, own, steps=3))


# -- the paper's rule -------------------------------------------------------------------------------------------------

def papers(case, seed: int, negative: int, scale: float, bias: float = 0.2, length: int = 5, **settings) -> list:
    """A prompt that brings a negative by the paper's rule."""
    prompts = negative_prompts(case.conditioning(length, negative, vsf_words=length), scale, bias, 0.0, 1.0)
    return carrying(case.conditioning(POSITIVE, seed), [dataclasses.replace(n, **settings) for n in prompts])


class PaperRegions(reference.Branches):
    """Each prompt in a call of its own; their mean by masks. From noise on, in double precision. region: that of the call."""
    region = -1

    def set_regions(self, regions: list[tuple[list, torch.Tensor]]) -> None:
        self.masks = [mask for _, mask in regions]
        self.inner_set_conds({str(i): text for i, (text, _) in enumerate(regions)})

    def predict_noise(self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = {},  # noqa: B006  ComfyUI's
                      seed: Any = None) -> torch.Tensor:
        total = torch.zeros_like(x)
        for region, mask in enumerate(self.masks):
            self.region = region
            conds = [self.conds[str(region)]]
            total += mask.to(x) * comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]
        return total / sum(self.masks).to(x)


@pytest.mark.parametrize("name", NAMES)
def test_regions_by_the_papers_rule_equal_the_reference(name):
    """Two prompts side by side, each with a negative of its own; a third over them has none."""
    case = cases.BY_NAME[name]
    masks = three_parts(case)
    parts = [papers(case, 1, 50, 2.0), papers(case, 2, 51, 1.0, 0.0, 3), case.conditioning(POSITIVE, 3)]
    out = case.sample(cases.load(name), [entry for part, mask in zip(parts, masks, strict=True)
                                         for entry in ConditioningSetMask().append(part, mask, "default", 1.0)[0]])
    first = case.negative(5, 50, alpha=2.0, beta=0.2, active=lambda sigma: guider.region == 0)
    second = case.negative(3, 51, alpha=1.0, active=lambda sigma: guider.region == 1)
    guider = PaperRegions(case.reference(first, second))
    guider.set_regions([(case.conditioning(POSITIVE, 1 + i), mask) for i, mask in enumerate(masks)])
    truth = sample(case, guider)
    assert relative_error(out, truth) <= 1e-5
    second.active = lambda sigma: False
    assert relative_error(out, sample(case, guider)) >= 1e-4


def test_by_the_papers_rule_alone_it_is_what_it_is_on_the_model(case, caplog):
    """Bit for bit, with a curve and a mask; beside VSF Guidance on the model, and beside a context of the same prompt."""
    caplog.set_level(logging.INFO, "vsf")
    model, plain, mask = cases.load(case.name), case.conditioning(POSITIVE, 1), torch.eye(8)
    settings = dict(curve=read_curve("fade out"), region=of_mask(mask))
    own, (n,) = papers(case, 1, 50, 2.0, node="3", name="wheels", told="said", **settings), negative_prompts(
        case.conditioning(5, 50, vsf_words=5), 2.0, 0.2, 0.0, 1.0)
    n = dataclasses.replace(n, **settings)
    out = case.sample(model, own)
    assert [r.message for r in caplog.records if r.name == "vsf"][-1] == 'VSF: "wheels" acted in 2 of 2 steps on 5 tokens\nsaid'
    assert torch.equal(out, case.sample(attach(model, [n]), plain))
    assert not torch.equal(out, case.sample(model, plain))
    both = attach(model, [context_of(case, plain, 52)])
    assert torch.equal(case.sample(both, own), case.sample(attach(both, [n]), plain))
    assert not torch.equal(case.sample(both, own), out)
    with pytest.raises(ValueError, match="VSF: connect VSF Conditioning to a `positive` input."):
        case.sample(model, plain, own, cfg=2.0)


# -- a mask of its own ------------------------------------------------------------------------------------------------

def grey(case, seed: int) -> torch.Tensor:
    """(frames or 1, height, width): black, grey and white cells of the latent."""
    frames = case.latent[1] if len(case.latent) == 4 else 1
    return torch.rand(frames, *case.latent[-2:], generator=torch.Generator().manual_seed(seed)).round(decimals=1)


def shares(mask: torch.Tensor) -> torch.Tensor:
    """m of image tokens of 2 x 2 cells each, (1, tokens)."""
    frames, height, width = mask.shape
    return torch.stack([mask[t, y:y + 2, x:x + 2].mean() for t in range(frames) for y in range(0, height, 2)
                        for x in range(0, width, 2)])[None].double()


class MaskedRegions(Regions):
    """As Regions; the negatives of each prompt have a mask of their own, `shares` of which are the call's."""
    shares: list[torch.Tensor]
    region = 0

    def predict_noise(self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = {},  # noqa: B006  ComfyUI's
                      seed: Any = None) -> torch.Tensor:
        total = torch.zeros_like(x)
        for region, mask in enumerate(self.masks):
            self.region = region
            conds = [self.conds[f"{region} {j}"] for j in range(2)]
            total += mask.to(x) * comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]
        return total / sum(self.masks).to(x)


@pytest.mark.parametrize("name", ["sd3", "flux1", "qwen-image", "wan2.1-t2v"])
def test_masks_of_their_own_equal_the_reference(name):
    """Two prompts, one over the other, each with a negative that acts in another part of the picture."""
    case = cases.BY_NAME[name]
    first, second = case.conditioning(POSITIVE, 1), case.conditioning(POSITIVE, 2)
    masks, halves = [grey(case, 5), grey(case, 6)], [torch.ones(1, *case.latent[-2:]), torch.full((1, *case.latent[-2:]), 0.5)]
    contexts = [context_of(case, first, 50, region=of_mask(masks[0])), context_of(case, second, 51, region=of_mask(masks[1]))]
    positive = [*ConditioningSetMask().append(carrying(first, contexts[:1]), halves[0], "default", 1.0)[0],
                *ConditioningSetMask().append(carrying(second, contexts[1:]), halves[1], "default", 1.0)[0]]
    out = case.sample(cases.load(name), positive)
    words, own = {"cross_attn": torch.ones(POSITIVE, dtype=torch.bool)}, [shares(mask) for mask in masks]
    guider = MaskedRegions(reference.patch(case, cases.load(name, torch.float64), words, [1.0],
                                           shares=[lambda tokens: own[guider.region]]))
    guider.set_regions([(text, [[[c.tokens, c.options]]], half)
                        for text, c, half in zip((first, second), contexts, halves, strict=True)])
    truth = sample(case, guider)
    assert relative_error(out, truth) <= 1e-5
    own.reverse()
    assert relative_error(out, sample(case, guider)) >= 1e-3, "which mask is whose must matter"


def test_a_model_of_sound_takes_no_mask():
    case = cases.BY_NAME["stable-audio"]
    positive = case.conditioning(POSITIVE, 1)
    own = carrying(positive, [context_of(case, positive, 50, region=of_mask(torch.eye(8)))])
    with pytest.raises(ValueError, match="VSF: leave `mask` empty for this model, .* found .*, which makes sound"):
        case.sample(cases.load("stable-audio"), own)


def test_what_its_model_cannot_take(case):
    """There is no wire to the model: what another node says at once is said as the run begins."""
    positive = case.conditioning(POSITIVE, 1)
    context = context_of(case, positive, 50)
    wide = dataclasses.replace(context, tokens=tiny.tokens(POSITIVE, 50, width=case.width + 8))
    with pytest.raises(ValueError, match=f"VSF: encode the negative with .* width {case.width}, .* found {case.width + 8}"):
        case.sample(cases.load(case.name), carrying(positive, [wide]))
    huge = dataclasses.replace(context, tokens=context.tokens / context.tokens.abs().max() * 1e30)
    with pytest.raises(ValueError, match="VSF: load the text encoder in another precision. Expected values up to 1e.09"):
        case.sample(cases.load(case.name), carrying(positive, [huge]))


# -- context windows --------------------------------------------------------------------------------------------------

def windowed(model: Any, split: bool) -> Any:
    """Three windows of a video of 12 latent frames."""
    import comfy.context_windows as cw
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode
    patched, = ContextWindowsManualNode.execute(
        model, context_length=6, context_overlap=3, context_schedule=cw.ContextSchedules.STATIC_STANDARD, context_stride=1,
        closed_loop=False, fuse_method=cw.ContextFuseMethods.PYRAMID, dim=2, freenoise=False, split_conds_to_windows=split).args
    return patched


@pytest.mark.parametrize("name", ["wan2.1-t2v", "hunyuan-video-1.5"])
def test_a_prompt_in_context_windows_equals_the_reference(name):
    """Against a call of its own for each text, in the same windows, in double precision."""
    pytest.importorskip("comfy_extras.nodes_context_windows")
    case = cases.BY_NAME[name]
    case = dataclasses.replace(case, latent=(case.latent[0], 12, *case.latent[2:]))
    positive, words = case.conditioning(POSITIVE, 1), {"cross_attn": torch.ones(POSITIVE, dtype=torch.bool)}
    context = context_of(case, positive, 50)
    out = case.sample(windowed(cases.load(name), False), carrying(positive, [context]))
    guider = reference.Branches(windowed(reference.patch(case, cases.load(name, torch.float64), words, [1.0]), False))
    guider.set_branches(positive, [[[context.tokens, context.options]]], case.conditioning(3, 999), 1.0)
    assert relative_error(out, truth := sample(case, guider)) <= 1e-5
    assert relative_error(case.sample(windowed(cases.load(name), False), positive), truth) >= 1e-3


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", ["wan2.1-t2v", "hunyuan-video-1.5"])
def test_context_windows(name, split):
    """Each window's prompts bring their negatives, with the window's frames of their masks: all prompts, or the one that is the
    window's own. Against dense attention in double precision."""
    pytest.importorskip("comfy_extras.nodes_context_windows")
    case = cases.BY_NAME[name]
    case = dataclasses.replace(case, latent=(case.latent[0], 12, *case.latent[2:]))
    first, second = case.conditioning(POSITIVE, 1), case.conditioning(POSITIVE, 2)
    mask = grey(case, 5)
    contexts = [context_of(case, first, 50, region=of_mask(mask)), context_of(case, second, 51, strength=0.5)]
    positive = [*carrying(first, contexts[:1]), *carrying(second, contexts[1:])]
    out = case.sample(windowed(cases.load(name), split), positive)
    on_the_model = case.sample(windowed(attach(cases.load(name), contexts), split), [*first, *second])
    dense = case.sample(windowed(attach(cases.load(name), contexts, Dense), split), [*first, *second])
    assert torch.equal(out, on_the_model)
    assert relative_error(out, dense) <= 1e-5
    other = [*carrying(first, [context_of(case, first, 50)]), *carrying(second, contexts[1:])]
    without = [*first, *carrying(second, contexts[1:])]
    for change in (other, without):
        assert relative_error(case.sample(windowed(cases.load(name), split), change), out) >= 1e-4
