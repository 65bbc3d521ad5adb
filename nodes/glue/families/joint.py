"""What joint-attention families share."""
from __future__ import annotations

import torch
from torch import Tensor

from ....vsf_core.layout import Segment
from . import ModelCall


def prepend_text(call: ModelCall, tokens: list[Tensor]) -> list[Segment]:
    """Put the negatives before the positive text: [N0 of each][P].

    For models whose text has no positions. P and I then stay side by side, so that the positive's attention reads its
    keys and values in place, and whatever mask a model or another node brings keeps its meaning.
    """
    text = call.context
    call.context = torch.cat([*tokens, text], dim=1)
    return [*(Segment(c, t.shape[1]) for c, t in enumerate(tokens)), Segment("P", text.shape[1])]
