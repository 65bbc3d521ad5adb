"""What ComfyUI's conditioning nodes do to a negative between VSF Text Encode and VSF Guidance is seen."""
from __future__ import annotations

import logging

import cases
import comfy.hooks
import pytest
import torch
import vsf
from vsf_pack.nodes.glue.reading import made
from vsf_pack.nodes.glue.reading.conditioning import WORDS, rows_of_words, without_padding
from vsf_pack.nodes.glue.reading.tokens import known_rows
from vsf_pack.nodes.vsf_guidance import VSFGuidance

import nodes

DIFFERENT_BUILDS = ["sd3", "sd1.5", "wan2.1-t2v", "z-image"]
"""Joint, cross, and with object patches."""


@pytest.fixture(params=DIFFERENT_BUILDS)
def case(request) -> cases.Case:
    return cases.BY_NAME[request.param]


def words(case: cases.Case, length: int, seed: int, **options) -> list:
    """As VSF Text Encode gives them."""
    return case.conditioning(length, seed, **{WORDS: length}, **options)


def empty(case: cases.Case, length: int = 6) -> list:
    """The same of an empty text: all rows of the empty prompt."""
    return case.conditioning(length, 80, **{WORDS: 0})


def zeros(case: cases.Case, length: int) -> torch.Tensor:
    return torch.zeros(1, length, case.width)


def sample(case: cases.Case, negative: list | None, scale: float = 2.0) -> torch.Tensor:
    """None: without the node."""
    model = cases.load(case.name)
    model = model if negative is None else vsf.guide(model, negative, scale, 0.2)
    return case.sample(model, case.conditioning(7, 1), case.conditioning(4, 9))


def joined(*negatives: list) -> list:
    """All tokens in one entry, with the first one's options, all of them words."""
    tokens = torch.cat([tokens for (tokens, _), in negatives], dim=1)
    return [[tokens, {**negatives[0][0][1], WORDS: tokens.shape[1]}]]


concat, average, zero_out = (getattr(cls(), cls.FUNCTION) for cls in (
    nodes.ConditioningConcat, nodes.ConditioningAverage, nodes.ConditioningZeroOut))


def test_concat(case, caplog):
    four, five = words(case, 4, 3), words(case, 5, 2)
    alone, both = sample(case, five), sample(case, joined(five, four))
    assert not torch.equal(alone, both)
    padded = [[torch.cat([four[0][0], zeros(case, 60)], dim=1), case.conditioning(4, 3)[0][1]]]
    with caplog.at_level(logging.WARNING, "vsf"):
        assert torch.equal(sample(case, concat(empty(case), five)[0]), alone)
        assert torch.equal(sample(case, concat(five, empty(case))[0]), alone)
        assert torch.equal(sample(case, concat(five, four)[0]), both)
        assert torch.equal(sample(case, concat(five, padded)[0]), both)
        assert torch.equal(sample(case, concat(concat(empty(case), five)[0], four)[0]), both)
        assert torch.equal(sample(case, concat(empty(case), empty(case))[0]), sample(case, None))
    assert not caplog.records


def test_concat_with_rows_of_another_node(case, caplog):
    """They may be padding, which would drown the words: left out, and said."""
    five, other = words(case, 5, 2), case.conditioning(8, 70)
    alone = sample(case, five)
    for negative in (concat(five, other)[0], concat(other, five)[0], concat(empty(case), concat(other, five)[0])[0]):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "vsf"):
            assert torch.equal(sample(case, negative), alone)
        (message,) = [r.message for r in caplog.records]
        assert message.startswith("VSF: encode all of the negative with VSF Text Encode. 8 of its ")


def test_zero_out_is_off(case):
    assert torch.equal(sample(case, zero_out(words(case, 5, 2))[0]), sample(case, None))
    four = words(case, 4, 3)
    assert torch.equal(sample(case, concat(zero_out(words(case, 5, 2))[0], four)[0]), sample(case, four))


def test_average_keeps_the_rows_of_its_first(case):
    five, eight, three = (words(case, n, 20 + n) for n in (5, 8, 3))
    half = [[(five[0][0] + eight[0][0][:, :5]) / 2, five[0][1]]]
    assert torch.equal(sample(case, average(five, eight, 0.5)[0]), sample(case, half))
    assert torch.equal(sample(case, average(five, three, 1.0)[0]), sample(case, five))
    assert torch.equal(sample(case, average(zero_out(five)[0], three, 1.0)[0]), sample(case, None))
    faint = average(zero_out(five)[0], three, 0.25)[0]
    assert torch.equal(sample(case, faint), sample(case, [[three[0][0] * 0.75, {**five[0][1], WORDS: 3}]]))


def test_combine_is_two_negatives(case):
    five, four = words(case, 5, 2), words(case, 4, 3)
    both, = nodes.ConditioningCombine().combine(five, four)
    model = vsf.guide(vsf.guide(cases.load(case.name), five, 2.0, 0.2), four, 2.0, 0.2)
    assert torch.equal(sample(case, both), case.sample(model, case.conditioning(7, 1), case.conditioning(4, 9)))
    assert torch.equal(sample(case, nodes.ConditioningCombine().combine(five, empty(case))[0]), sample(case, five))


def test_strength_multiplies_the_scale(case):
    half, = nodes.ConditioningSetAreaStrength().append(words(case, 5, 2), 0.5)
    assert torch.equal(sample(case, half, 2.0), sample(case, words(case, 5, 2), 1.0))
    assert not torch.equal(sample(case, half, 2.0), sample(case, words(case, 5, 2), 2.0))
    off, = nodes.ConditioningSetAreaStrength().append(words(case, 5, 2), 0.0)
    assert torch.equal(sample(case, off), sample(case, None))


def test_areas_and_masks_are_where_it_acts(case):
    """Set Mask and Set Area of the negative are a mask on the node; their strengths multiply the scale."""
    height, width = case.latent[-2:]
    half = width // 2
    left = torch.zeros(height * 8, width * 8)
    left[:, :half * 8] = 1.0
    model = VSFGuidance.execute(cases.load(case.name), words(case, 5, 2), 1.0, 0.2, 0.0, 1.0, mask=left).args[0]
    want = case.sample(model, case.conditioning(7, 1), case.conditioning(4, 9))
    masked, = nodes.ConditioningSetMask().append(words(case, 5, 2), left, "default", 0.5)
    part, = nodes.ConditioningSetAreaPercentage().append(words(case, 5, 2), half / width, 1.0, 0.0, 0.0, 0.5)
    area, = nodes.ConditioningSetArea().append(words(case, 5, 2), half * 8, height * 8, 0, 0, 0.5)
    for entry in (masked, part, area):
        assert torch.equal(sample(case, entry, 2.0), want)
    assert not torch.equal(want, sample(case, words(case, 5, 2), 1.0))
    white, = nodes.ConditioningSetMask().append(words(case, 5, 2), torch.ones(8, 8), "default", 1.0)
    assert torch.equal(sample(case, white), sample(case, words(case, 5, 2)))
    black, = nodes.ConditioningSetMask().append(words(case, 5, 2), torch.zeros(8, 8), "default", 1.0)
    assert torch.equal(sample(case, black), sample(case, None))


def test_time_range_acts(case):
    late, = nodes.ConditioningSetTimestepRange().set_range(words(case, 5, 2), 0.4, 1.0)
    model = vsf.guide(cases.load(case.name), words(case, 5, 2), 2.0, 0.2, start=0.4)
    alone = case.sample(model, case.conditioning(7, 1), case.conditioning(4, 9))
    assert torch.equal(sample(case, late), alone)
    assert not torch.equal(alone, sample(case, words(case, 5, 2)))


def test_hooks(case):
    """On the text encoder they have acted already; on the model they cannot act for the negative alone."""
    model = cases.load(case.name)
    on_clip = words(case, 5, 2, hooks=comfy.hooks.create_hook_lora({}, 0.0, 1.0))
    assert torch.equal(sample(case, on_clip), sample(case, words(case, 5, 2)))
    options = comfy.hooks.HookGroup()
    options.add(comfy.hooks.TransformerOptionsHook({}))
    for hooks, name in ((comfy.hooks.create_hook_lora({}, 1.0, 0.0), "WeightHook"), (options, "TransformerOptionsHook")):
        with pytest.raises(ValueError, match=f"VSF: take the hooks off `negative` .*found hooks on the model .{name}."):
            vsf.guide(model, words(case, 5, 2, hooks=hooks))


def test_an_entry_that_is_off_says_why(case, caplog):
    off = {"it has no words": empty(case), "its strength is 0": words(case, 5, 2, strength=0.0),
           "it would act from 0.6 to 0.4": words(case, 5, 2, start_percent=0.6, end_percent=0.4)}
    for why, negative in off.items():
        caplog.clear()
        with caplog.at_level(logging.INFO, "vsf"):
            assert vsf.guide(cases.load(case.name), negative) is cases.load(case.name)
        assert [r.message for r in caplog.records] == [f"VSF: off: {why}"]


# -- rows alone -------------------------------------------------------------------------------------------------------

def test_rows_that_only_begin_like_an_earlier_prompt_are_kept():
    """In a causal text encoder the first rows of a longer prompt are those of a shorter one."""
    tokens = torch.randn(1, 6, 8)
    made.remember(tokens[:, :3], words=True)
    assert rows_of_words(tokens, {}) is None
    assert rows_of_words(tokens, {WORDS: 6}).all()


def test_rows_are_remembered_by_their_values():
    tokens = torch.randn(2, 3, 8)
    made.remember(tokens, words=True)
    behind = torch.cat([torch.randn(2, 2, 8), tokens.clone()], dim=1)
    assert rows_of_words(behind, {WORDS: 0}).tolist() == [False] * 2 + [True] * 3
    assert not rows_of_words(behind[:1], {WORDS: 0}).any(), "one of a batch is another prompt"
    behind[1, -1, -1] += 1
    assert not rows_of_words(behind, {WORDS: 0}).any()


def test_what_is_remembered_is_bounded():
    first = torch.randn(1, 2, 8)
    made.remember(first, words=True)
    for _ in range(made.MOST):
        made.remember(torch.randn(1, 1, 2), words=True)
    assert len(made._made) == made.MOST
    assert not made.find(first, 0)[0].any()


def test_masks_of_odd_shapes():
    tokens = torch.randn(1, 4, 8)
    assert known_rows(tokens, {"attention_mask": torch.tensor(1)}) is None, "0-d: of no row"
    assert without_padding(tokens, {WORDS: 4, "attention_mask": torch.tensor(1)})[0].shape == (1, 4, 8)
    assert known_rows(tokens, {"attention_mask": torch.ones(1, 3)}) is None, "of another prompt"
    assert known_rows(tokens, {"attention_mask": torch.tensor([1, 1, 0, 0])}).tolist() == [True, True, False, False]
