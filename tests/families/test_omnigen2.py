"""OmniGen2 and Boogu, where text and picture have equally many tokens."""
from __future__ import annotations

import cases
import pytest
import torch
import vsf
from vsf_pack.nodes.glue.reading.conditioning import WORDS


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a.double() - b.double()).norm() / b.double().norm()).item() <= 1e-5


@pytest.mark.parametrize(("name", "tokens"),
                         [("omnigen2", 20), ("omnigen2-edit", 20), ("omnigen2-edit", 15), ("boogu-edit", 26)])
def test_as_many_words_as_the_picture_has_tokens(name, tokens):
    """The image (20 tokens), the references (6 and 9), both together (Boogu's own attention): these are not text."""
    case, length = cases.BY_NAME[name], tokens - 7
    positive = case.conditioning(7, 1)
    guided = vsf.guide(cases.load(name), case.conditioning(length, 50, **{WORDS: length}), 2.0, 0.3)
    out = case.sample(guided, positive)
    assert close(out, case.sample(case.reference(case.negative(length, 50, alpha=2.0, beta=0.3)), positive))
    assert not close(out, case.sample(cases.load(name), positive))
