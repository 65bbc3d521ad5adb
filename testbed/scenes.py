"""Procedural scenes: flat-design pictures of one subject on a meadow, and the captions that describe them.

Every picture is 128 x 128 RGB, drawn at four times that size with Pillow and reduced with a Lanczos filter, so that
edges are anti-aliased. Every subject has one essential part (a car has wheels, a house has a roof, ...). The
training distribution is made so that a negative prompt has something to do, in the spirit of NegGenBench:

- a caption that names the subject alone shows the part in four of five pictures: the model cannot avoid it by
  itself, and few steps draw the likelier picture more often still;
- the others show the subject without the part under the very same caption. Cameras crop and snow hides: every big
  model has seen such pictures. One that has not has nowhere to go when it is pushed away from the part;
- some captions name subject and part, and then both are there: what the word adds to the subject can be learned;
- some pictures show a part ALONE under a caption that names the part alone: the part is a concept of its own.

All randomness comes from the `random.Random` that the caller passes in. Coordinates are pixels of the 128-pixel
picture, y down.
"""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128
SUPERSAMPLE = 4
OUTLINE_WIDTH = 1.8

PARTS = {
    "car": "wheels",
    "house": "roof",
    "face": "eyes",
    "tree": "apples",
    "sailboat": "sails",
    "cup": "handle",
    "airplane": "wings",
    "clock": "hands",
}
SUBJECTS = tuple(PARTS)
COLOURS = {"red": "#e8413c", "blue": "#2f7de1", "yellow": "#ffc629", "green": "#12a565", "purple": "#8e4fd0"}
# A tree's apples are red, so a red crown would hide them.
SUBJECT_COLOURS = {subject: tuple(c for c in COLOURS if (subject, c) != ("tree", "red")) for subject in SUBJECTS}
POSITIONS = {"left": 38.0, "center": 64.0, "right": 90.0}
BACKGROUNDS = ("day", "night")

INK = "#23233b"
PAPER = "#fff8ec"
PALETTE = {
    **COLOURS,
    "ink": INK,
    "paper": PAPER,
    "glass": "#cfefff",
    "wood": "#8a5a36",
    "tyre": "#41414f",
    "hub": "#d9dde6",
    "roof": "#b8552f",
    "apple": "#d8232a",
    "handle": "#f4cfa0",
    "wing": "#c3cfe2",
    "hand": "#c2185b",
    "coffee": "#5b3a29",
    "pond": "#4fb3e8",
    "day sky": "#a5def9",
    "day hill": "#6fc04d",
    "day meadow": "#93d663",
    "sun": "#ffe066",
    "cloud": "#ffffff",
    "night sky": "#212b5c",
    "night hill": "#1d5c53",
    "night meadow": "#2c7a5b",
    "moon": "#fff3c4",
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one picture shows. `subject` is None for an empty meadow; then `body` and `part` are False."""

    subject: str | None
    colour: str
    position: str
    background: str
    body: bool = True
    part: bool = True
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0


class Pen:
    """Draws in a subject's own coordinates (pixels around its centre) on the supersampled canvas."""

    def __init__(self, image: Image.Image, x: float = 0.0, y: float = 0.0, scale: float = 1.0) -> None:
        self.draw = ImageDraw.Draw(image)
        self.x, self.y, self.scale = x, y, scale
        self.ink_width = round(OUTLINE_WIDTH * SUPERSAMPLE)

    def _at(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [
            ((self.x + px * self.scale) * SUPERSAMPLE, (self.y + py * self.scale) * SUPERSAMPLE) for px, py in points
        ]

    def polygon(self, points: list[tuple[float, float]], fill: str, outline: bool = True) -> None:
        corners = self._at(points)
        self.draw.polygon(corners, fill=fill)
        if outline:
            # A closed line with round joints; the polygon's own outline has gaps at sharp corners.
            self.draw.line([*corners, corners[0], corners[1]], fill=INK, width=self.ink_width, joint="curve")

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, fill: str, outline: bool = True) -> None:
        box = self._at([(cx - rx, cy - ry), (cx + rx, cy + ry)])
        self.draw.ellipse(
            [*box[0], *box[1]], fill=fill, outline=INK if outline else None, width=self.ink_width if outline else 0
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: str, radius: float = 1.0) -> None:
        corners = self._at([(x0, y0), (x1, y1)])
        self.draw.rounded_rectangle(
            [*corners[0], *corners[1]],
            radius * self.scale * SUPERSAMPLE,
            fill=fill,
            outline=INK,
            width=self.ink_width,
        )

    def stroke(self, points: list[tuple[float, float]], width: float, fill: str) -> None:
        """A thick line with round ends and joints."""
        path = self._at(points)
        thick = width * self.scale * SUPERSAMPLE
        self.draw.line(path, fill=fill, width=round(thick), joint="curve")
        for px, py in (path[0], path[-1]):
            self.draw.ellipse([px - thick / 2, py - thick / 2, px + thick / 2, py + thick / 2], fill=fill)

    def outlined_stroke(self, points: list[tuple[float, float]], width: float, fill: str) -> None:
        self.stroke(points, width + 2 * OUTLINE_WIDTH, INK)
        self.stroke(points, width, fill)


def _arc(
    cx: float, cy: float, rx: float, ry: float, start: float, stop: float, count: int = 24
) -> list[tuple[float, float]]:
    """Points on an ellipse between two angles in degrees (0 = right, 90 = down)."""
    angles = [math.radians(start + (stop - start) * i / count) for i in range(count + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _car(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.polygon([(-19, -3), (-11, -18), (11, -18), (20, -3)], fill)
        pen.polygon([(-13, -5), (-8, -14), (-2, -14), (-2, -5)], PALETTE["glass"])
        pen.polygon([(3, -5), (3, -14), (9, -14), (14, -5)], PALETTE["glass"])
        pen.box(-31, -5, 31, 14, fill, radius=6)
        pen.ellipse(26, 2, 3.2, 3.2, PALETTE["sun"])
    if part:
        for cx in (-16, 16):
            pen.ellipse(cx, 14, 10, 10, PALETTE["tyre"])
            pen.ellipse(cx, 14, 4.4, 4.4, PALETTE["hub"], outline=False)


def _house(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.box(-23, -6, 23, 26, fill)
        pen.box(-6, 7, 6, 26, PALETTE["wood"])
        pen.box(-19, 0, -10, 9, PALETTE["glass"])
        pen.box(10, 0, 19, 9, PALETTE["glass"])
    if part:
        pen.polygon([(-30, -5), (0, -29), (30, -5)], PALETTE["roof"])


def _face(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.ellipse(0, 0, 27, 27, fill)
        pen.stroke(_arc(0, 5, 14, 12, 25, 155), 3.4, INK)
    if part:
        for cx in (-10.5, 10.5):
            pen.ellipse(cx, -6, 7.6, 9.2, PALETTE["cloud"])
            pen.ellipse(cx + 1, -4.5, 3.8, 4.6, INK, outline=False)


def _tree(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.box(-5.5, 8, 5.5, 31, PALETTE["wood"])
        crown = [(0, -15, 17), (-14, -1, 14), (14, -1, 14), (0, 3, 13)]
        for cx, cy, r in crown:  # all outlines first, then all fills: one outline around the union
            pen.ellipse(cx, cy, r, r, INK, outline=False)
        for cx, cy, r in crown:
            pen.ellipse(cx, cy, r - OUTLINE_WIDTH / pen.scale, r - OUTLINE_WIDTH / pen.scale, fill, outline=False)
    if part:
        for cx, cy in ((-15, -2), (-5, -20), (9, -15), (16, 0), (0, 2)):
            pen.ellipse(cx, cy, 5.6, 5.6, PALETTE["apple"])


def _sailboat(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.ellipse(0, 20, 34, 8, PALETTE["pond"])
        pen.box(-2.4, -31, 2.4, 8, PALETTE["wood"])
    if part:
        pen.polygon([(4, -29), (4, 3), (25, 3)], PAPER)
        pen.polygon([(-4, -23), (-4, 3), (-20, 3)], PAPER)
    if body:
        pen.polygon([(-28, 6), (28, 6), (18, 21), (-18, 21)], fill)


def _cup(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if part:
        pen.outlined_stroke(_arc(12, 2, 14, 12, -90, 90), 5.5, PALETTE["handle"])
    if body:
        pen.polygon([(-24, -15), (14, -15), (10, 20), (6, 23), (-16, 23), (-20, 20)], fill)
        pen.ellipse(-5, -15, 19, 5.5, PALETTE["coffee"])


def _airplane(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if part:
        for side in (-1, 1):
            pen.polygon([(8, 4 * side), (-7, 29 * side), (-17, 29 * side), (-11, 4 * side)], PALETTE["wing"])
    if body:
        pen.polygon([(-20, -2), (-33, -15), (-33, 15), (-20, 2)], fill)
        pen.polygon(_arc(0, 0, 32, 8.5, 0, 360, 48), fill)
        pen.polygon([(21, -5), (27, -3.2), (27, 3.2), (21, 5)], PALETTE["glass"])
        for cx in (-9, 1, 11):
            pen.ellipse(cx, 0, 3, 3, PALETTE["glass"])


def _clock(pen: Pen, fill: str, body: bool, part: bool) -> None:
    if body:
        pen.ellipse(0, 0, 28, 28, fill)
        pen.ellipse(0, 0, 20.5, 20.5, PAPER)
        for a in range(0, 360, 90):
            c, s = math.cos(math.radians(a)), math.sin(math.radians(a))
            pen.stroke([(17 * c, 17 * s), (14.5 * c, 14.5 * s)], 2.4, INK)
    if part:
        pen.outlined_stroke([(-10, -6), (0, 2), (10, -12)], 4.2, PALETTE["hand"])


_DRAW = {
    "car": _car,
    "house": _house,
    "face": _face,
    "tree": _tree,
    "sailboat": _sailboat,
    "cup": _cup,
    "airplane": _airplane,
    "clock": _clock,
}
_HEIGHT = {"airplane": 56.0}  # the y of a subject's centre; the others stand on the meadow
_HEIGHT_DEFAULT = 76.0


def _draw_background(image: Image.Image, background: str) -> None:
    pen = Pen(image)
    pen.polygon([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)], PALETTE[f"{background} sky"], outline=False)
    if background == "day":
        pen.ellipse(20, 19, 9, 9, PALETTE["sun"], outline=False)
        for cx, cy, r in ((86, 21, 6), (95, 17, 8), (105, 20, 7), (95, 23, 6)):
            pen.ellipse(cx, cy, r, r * 0.8, PALETTE["cloud"], outline=False)
    else:
        pen.ellipse(20, 19, 9, 9, PALETTE["moon"], outline=False)
        pen.ellipse(24, 16, 7.5, 7.5, PALETTE["night sky"], outline=False)
        for cx, cy in ((46, 14), (66, 28), (82, 12), (100, 26), (117, 13), (10, 46), (118, 52)):
            pen.ellipse(cx, cy, 1.6, 1.6, PALETTE["moon"], outline=False)
    pen.ellipse(100, 118, 86, 34, PALETTE[f"{background} hill"], outline=False)
    pen.polygon(
        [(0, 98), *[(x, 98 - 3 * math.sin(x / 40)) for x in range(0, SIZE + 1, 4)], (SIZE, SIZE), (0, SIZE)],
        PALETTE[f"{background} meadow"],
        outline=False,
    )


def centre(scene: Scene) -> tuple[float, float]:
    """Where the subject's own coordinates have their origin, in pixels of the picture."""
    return POSITIONS[scene.position] + scene.dx, _HEIGHT.get(scene.subject or "", _HEIGHT_DEFAULT) + scene.dy


def render(scene: Scene) -> np.ndarray:
    """The picture of a scene: uint8 [128, 128, 3]."""
    image = Image.new("RGB", (SIZE * SUPERSAMPLE, SIZE * SUPERSAMPLE))
    _draw_background(image, scene.background)
    if scene.subject is not None:
        x, y = centre(scene)
        _DRAW[scene.subject](Pen(image, x, y, scene.scale), COLOURS[scene.colour], scene.body, scene.part)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def draw(rng: random.Random, subject: str | None, body: bool, part: bool) -> Scene:
    """A scene with the given content and everything else drawn at random."""
    return Scene(
        subject=subject,
        colour=rng.choice(SUBJECT_COLOURS[subject] if subject else tuple(COLOURS)),
        position=rng.choice(tuple(POSITIONS)),
        background=rng.choice(BACKGROUNDS),
        body=body,
        part=part,
        dx=rng.uniform(-2.5, 2.5),
        dy=rng.uniform(-2.5, 2.5),
        scale=rng.uniform(0.9, 1.0),
    )


def _describe(rng: random.Random, scene: Scene, noun: str, coloured: bool) -> str:
    """A caption for `noun` with the scene's attributes, each dropped now and then."""
    words = [scene.colour, noun] if coloured and rng.random() < 0.85 else [noun]
    text = " ".join(words)
    if noun in SUBJECTS:
        text = f"a {text}"
    where = rng.random()
    if where < 0.7:
        text += " in the center" if scene.position == "center" else f" on the {scene.position}"
    if rng.random() < 0.7:
        text += f", {scene.background}"
    return text


PART_SHARE = 0.82  # of the pictures whose caption names the subject alone


def sample(rng: random.Random) -> tuple[Scene, str]:
    """One scene of the training distribution and its caption. An empty caption is left to the trainer (it drops
    captions).
    """
    kind = rng.random()
    subject = rng.choice(SUBJECTS)
    part = PARTS[subject]
    if kind < 0.04:
        scene = dataclasses.replace(draw(rng, None, False, False))
        return scene, rng.choice((scene.background, f"a meadow, {scene.background}"))
    if kind < 0.22:  # the part alone
        scene = draw(rng, subject, False, True)
        return scene, _describe(rng, scene, part, coloured=False)
    if kind < 0.38:  # subject and part both named
        scene = draw(rng, subject, True, True)
        text = _describe(rng, scene, subject, coloured=True)
        return scene, text.replace(subject, f"{subject} with {part}", 1)
    scene = draw(rng, subject, True, rng.random() < PART_SHARE)
    return scene, _describe(rng, scene, subject, coloured=True)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A test case: `positive` names a scene in full, `negative` is its subject's essential part."""

    positive: str
    negative: str
    scene: Scene


def prompt_pairs(count: int = 200, seed: int = 0) -> list[Pair]:
    """`count` test pairs: subjects equally often, colours, positions and backgrounds at random, fixed by the seed."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        for subject in rng.sample(SUBJECTS, len(SUBJECTS)):
            scene = dataclasses.replace(draw(rng, subject, True, True), dx=0.0, dy=0.0, scale=0.95)
            place = "in the center" if scene.position == "center" else f"on the {scene.position}"
            text = f"a {scene.colour} {subject} {place}, {scene.background}"
            pairs.append(Pair(text, PARTS[subject], scene))
    return pairs[:count]


def contact_sheet(pictures: list[np.ndarray], columns: int, gap: int = 4) -> Image.Image:
    """Pictures (uint8 [h, w, 3], one size) in rows of `columns`."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return sheet
