"""What is recorded of a run, against dense references in double precision."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import cases
import comfy.ldm.flux.math as flux
import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.ldm.wan.model as wan
import heat_reference
import pytest
import reference
import torch
import vsf
from cases import Case
from comfy.ldm.modules.attention import attention_basic, attention_pytorch
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from neighbours import compiled
from vsf_pack.nodes.glue.attention import override
from vsf_pack.nodes.glue.attention.notes import noting
from vsf_pack.nodes.glue.attention.override import OVERRIDE
from vsf_pack.nodes.glue.reading.conditioning import WORDS, negative_prompts
from vsf_pack.nodes.glue.sampling import seen
from vsf_pack.nodes.glue.sampling.drawn import numbers
from vsf_pack.nodes.glue.sampling.patch import KEY, RecordedApart, attach
from vsf_pack.vsf_core.layout import Layout, Negative, Segment

SETTINGS = {"one": ((2.0, 0.4),), "two": ((2.0, 0.0), (1.0, 0.7))}
POSITIVE = 7


def segments(letters: str) -> tuple[Segment, ...]:
    return tuple(Segment(int(letter) if letter.isdigit() else letter, len(list(run))) for letter, run in groupby(letters))


@contextmanager
def noted_by_the_reference(monkeypatch) -> Iterator[list[torch.Tensor]]:
    """(1 + negatives, B, image tokens) of each attention of the reference, in order."""
    found, attend = [], reference.vectorised_attention

    def vectorised(q, k, v, rows, negatives, positive, cols=None, mask=None, scale=None, rules=reference.TRUTH):
        if "I" in rows and any(c.isdigit() for c in cols):
            layout = Layout(segments(cols), tuple(Negative(n.alpha, n.beta) for n in negatives), segments(rows))
            own = [i for i, acts in enumerate(positive) if acts]
            mask = mask if mask is None or len(mask) == 1 else mask[own]
            found.append(heat_reference.heat(q[own], k[own], v[own], layout, mask, scale))
        return attend(q, k, v, rows, negatives, positive, cols, mask, scale, rules)

    with monkeypatch.context() as patched:
        patched.setattr(reference, "vectorised_attention", vectorised)
        yield found


def recorded(case: Case, model, positive: list | None = None, **options) -> seen.Heat:
    with seen.recorded() as heats:
        case.sample(model, case.conditioning(POSITIVE, 1) if positive is None else positive, **options)
    return heats[-1]


def guided(case: Case, setting: str, model=None):
    model = cases.load(case.name) if model is None else model
    for seed, (scale, bias) in enumerate(SETTINGS[setting], start=2):
        words = 5 - seed % 2
        model = attach(model, negative_prompts(case.conditioning(words, seed, **{WORDS: words}), scale, bias, 0.0, 1.0))
    return model


def expected(case: Case, setting: str, monkeypatch, **options) -> list[torch.Tensor]:
    negatives = [case.negative(5 - seed % 2, seed, alpha=scale, beta=bias)
                 for seed, (scale, bias) in enumerate(SETTINGS[setting], start=2)]
    with noted_by_the_reference(monkeypatch) as found:
        case.sample(case.reference(*negatives), case.conditioning(POSITIVE, 1), **options)
    return found


def check(case: Case, heat: seen.Heat, found: list[torch.Tensor]) -> None:
    """Step by step: each attention's mean, the map's, and the map."""
    steps = len(heat.maps)
    of_steps = [found[i * len(found) // steps:(i + 1) * len(found) // steps] for i in range(steps)]
    for maps, blocks, own in zip(heat.maps, heat.blocks, of_steps, strict=True):
        torch.testing.assert_close(blocks.mT.double(), torch.stack([t.mean((1, 2)) for t in own]), atol=1e-4, rtol=0)
        torch.testing.assert_close(maps.mean((2, 3, 4)).double(), sum(t.mean(-1) for t in own) / len(own), atol=1e-4, rtol=0)
        torch.testing.assert_close(maps.flatten(2).double(), sum(own) / len(own), atol=1e-3, rtol=0)


FOUR = ["sd3", "flux1", "pixart-sigma", "wan2.1-t2v"]
"""Joint attention by blocks of two kinds, by double and single ones; cross-attention of a picture and of a video."""


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", FOUR)
def test_the_map_is_the_references(name, setting, monkeypatch):
    case = cases.BY_NAME[name]
    check(case, recorded(case, guided(case, setting), batch=2, cfg=2.0), expected(case, setting, monkeypatch, batch=2, cfg=2.0))


@pytest.mark.parametrize("name", FOUR)
def test_without_a_log_sum_exp(name, monkeypatch):
    """An override that another node put in tells none: the shares are seen in values, and it still does all attention."""
    case, calls = cases.BY_NAME[name], []

    def terminal(func, q, k, v, heads, mask=None, **kwargs):
        calls.append(1)
        return attention_basic.__wrapped__(q, k, v, heads, mask=mask, **kwargs)

    model = guided(case, "two")
    model.model_options["transformer_options"][OVERRIDE] = terminal
    plain = case.sample(model, case.conditioning(POSITIVE, 1), batch=2)
    check(case, recorded(case, model, batch=2), expected(case, "two", monkeypatch, batch=2))
    assert calls and torch.equal(case.sample(model, case.conditioning(POSITIVE, 1), batch=2), plain)


@pytest.mark.parametrize("name", FOUR)
def test_recording_changes_nothing(name):
    case = cases.BY_NAME[name]
    model, positive = guided(case, "two"), case.conditioning(POSITIVE, 1)
    with seen.recorded():
        out = case.sample(model, positive, batch=2)
    assert torch.equal(out, case.sample(model, positive, batch=2))


def test_attentions_keep_their_numbers_where_layers_are_skipped():
    """In a step's extra pass of core's skip-layer guidance there are fewer: it is in the map, and not among these."""
    case = cases.BY_NAME["flux1"]
    heats = [recorded(case, model, steps=1) for model in (guided(case, "two"), SkipLayerGuidanceDiT.execute(
        guided(case, "two"), 2.0, 0.0, 1.0, "0", "", 0.0).args[0])]
    assert torch.equal(heats[0].blocks, heats[1].blocks) and not torch.equal(heats[0].maps, heats[1].maps)


def test_what_cannot_be_told_from_sound_is_not_in_the_map():
    """A video and its sound of as many tokens each: said, and no mixture of both."""
    case = dataclasses.replace(cases.BY_NAME["ltx-2-connected"], latent=((16, 3, 1, 4), (8, 12, 16)))
    heat = recorded(case, guided(case, "one"))
    assert heat.unplaced == 2 and not heat.maps.any()
    assert "not in the map: 2 calls of the model, whose place in the picture is not known" in numbers(heat, 1.0)


def test_nothing_is_recorded_that_nobody_wants(monkeypatch):
    case, noted = cases.BY_NAME["sd3"], []
    monkeypatch.setattr(override, "note", lambda *args: noted.append(args))
    model = guided(case, "one")
    case.sample(model, case.conditioning(POSITIVE, 1))
    assert not noted and not seen.SEEN.about(model.get_attachment(KEY))


@pytest.mark.parametrize("name", ["sd3", *(["flux1", "wan2.1-t2v"] if vsf.EVERY else [])])
def test_a_compiled_model_is_recorded(name, monkeypatch):
    """By code of its own: what was compiled for a run that nobody recorded notes nothing."""
    for module in (mmdit, flux, wan):  # as on a GPU: a CPU's own attention breaks the graph to see how much memory is free
        monkeypatch.setattr(module, "optimized_attention", comfy.ldm.modules.attention.attention_pytorch)
    case = cases.BY_NAME[name]
    model = guided(case, "two", compiled(cases.load(name)))
    plain = case.sample(model, case.conditioning(POSITIVE, 1), steps=1)
    with seen.recorded() as heats:
        out = case.sample(model, case.conditioning(POSITIVE, 1), steps=1)
    torch.testing.assert_close(out, plain)
    check(case, heats[-1], expected(case, "two", monkeypatch, steps=1))


def test_notes_are_part_of_one_compiled_graph():
    """In order, and of the call that is running, not of the one that was traced."""
    torch._dynamo.reset()
    layout = Layout((Segment(0, 3), Segment("P", 4), Segment("I", None)), (Negative(2.0, 0.4),))
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 15, 64, generator=g) for _ in range(3))

    def call(q, k, v, options):
        first = attention_pytorch(q, k, v, 4, transformer_options=options)
        return attention_pytorch(first, k, v, 4, transformer_options=options)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    with torch.inference_mode(), RecordedApart():
        for tensors in ((q, k, v), (2 * q, k, v)):
            found = []
            for run in (compiled, call):
                attention = override.VSFAttention([layout], None)
                attention.ticket = torch.zeros(1)
                with noting() as noted:
                    run(*tensors, {OVERRIDE: attention})
                found.append(noted)
            assert [len(noted) for noted in found] == [2, 2]
            torch.testing.assert_close(*found)
