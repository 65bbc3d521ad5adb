"""Krea 2 (comfy/ldm/krea2/model.py)."""
from __future__ import annotations

from cases import Case

_KREA2 = dict(image_model="krea2", features=64, tdim=32, txtdim=20, heads=2, kvheads=1, multiplier=2, layers=2, txtlayers=3,
              txtheads=2, txtkvheads=2)

CASES = [Case("krea2", "Krea2", _KREA2, (16, 1, 8, 6), 60, no_mutants=frozenset())]
