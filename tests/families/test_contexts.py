"""The context rule in every family: a context that is the prompt once more changes nothing, and any other does what the formula
says (tests/helpers/context_reference.py)."""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cases
import comfy.samplers
import context_reference as reference
import pytest
import times
import torch
from cases import Case
from contexts_of import (
    AXES,
    POSITIVE,
    TEXT_OPTIONS,
    context_of,
    given,
    in_branches,
    relative_error,
    sample,
    sample_pack,
    words_of,
)
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.reading.contexts import ContextPrompt
from vsf_pack.nodes.glue.sampling import run
from vsf_pack.nodes.glue.sampling.patch import attach
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.schedule import read_curve

FORMS = ["whole rows", "words"]
NEEDS_DOUBLE = {"krea2", "krea2-edit-index", "krea2-edit-index-timestep-zero"}
"""Single precision's own rounding is 1e-6 in them."""


@pytest.fixture(scope="module", params=cases.ALL, ids=lambda case: case.name)  # a model's tests run one after the other
def case(request) -> Case:
    if not request.param.exists:
        pytest.skip("not in this ComfyUI")
    return request.param


@functools.cache
def plain(name: str, batch: int, cfg: float = 1.0, dtype=torch.float32) -> torch.Tensor:
    return sample_pack(cases.BY_NAME[name], [], batch, cfg, dtype)


SETTINGS = {  # contexts' seeds and strengths, form, batch, CFG; the smallest strength is not capped
    "one": (((50, 1.0),), "whole rows", 1, 3.0),
    "two": (((51, 1.0), (52, 0.04)), "words", 3, 1.0),
}


@functools.cache
def expected(name: str, setting: str, rules: reference.Rules = reference.TRUTH, order: tuple[int, ...] = ()) -> torch.Tensor:
    """By the reference. order: of the contexts' words, if not their own."""
    case = cases.BY_NAME[name]
    contexts, form, batch, cfg = SETTINGS[setting]
    words = words_of(case, form)
    model = reference.patch(case, cases.load(name, torch.float64), words, [strength for _, strength in contexts], rules)
    guider = reference.Branches(model)
    texts = [context_of(case, seed, words) for seed, _ in contexts]
    if order:
        texts = [(rows[:, list(order)], {name: moved(name, option, order) for name, option in options.items()})
                 for rows, options in texts]
    guider.set_branches(case.conditioning(POSITIVE, 1), [[list(text)] for text in texts], case.conditioning(4, 2), cfg)
    return sample(case, guider, batch)


def moved(name: str, option: Any, order: tuple[int, ...]) -> Any:
    """An option with its first tokens in another order, if it is a text."""
    if name not in TEXT_OPTIONS:
        return option
    axis = AXES.get(name, -2)
    places = [*(i for i in order if i < option.shape[axis]), *range(len(order), option.shape[axis])]
    return option.index_select(axis, torch.tensor(places))


@pytest.mark.parametrize("setting", SETTINGS)
def test_context_equals_the_reference(case, setting):
    case = in_branches(case)
    contexts, form, batch, cfg = SETTINGS[setting]
    words = words_of(case, form)
    out = sample_pack(case, [given(case, words, *context_of(case, seed, words), strength) for seed, strength in contexts],
                      batch, cfg)
    truth = expected(case.name, setting)
    assert relative_error(out, truth) <= 1e-5
    assert relative_error(plain(case.name, batch, cfg), truth) >= 1e-3, "the context must matter, or nothing is proved"


OF_MANY_KINDS = ["sd3", "flux1", "flux2", "qwen-image", "lumina2", "hidream-i1", "kandinsky5", "sd1.5", "wan2.1-t2v", "krea2"]


@pytest.mark.parametrize("name", OF_MANY_KINDS)
def test_a_curve_equals_the_reference(name):
    """At each noise level the strength is so many times its own; one that the cap does not hide."""
    case = cases.BY_NAME[name]
    points = [(0.0, 0.4), (0.3, 1.0), (1.0, 0.2)]
    words = words_of(case, "words")
    rows, options = context_of(case, 52, words)
    curve = read_curve(", ".join(f"{time}:{factor}" for time, factor in points))

    def sampled(curve: Any) -> torch.Tensor:
        return sample_pack(case, [dataclasses.replace(given(case, words, rows, options, 0.06), curve=curve)], 1)
    model = cases.load(name, torch.float64)
    sampling = model.get_model_object("model_sampling")
    patched = reference.patch(case, model, words, [0.06],
                              factor=lambda sigma: times.factor(points, times.time_of(sigma, sampling)))
    guider = reference.Branches(patched)
    guider.set_branches(case.conditioning(POSITIVE, 1), [[[rows, options]]], case.conditioning(4, 2), 1.0)
    truth = sample(case, guider, 1)
    assert relative_error(sampled(curve), truth) <= 1e-5
    assert relative_error(sampled(None), truth) >= 1e-4


@pytest.mark.parametrize("mutant", [*reference.MUTANTS, "positions"])
def test_a_wrong_rule_would_be_seen(case, mutant):
    """The comparison's power: the reference with one rule broken, or with the context's words in other places, is farther from
    the truth than the tolerance."""
    case = in_branches(case)
    if mutant == "positions":
        if not case.positions:
            pytest.skip("this model does not number its text")
        order = (1, 2, 3, 4, 0, 5, 6)
        assert relative_error(expected(case.name, "two", order=order), expected(case.name, "two")) >= 1e-4
        return
    if mutant in reference.OF_TEXT_QUERIES and "the negative sees the prompt" in case.no_mutants:
        pytest.skip("in this model, words ask nothing")
    if mutant in case.no_mutants or (mutant == "each branch has its own padding" and not case.padded):
        pytest.skip("this model's prompts have no padding, or nothing sees it")
    wrong = expected(case.name, "two", reference.MUTANTS[mutant])
    assert relative_error(wrong, expected(case.name, "two")) >= 5e-5  # five times what the comparison allows


def test_the_prompt_once_more_changes_nothing(case, monkeypatch):
    """Not by the shortcut for texts that are equal, but by its place, its positions, its refiners and its masks."""
    dtype = torch.float64 if case.name in NEEDS_DOUBLE else torch.float32
    monkeypatch.setattr(run, "_same", lambda a, b: False)
    for form in FORMS if case.padded else FORMS[:1]:
        words = words_of(case, form)
        same = sample_pack(case, [given(case, words, *case.conditioning(POSITIVE, 1)[0])], 2, dtype=dtype)
        assert relative_error(same, plain(case.name, 2, dtype=dtype)) <= 1e-6, form
        other = sample_pack(case, [given(case, words, *context_of(case, 50, words))], 2, dtype=dtype)
        assert relative_error(other, plain(case.name, 2, dtype=dtype)) >= 1e-4, form


def test_context_off(case, caplog):
    """Bit for bit: the prompt once more, strength 0, and a window that no step is in."""
    caplog.set_level("INFO", "vsf")
    without, words = plain(case.name, 2), words_of(case, "whole rows")
    same, other = case.conditioning(POSITIVE, 1)[0], context_of(case, 50, words)
    assert torch.equal(sample_pack(case, [given(case, words, *same)], 2), without)
    assert "off: with the prompt before it, it is the prompt" in caplog.text
    model = cases.load(case.name)
    assert VSFContrast.execute(model, [list(other)], 0.0, 0.0, 1.0).args[0] is model
    assert torch.equal(sample_pack(case, [given(case, words, *other, start_percent=0.999)], 2), without)


class Dense(VSFAttention):
    """The rule by dense masks and two whole attentions, in double precision (vsf_core/dense.py)."""

    def join(self, layout: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, *args: Any) -> torch.Tensor:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return vsf_attention_dense(q, k, v, layout).to(q.dtype)


@pytest.mark.parametrize("length", [4, 11])
@pytest.mark.parametrize("name", ["sd3", "flux1", "flux2", "qwen-image", "lumina2", "omnigen2", "hidream-i1", "kandinsky5",
                                  "sd1.5", "wan2.1-t2v", "krea2", "joyimage"])
def test_a_context_of_another_length(name, length):
    """Shorter and longer than the prompt, beside another of its length."""
    case = cases.BY_NAME[name]
    words = words_of(case, "words")
    rows, options = case.conditioning(length, 50)[0]
    options = {**case.options(POSITIVE, 1), **{name: options[name] for name in TEXT_OPTIONS if name in options}}
    other = ContextPrompt(rows, 1.0, options=options, prompt=case.conditioning(POSITIVE, 1)[0][0], words=words)
    contexts = [other, given(case, words, *context_of(case, 51, words), strength=0.5)]
    out = []
    for attention in (VSFAttention, Dense):
        guider = comfy.samplers.CFGGuider(attach(cases.load(name), contexts, attention))
        guider.set_conds(case.conditioning(POSITIVE, 1), case.conditioning(4, 2))
        out.append(sample(case, guider, 1))
    assert relative_error(*out) <= 1e-5
    assert relative_error(plain(name, 1), out[1]) >= 1e-3
