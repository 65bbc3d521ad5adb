"""Blocks: a negative acts in some of them alone, and rests in the others."""
from __future__ import annotations

from typing import Any

import cases
import pytest
import torch
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.families.counting import count_blocks
from vsf_pack.nodes.glue.sampling import patch
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.schedule import Blocks, read_blocks

OF_MANY_KINDS = ["sd3", "flux1", "flux2", "qwen-image", "lumina2", "hidream-i1", "kandinsky5", "sd1.5", "wan2.1-t2v"]


def guided(case, blocks: str, model=None):
    model = cases.load(case.name) if model is None else model
    return VSFGuidance.execute(model, case.conditioning(3, 2, vsf_words=3), 2.0, 0.3, 0.0, 1.0, "constant", blocks).args[0]


def contrasted(case, blocks: str, model=None):
    model = cases.load(case.name) if model is None else model
    return VSFContrast.execute(model, case.conditioning(9, 3), 1.0, 0.0, 1.0, "constant", blocks).args[0]


@pytest.fixture(params=[guided, contrasted])
def rule(request):
    return request.param


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize(("text", "found"), [("", None), (" All ", None), ("first third", Blocks(0)),
                                             ("Middle  third", Blocks(1)),
                                             ("0-2, 8", Blocks(numbers=frozenset({0, 1, 2, 8}))),
                                             ("3", Blocks(numbers=frozenset({3})))])
def test_texts(text, found):
    assert read_blocks(text) == found


@pytest.mark.parametrize(("text", "found"), [("second third", '"second third"'), ("5-2", '"5-2"'), ("1,,2", '""'),
                                             ("-1", '"-1"'), (3, "int"), ("1.5", '"1.5"')])
def test_texts_that_are_none(text, found):
    with pytest.raises(ValueError, match=f"VSF: leave `blocks` empty for all, .*found {found}"):
        read_blocks(text)


@pytest.mark.parametrize("total", [1, 2, 3, 19, 57])
def test_thirds_are_all_blocks_once(total):
    numbers = [n for third in range(3) for n in sorted(Blocks(third).of(total))]
    assert numbers == list(range(total))


class Dense(VSFAttention):
    """Both rules by dense masks, in double precision (vsf_core/dense.py)."""

    def join(self, layout: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, *args: Any,
             **kwargs: Any) -> torch.Tensor:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return vsf_attention_dense(q, k, v, layout).to(q.dtype)


@pytest.mark.parametrize("name", OF_MANY_KINDS)
def test_some_blocks_equal_the_reference(name, rule):
    """Where it rests, its columns are hidden; a second negative acts in all of them."""
    case = cases.BY_NAME[name]
    positive = case.conditioning(7, 1)
    both = guided(case, "", rule(case, "1"))
    dense = patch.attach(cases.load(name), both.get_attachment("vsf").negatives, Dense)
    out = case.sample(both, positive)
    assert relative_error(out, case.sample(dense, positive)) <= 1e-5
    assert relative_error(out, case.sample(guided(case, "", rule(case, "")), positive)) >= 1e-4
    assert relative_error(out, case.sample(guided(case, ""), positive)) >= 1e-4


@pytest.mark.parametrize("name", ["flux1", "sd1.5"])
def test_all_blocks_are_the_neutral_setting(name, rule):
    """Empty is no range: bit for bit. A range of all of them is the same; none is the model without the negative."""
    case = cases.BY_NAME[name]
    positive, total = case.conditioning(7, 1), count_blocks(cases.load(name).model.diffusion_model)
    plain = case.sample(rule(case, ""), positive)
    assert torch.equal(case.sample(rule(case, f"0-{total - 1}"), positive), plain)
    thirds = [case.sample(rule(case, third), positive) for third in ("first third", "last third")]
    assert all(relative_error(out, plain) >= 1e-4 for out in thirds) and relative_error(*thirds) >= 1e-4


def test_blocks_that_are_not_there(rule):
    case = cases.BY_NAME["flux1"]
    total = count_blocks(cases.load("flux1").model.diffusion_model)
    with pytest.raises(RuntimeError, match=f"VSF: set `blocks` to numbers from 0 to {total - 1}. .* found 99"):
        case.sample(rule(case, "0, 99"), case.conditioning(7, 1))


def test_thirds_of_a_model_that_was_miscounted(rule, monkeypatch):
    case = cases.BY_NAME["flux1"]
    monkeypatch.setattr(patch, "count_blocks", lambda model: 1)
    with pytest.raises(RuntimeError, match="VSF: name the blocks by numbers in `blocks`, from 0 to"):
        case.sample(rule(case, "first third"), case.conditioning(7, 1))


COUNTED = [*OF_MANY_KINDS, "krea2", "chroma", "ltxv", "wan2.1-vace", "sdxl"]


@pytest.mark.parametrize("name", COUNTED)
def test_blocks_are_counted(name, monkeypatch):
    """What a model's lists of blocks say is what a forward does. A model of which that is not so refuses thirds, as above."""
    case, counts = cases.BY_NAME[name], set()
    monkeypatch.setattr(patch, "_check_blocks", lambda named, calls, total: counts.add((calls, total)))
    case.sample(guided(case, ""), case.conditioning(7, 1), steps=1)
    assert counts and all(calls == total for calls, total in counts)
