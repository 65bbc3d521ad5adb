"""What joint-attention families share."""
from __future__ import annotations

import torch
from torch import Tensor

from ....vsf_core.layout import Segment
from . import ModelCall


def prepend_text(call: ModelCall, tokens: list[Tensor]) -> list[Segment]:
    """Put the negatives before the positive text, [N0 of each][P], and lengthen the text's attention mask by ones.

    For models whose text has no positions. P and I then stay side by side, so that the positive's attention reads its
    keys and values in place, and whatever mask a model or another node brings keeps its meaning.
    """
    text = call.context
    call.context = torch.cat([*tokens, text], dim=1)
    _lengthen_mask(call, text.shape[1], before=sum(t.shape[1] for t in tokens))
    return [*(Segment(c, t.shape[1]) for c, t in enumerate(tokens)), *call.prompt(text.shape[1])]


def append_text(call: ModelCall, tokens: list[Tensor]) -> list[Segment]:
    """Put the negatives behind the positive text, [P][N0 of each], and lengthen the text's attention mask by ones.

    For models that number their text: the negatives' numbers follow the positive's, which keeps its own; a context's are the
    positive's (positions.py).
    """
    text = call.context
    call.context = torch.cat([text, *tokens], dim=1)
    _lengthen_mask(call, text.shape[1], after=sum(t.shape[1] for t in tokens))
    call.stand([t.shape[1] for t in tokens], text.shape[1])
    return [*call.prompt(text.shape[1]), *(Segment(c, t.shape[1]) for c, t in enumerate(tokens))]


def _lengthen_mask(call: ModelCall, length: int, before: int = 0, after: int = 0) -> None:
    """Let the text's attention mask, if there is one, have `length` tokens and the negatives' beside them.

    What it says of the negatives means nothing: the attention override asks it for P and I alone.
    """
    mask = call.conds.get("attention_mask")
    if mask is not None and mask.shape[-1] == length:
        call.conds["attention_mask"] = torch.nn.functional.pad(mask, (before, after), value=1)
