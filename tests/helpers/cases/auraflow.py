"""AuraFlow (comfy/ldm/aura/mmdit.py)."""
from __future__ import annotations

import reference

from cases import Case

_AURAFLOW = dict(in_channels=4, out_channels=4, dim=64, n_layers=3, n_double_layers=1, n_heads=2, global_conddim=32,
                 cond_seq_dim=24, max_seq=64)
_REGISTERS = 8


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[registers][P][N0 of each][I], in all of the model's attention."""
    text = "B" * _REGISTERS + call.text_kinds
    return text + "I" * (queries - len(text)), text + "I" * (keys - len(text))


CASES = [Case("auraflow", "AuraFlow", _AURAFLOW, (4, 8, 6), 24, kinds=_kinds, weight_scale=1.2)]
