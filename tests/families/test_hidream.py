"""HiDream-I1 with one text encoder missing, and with a negative that is not its own."""
from __future__ import annotations

import dataclasses
from typing import Any

import cases
import pytest
import tiny
import torch
import vsf
from vsf_pack.nodes.glue.reading.conditioning import WORDS

CASE = cases.BY_NAME["hidream-i1"]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize(("t5", "llama"), [(0, 4), (4, 0), (1, 9)])
def test_encoders_of_different_lengths(t5, llama):
    """ComfyUI loads HiDream without T5 or without Llama too; VSF Text Encode then leaves no token of the missing one."""
    options: dict[str, Any] = {"conditioning_llama3": tiny.tokens(llama, 60, batch=3, width=20)[None]}
    negative = [[tiny.tokens(t5, 50, width=24), {**options, WORDS: max(t5, llama)}]]
    positive = CASE.conditioning(7, 1)
    out = CASE.sample(vsf.guide(cases.load(CASE.name), negative), positive)
    truth = CASE.reference(dataclasses.replace(CASE.negative(t5, 50, alpha=2.0), options=options))
    assert distance(out, CASE.sample(truth, positive)) <= 1e-5
    assert distance(out, CASE.sample(cases.load(CASE.name), positive)) >= 1e-3


def test_negative_of_another_text_encoder():
    negative = [[tiny.tokens(5, 50, width=24), {WORDS: 5}]]
    with pytest.raises(ValueError, match="VSF: encode .* Expected one of HiDream's text encoders"):
        CASE.sample(vsf.guide(cases.load(CASE.name), negative), CASE.conditioning(7, 1))
