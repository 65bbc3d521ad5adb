"""Success sees damage of known size where the subject is, which the whole picture's quality does not."""
from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

TESTBED = Path(__file__).resolve().parents[2] / "testbed"
sys.path.append(str(TESTBED))

import scenes  # noqa: E402
import score  # noqa: E402
import success  # noqa: E402

COUNT = 40
SUBJECTS = [scenes.SUBJECTS[i % 8] for i in range(COUNT)]


@pytest.fixture(scope="module")
def wanted() -> list[scenes.Scene]:
    rng = random.Random(11)
    return [scenes.draw(rng, subject, True, False) for subject in SUBJECTS]


@pytest.fixture(scope="module")
def bare(wanted) -> np.ndarray:
    """What a perfect negative leaves: the subject without its part."""
    return np.stack([scenes.render(scene) for scene in wanted])


@pytest.fixture(scope="module")
def boxes(wanted) -> np.ndarray:
    return score.inside(wanted).numpy()


@pytest.fixture(scope="module")
def model() -> score.Scorer:
    return score.load()


@pytest.fixture(scope="module")
def limit(model, wanted) -> dict[str, float]:
    """From the pictures that have their part."""
    whole = [dataclasses.replace(scene, part=True) for scene in wanted]
    seen = score.score(model, np.stack([scenes.render(scene) for scene in whole]), whole)
    return success.limits(seen.box, SUBJECTS)


def middle(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2


def blob(picture: np.ndarray, mask: np.ndarray, scene: scenes.Scene, size: float) -> np.ndarray:
    """A disc of `size` of the box in a colour that no scene has."""
    y, x = middle(mask)
    grid = np.mgrid[: scenes.SIZE, : scenes.SIZE]
    disc = (grid[0] - y) ** 2 + (grid[1] - x) ** 2 < size * mask.sum() / np.pi
    return np.where(disc[..., None], np.array([255, 0, 255], np.uint8), picture)


def smear(picture: np.ndarray, mask: np.ndarray, scene: scenes.Scene, size: float) -> np.ndarray:
    """The body dragged sideways inside the box: a mean over `size` of its width."""
    width = np.ptp(np.nonzero(mask)[1])
    reach = max(round(size * width), 2)
    dragged = np.mean([np.roll(picture, s, axis=1) for s in range(reach)], axis=0).astype(np.uint8)
    return np.where(mask[..., None], dragged, picture)


def ghost(picture: np.ndarray, mask: np.ndarray, scene: scenes.Scene, size: float) -> np.ndarray:
    """The part, with `size` of its strength."""
    whole = scenes.render(dataclasses.replace(scene, part=True))
    return (picture * (1 - size) + whole * size).astype(np.uint8)


def other_colour(picture: np.ndarray, mask: np.ndarray, scene: scenes.Scene, size: float) -> np.ndarray:
    """The body's colour turned by `size` of the way to another one."""
    colour = "blue" if scene.colour != "blue" else "red"
    turned = scenes.render(dataclasses.replace(scene, colour=colour))
    return (picture * (1 - size) + turned * size).astype(np.uint8)


def damaged(kind: Callable[..., np.ndarray], size: float, bare, boxes, wanted) -> np.ndarray:
    return np.stack([kind(*one, size) for one in zip(bare, boxes, wanted, strict=True)])


def test_undamaged_pictures_are_clean(model, wanted, bare, limit):
    """Also those without the part, though the limit was taken from pictures with it."""
    seen = score.score(model, bare, wanted)
    assert success.clean(seen.box, SUBJECTS, limit).mean() >= 0.93
    assert seen.box.min() > 0.9


@pytest.mark.parametrize("kind, size", [(blob, 0.05), (blob, 0.15), (smear, 0.2), (smear, 0.4), (ghost, 0.4), (ghost, 0.5),
                                        (other_colour, 0.5), (other_colour, 1.0)],
                         ids=lambda v: getattr(v, "__name__", str(v)))
def test_damage_is_not_clean(model, wanted, bare, boxes, limit, kind, size):
    seen = score.score(model, damaged(kind, size, bare, boxes, wanted), wanted)
    assert success.clean(seen.box, SUBJECTS, limit).mean() <= 0.1, "damage in nine of ten pictures has to show"


@pytest.mark.parametrize("size", [0.04, 0.1, 0.2])
def test_the_box_loses_what_was_damaged(model, wanted, bare, boxes, size):
    """A blob of a known share of the box, drawn where the body was: the count is the blob's area, but for its edge."""
    places = torch.tensor([score.place_of(scene) for scene in wanted])
    whole, box = score.quality(damaged(blob, size, bare, boxes, wanted), wanted, places)
    assert np.abs(1 - box - size).max() <= 0.02
    shares = boxes.mean((1, 2))
    assert np.abs(1 - whole - size * shares).max() <= 0.02, "of the whole picture it is several times less"
    assert shares.mean() < 0.35


def test_the_box_holds_the_subject_wherever_it_stands(wanted, boxes):
    """Body and part with the offsets that scenes have, and a margin left."""
    for scene, mask in zip(wanted, boxes, strict=True):
        whole = scenes.render(dataclasses.replace(scene, part=True)).astype(int)
        empty = scenes.render(dataclasses.replace(scene, body=False, subject=None)).astype(int)
        rows, columns = np.nonzero(np.abs(whole - empty).max(-1) > 24)
        assert mask[rows, columns].all()


def test_change_away_is_counted_away(wanted, bare, boxes):
    """Damage inside the box is not change elsewhere; a strip of the sky is, by its area."""
    assert success.changed_away(damaged(blob, 0.2, bare, boxes, wanted), bare, wanted).max() == 0
    strip = bare.copy()
    strip[:, :8] = (255, 0, 255)
    expected = (~boxes)[:, :8].sum((1, 2)) / (~boxes).sum((1, 2))
    assert np.abs(success.changed_away(strip, bare, wanted) - expected).max() <= 0.005


@pytest.fixture(scope="module")
def judged(model) -> list[dict]:
    """80 pictures judged by eye before the score was looked at, and what the score says of them."""
    found = json.loads((TESTBED / "pictures" / "judged.json").read_text())
    sheet = np.asarray(Image.open(TESTBED / "pictures" / "judged.png").convert("RGB"))
    size, pairs = scenes.SIZE, scenes.prompt_pairs(16, found["seed"])
    corners = [(k // 10 * size, k % 10 * size) for k in range(len(found["pictures"]))]
    pictures = np.stack([sheet[y:y + size, x:x + size] for y, x in corners])
    seen = score.score(model, pictures, [pairs[one["pair"]].scene for one in found["pictures"]])
    rows = []
    for one, absent, kept, box in zip(found["pictures"], seen.part_absent, seen.subject_kept, seen.box, strict=True):
        limit = found["limits"][one["architecture"]][pairs[one["pair"]].scene.subject]
        rows.append({**one, "seen_absent": absent, "seen_kept": kept, "clean": box >= limit})
    return rows


def test_the_score_agrees_with_the_eye(judged):
    """README's table. Damage that shows at first sight is what clean must not let through."""
    assert len(judged) == 80

    def clean(damage: str) -> float:
        return np.mean([row["clean"] for row in judged if row["damage"] == damage])
    assert clean("none") >= 0.9
    assert clean("plain") <= 0.2
    assert np.mean([row["absent"] == row["seen_absent"] for row in judged]) >= 0.85
    assert np.mean([row["kept"] == row["seen_kept"] for row in judged]) >= 0.85
