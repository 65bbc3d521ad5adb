"""Krea 2 (comfy/ldm/krea2/model.py)."""
from __future__ import annotations

from typing import Any

import torch

from cases import Case

_KREA2 = dict(image_model="krea2", features=64, tdim=32, txtdim=20, heads=2, kvheads=1, multiplier=2, layers=2, txtlayers=3,
              txtheads=2, txtkvheads=2)


def _references(length: int, seed: int) -> dict[str, Any]:
    """Two pictures to edit, of one frame each."""
    generator = torch.Generator().manual_seed(7)
    return {"reference_latents": [torch.randn(1, 16, *shape, generator=generator) for shape in ((1, 4, 6), (1, 6, 7))]}


CASES = [
    Case("krea2", "Krea2", _KREA2, (16, 1, 8, 6), 60, no_mutants=frozenset(), weight_scale=0.7),  # 0.8: 6e-6 of rounding alone
    *(Case(f"krea2-edit-{method.replace('_', '-')}", "Krea2", _KREA2 | dict(default_ref_method=method), (16, 1, 8, 6), 60,
           no_mutants=frozenset(), options=_references, weight_scale=0.7)
      for method in ("index", "index_timestep_zero")),
]
