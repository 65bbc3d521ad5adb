"""What evidence is headed by: SUCCESS, the part absent, the subject kept, and the picture clean where the subject is.

A subject is a seventh of a picture, so a count of the whole picture's pixels calls a smear 0.98. Here the agreement with a
drawing (score.py) is counted inside the subject's box alone, and compared with what the same model draws without a negative:
`clean` is a box that agrees at least as well as the 5th percentile of that subject's pictures without one. So pictures without
a negative are clean in 95 %, whatever the model's own faults are, and no method can be expected to do better.

What a negative changes away from the subject is told beside it: the share of the pixels outside the box that are not what the
same seed shows without a negative.
"""

from __future__ import annotations

import numpy as np
import scenes
import score

PERCENTILE = 5.0


def limits(box: np.ndarray, subjects: list[str]) -> dict[str, float]:
    """The agreement from which on a box is clean, by subject, from pictures without a negative: box [n], their subjects [n]."""
    kinds = np.array(subjects)
    return {s: float(np.percentile(box[kinds == s], PERCENTILE, method="lower")) for s in sorted(set(subjects))}


def clean(box: np.ndarray, subjects: list[str], limit: dict[str, float]) -> np.ndarray:
    """bool [n]: box [n] of the subjects [n] is as good as `limits` asks for."""
    return box >= np.array([limit[s] for s in subjects])


def changed_away(pictures: np.ndarray, plain: np.ndarray, wanted: list[scenes.Scene]) -> np.ndarray:
    """Share [n] of the pixels away from the subject that are not as in the same seed's picture without a negative. Pictures:
    uint8 [n, 128, 128, 3]."""
    away = ~score.inside(wanted)
    same = score.agrees(score.to_tensor(pictures), score.to_tensor(plain))
    return ((~same & away).sum((1, 2)) / away.sum((1, 2))).numpy()
