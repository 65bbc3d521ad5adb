"""What VSF Prompt and VSF Contrast show of a run on themselves."""
from __future__ import annotations

import dataclasses
import logging

import cases
import encoders
import pytest
import torch
from vsf_pack.nodes.glue.reading.contexts import ContextPrompt, context_prompts
from vsf_pack.nodes.glue.sampling.patch import attach
from vsf_pack.nodes.vsf_conditioning import VSFConditioning
from vsf_pack.nodes.vsf_prompt import VSFPrompt

from nodes import ConditioningSetTimestepRange

FAMILIES = ("flux1", "sd1.5")  # joint, cross


@pytest.fixture(params=FAMILIES)
def case(request):
    return cases.BY_NAME[request.param]


@pytest.fixture
def said(caplog):
    """All that the nodes have shown, in order."""
    with caplog.at_level(logging.INFO, "vsf"):
        yield lambda: [r.message for r in caplog.records if r.name == "vsf" and r.levelno == logging.INFO]


def context_of(case, positive: list, seed: int = 3, **settings) -> ContextPrompt:
    (tokens, options), = case.conditioning(9, seed)
    return ContextPrompt(tokens, 1.0, options=options, prompt=positive[0][0], **settings)


def between(positive: list, start: float, end: float) -> list:
    return ConditioningSetTimestepRange().set_range(positive, start, end)[0]


@pytest.fixture(scope="module")
def chroma():
    """A model as wide as its toy text encoder: the case, the model and the CLIP."""
    case = cases.BY_NAME["chroma"]
    case = dataclasses.replace(case, width=64, unet_config={**case.unet_config, "context_in_dim": 64})
    return case, cases.build(case, torch.float32), encoders.build(encoders.ENCODERS["PixArt, Chroma"], embedding_directory="")


def test_what_was_left_out_stands_there_after_the_run_too(chroma, said):
    """The node has one text, which the next takes the place of."""
    case, model, clip = chroma
    model, positive = VSFPrompt.execute(model, clip, "a red apple", "red table\napple", 1.0).args
    left_out = ('\n"red table" is read as "table": the prompt has red itself\n'
                '"apple" is off: the prompt has apple itself')
    assert said() == ["VSF: not sampled yet: connect both outputs to the sampler" + left_out]
    case.sample(model, positive)
    assert said()[1:] == ['VSF: "table" acted in 2 of 2 steps' + left_out]
    case.sample(model, positive, cfg=7.0)
    assert said()[2].startswith('VSF: "table" acted in 2 of 2 steps') and said()[2].endswith(
        "\nthe sampler's CFG is 7: few-step models (turbo, schnell, lightning) want 1")


def test_each_line_is_named_after_the_run(chroma, said):
    """Their steps are their own. "No" before a thing says nothing that its box does not."""
    case, model, clip = chroma
    model, positive = VSFPrompt.execute(model, clip, "a red apple", "No table\nsmall red tree:0.5\n", 1.0).args
    case.sample(model, positive)
    assert said()[-1] == ('VSF: "No table" acted in 2 of 2 steps\n"small tree" acted in 2 of 2 steps\n'
                          'write "table" for "No table": what stands there is taken out as it is\n'
                          '"small red tree" is read as "small tree": the prompt has red itself')


@pytest.mark.parametrize(("prompt", "negative", "found"), [
    ("a red apple", "", "off: no negative"),
    ("a red apple", "apple", '"apple" is off: the prompt has apple itself'),
    ("a red apple", "table:0", '"table" is off: its weight is 0'),
    ("a red apple", "...", '"..." is off: the text encoder makes nothing of it'),
    ("a red apple", "embedding:gone", '"embedding:gone" is off: the text encoder makes nothing of it'),
    ("a red ((big) apple:-1)", "", "a negative weight in the prompt is left to the text encoder: write that part without "
                                   "brackets inside"),
])
def test_why_nothing_acts(chroma, said, prompt, negative, found):
    case, model, clip = chroma
    out, positive = VSFPrompt.execute(model, clip, prompt, negative, 1.0).args
    assert out is model and said() == [f"VSF: {found}"]


def test_weights_that_are_none(chroma, said):
    """What looks like a weight and is read as words is told; one that would break the picture is an error."""
    _, model, clip = chroma
    VSFPrompt.execute(model, clip, "a red apple", "table:1.5, tree", 1.0)
    assert '"table:1.5, tree" is read with its number: a weight stands at the end of a line' in said()[-1]
    for prompt, negative in (("a red apple", "table:20.49"), ("a red apple (table:-20.49)", "")):
        with pytest.raises(ValueError, match='VSF: lower the weight of "table". Expected weights up to 10, found 20.49'):
            VSFPrompt.execute(model, clip, prompt, negative, 1.0)


@pytest.mark.parametrize("texts", [(None, "wheels"), ("a car", ["wheels"])])
def test_no_texts(chroma, texts):
    with pytest.raises(ValueError, match="VSF: write `prompt` and `negative` as texts. Expected two texts, found "):
        VSFPrompt.execute(*chroma[1:], *texts, 1.0)


def test_steps_are_those_in_which_the_prompt_was_sampled(case, said):
    """Not those in which its negative could have acted."""
    first, second = case.conditioning(7, 1), case.conditioning(7, 2)
    seen = []
    case.sample(attach(cases.load(case.name), [context_of(case, first)]), between(first, 0.0, 0.5) + between(second, 0.5, 1.0),
                steps=4, callback=lambda step, *_: seen.append(step))
    acted, = said()
    assert len(seen) == 4 and acted.startswith(("VSF: acted in 2 of 4 steps", "VSF: acted in 3 of 4 steps"))
    case.sample(attach(cases.load(case.name), [context_of(case, first)]), between(first, 0.9, 0.9) + second, steps=4)
    assert said()[1].startswith("VSF: acted in 0 of 4 steps")


def test_prompts_of_other_nodes_are_told_on_the_node(case, said):
    first, second = case.conditioning(7, 1), case.conditioning(7, 2)
    case.sample(attach(cases.load(case.name), [context_of(case, first)]), first + second)
    assert said() == ["VSF: acted in 2 of 2 steps\n"
                      "1 of 2 positive prompts have no negative of VSF Prompt"]


def test_one_context_against_several_prompts_is_told(case, said, caplog):
    """VSF Contrast does not know which of them it repeats. Twice the same is one; parts of a schedule follow one another."""
    first, second = case.conditioning(7, 1), case.conditioning(7, 2)

    def sample(positive: list) -> str:
        model = attach(cases.load(case.name), context_prompts(case.conditioning(9, 3), 1.0, 0.0, 1.0))
        case.sample(model, positive)
        return said()[-1]
    assert "use VSF Prompt for each positive prompt" in sample(first + second)
    assert "use VSF Prompt for each positive prompt" in caplog.text
    for alike in (first, between(first, 0.0, 0.5) + between(first, 0.5, 1.0),
                  [[t, {**o, "clip_start_percent": start, "clip_end_percent": start + 0.5}]
                   for (t, o), start in ((first[0], 0.0), (second[0], 0.5))]):
        assert "use VSF Prompt" not in sample(alike)


def test_one_model_sampled_with_one_prompt_of_two(case):
    """Two VSF Prompt nodes after another on one model, and a sampler for each."""
    first, second = case.conditioning(7, 1), case.conditioning(7, 2)
    model = attach(attach(cases.load(case.name), [context_of(case, first)]), [context_of(case, second, 4)])
    case.sample(model, first + second)
    for positive in (first, second):
        with pytest.raises(ValueError, match="VSF: branch the model before each VSF Prompt .* found that one is missing"):
            case.sample(model, positive)
    with pytest.raises(ValueError, match="VSF: connect the `positive` output of VSF Prompt"):
        case.sample(model, case.conditioning(7, 5))


def test_lines_are_nodes_one_after_the_other(chroma):
    """Bit for bit: each line is a negative of its own. All in one line is another negative."""
    case, model, clip = chroma
    lines, positive = VSFPrompt.execute(model, clip, "a red apple", "table\nsmall tree:0.5\nold house", 1.0).args
    chained = model
    for negative, strength in (("table", 1.0), ("small tree", 0.5), ("old house", 1.0)):
        chained, _ = VSFPrompt.execute(chained, clip, "a red apple", negative, strength).args
    one, _ = VSFPrompt.execute(model, clip, "a red apple", "table, small tree, old house", 1.0).args
    out = case.sample(lines, positive)
    assert torch.equal(out, case.sample(chained, positive))
    assert not torch.allclose(out, case.sample(one, positive), atol=1e-3)


@pytest.mark.parametrize("node", [VSFPrompt, VSFConditioning])
def test_wildcards_are_the_frontends(node):
    """`{a|b}` is resolved before the graph is sent, in inputs that say so."""
    texts = {part.id: part for part in node.GET_SCHEMA().inputs if part.io_type == "STRING" and part.multiline}
    assert set(texts) == {"prompt", "negative"} and all(part.dynamic_prompts for part in texts.values())
