"""The template cards' drawings: each workflow's own subject, with its negative's thing and without it.

No picture of a big model can be made where this runs, so that these are plain drawings, which the cards say. A scene draws on a
canvas of 200 x 100 units (a film's frames: 100 x 100).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import ImageDraw

Points = tuple[float, ...]


class Canvas:
    """A drawing in units of its own: `times` pixels each."""

    def __init__(self, draw: ImageDraw.ImageDraw, times: float) -> None:
        self.draw, self.times = draw, times

    def shape(self, kind: str, points: Points, fill: str, **options: float) -> None:
        """`kind` is a method of ImageDraw: polygon, ellipse, rectangle, line, pieslice, arc; angles stay as they are."""
        options = {k: v if k in ("start", "end") else round(v * self.times) for k, v in options.items()}
        getattr(self.draw, kind)([value * self.times for value in points], fill=fill, **options)

    def box(self, points: Points, fill: str) -> None:
        """A rectangle (left, top, right, bottom)."""
        self.shape("rectangle", points, fill)

    def poly(self, points: Points, fill: str) -> None:
        """A polygon (x, y, x, y, ...)."""
        self.shape("polygon", points, fill)

    def disc(self, x: float, y: float, radius: float, fill: str, height: float = 0) -> None:
        """A circle around (x, y); with a height of its own, an ellipse."""
        high = height or radius
        self.shape("ellipse", (x - radius, y - high, x + radius, y + high), fill)

    def line(self, points: Points, fill: str, width: float) -> None:
        """A line with round ends."""
        self.shape("line", points, fill, width=width)
        for x, y in zip(points[::2], points[1::2], strict=True):
            self.disc(x, y, width / 2, fill)

    def ring(self, x: float, y: float, radius: float, fill: str, width: float) -> None:
        """A circle's line."""
        self.shape("arc", (x - radius, y - radius, x + radius, y + radius), fill, start=0, end=360, width=width)


Scene = Callable[[Canvas, bool], None]
"""Draws the picture with the unwanted thing or without."""
Film = Callable[[Canvas, float, bool], None]
"""The same for a frame at a time from 0 to 1."""


def bicycle(c: Canvas, wheels: bool) -> None:
    """A bicycle at a brick wall."""
    c.box((0, 0, 200, 76), "#a9573f")
    for row in range(10):
        c.box((0, row * 8, 200, row * 8 + 0.8), "#c98a6b")
        for x in range(-8 if row % 2 else 0, 200, 18):
            c.box((x, row * 8, x + 0.8, row * 8 + 8), "#c98a6b")
    c.box((0, 76, 200, 100), "#7d7a78")
    for number in range(36):
        c.disc((number * 23) % 204, 81 + 8 * (number % 3), 7, "#918d89", 3)
    c.poly((52, 88, 168, 88, 190, 96, 66, 96), "#5f5c5b")
    back, front, crank, seat, bar = (72, 68), (138, 68), (102, 68), (90, 38), (126, 36)
    if wheels:
        for x, y in (back, front):
            c.ring(x, y, 21, "#22242b", 4)
            for angle in range(0, 180, 30):
                dx, dy = 18 * math.cos(math.radians(angle)), 18 * math.sin(math.radians(angle))
                c.line((x - dx, y - dy, x + dx, y + dy), "#c9ced6", 0.6)
            c.disc(x, y, 2.5, "#22242b")
    for one, other in ((back, crank), (crank, seat), (seat, bar), (crank, bar), (back, seat), (bar, front)):
        c.line((*one, *other), "#1d6f8c", 3)
    c.line((*seat, 88, 31), "#1d6f8c", 2.5)
    c.line((78, 30, 97, 30), "#2d2320", 4.5)
    c.line((*bar, 123, 27, 134, 25), "#2b2f36", 2.5)
    c.disc(*crank, 5, "#2b2f36")
    c.line((102, 68, 108, 77, 113, 77), "#2b2f36", 2)


def knight(c: Canvas, helmet: bool) -> None:
    """A knight on his horse before a forest in the mist."""
    c.box((0, 0, 200, 100), "#cdd8dc")
    for x in range(-10, 220, 22):
        c.poly((x - 15, 84, x, 14 + (x * 7) % 20, x + 15, 84), "#a9bcbf")
    for x in range(0, 220, 34):
        c.poly((x - 18, 92, x, 34 + (x * 5) % 18, x + 18, 92), "#7e9895")
    c.box((0, 84, 200, 100), "#6f8a72")
    horse, dark = "#8a5a3a", "#5f3b25"
    for x in (72, 82, 122, 131):
        c.poly((x, 68, x + 7, 68, x + 5, 97, x + 1, 97), dark)
    c.disc(104, 66, 37, horse, 14)
    c.poly((126, 60, 148, 22, 160, 26, 144, 66), horse)
    c.poly((146, 21, 158, 20, 177, 40, 171, 47, 150, 36), horse)
    c.poly((147, 22, 151, 11, 155, 22), horse)
    c.poly((124, 58, 142, 20, 149, 20, 134, 62), dark)
    c.disc(160, 29, 1.6, "#20160f")
    c.poly((68, 60, 54, 70, 56, 92, 62, 74, 72, 70), dark)
    c.poly((80, 52, 124, 52, 130, 78, 76, 78), "#b3322c")
    c.poly((80, 72, 128, 72, 130, 78, 76, 78), "#e3b341")
    steel, shade = "#b8c2cc", "#8793a0"
    c.poly((96, 52, 110, 52, 122, 84, 112, 88), shade)
    c.poly((88, 56, 90, 26, 116, 26, 118, 56), steel)
    c.poly((103, 26, 116, 26, 118, 56, 103, 56), shade)
    c.disc(88, 30, 8, steel)
    c.disc(117, 30, 8, shade)
    c.line((118, 34, 132, 48), steel, 6)
    c.line((104, 26, 104, 20), "#d9a883", 7)
    if helmet:
        c.disc(104, 13, 10.5, steel, 12)
        c.poly((104, 1, 115, 10, 114, 23, 104, 25), shade)
        c.box((102, 11, 115, 14), "#20242c")
        c.poly((104, 3, 90, 1, 78, 14, 96, 9), "#b3322c")
    else:
        c.disc(104, 13, 9, "#e0b08c", 11)
        c.shape("pieslice", (94, -1, 114, 23), "#4b2f1c", start=180, end=360)
        c.poly((94, 11, 94, 22, 98, 22, 99, 9), "#4b2f1c")
        c.disc(108, 13, 1.2, "#20160f")
        c.line((106, 19, 111, 18.5), "#a25b45", 1)


def bakery(c: Canvas, sign: bool) -> None:
    """A bakery at dusk."""
    c.box((0, 0, 200, 100), "#4a4e74")
    c.box((0, 0, 34, 84), "#6b5a63")
    c.box((172, 0, 200, 84), "#5d5563")
    c.box((34, 0, 172, 84), "#c58f63")
    c.box((34, 22, 172, 26), "#8f6040")
    for x in (50, 92, 134):
        c.box((x, 0, x + 22, 14), "#f5d58b")
        c.box((x + 10, 0, x + 12, 14), "#8f6040")
    c.box((44, 42, 120, 76), "#ffe2a0")
    c.box((44, 76, 120, 84), "#7a4d31")
    for x, y in ((56, 70), (72, 70), (88, 70), (105, 70), (64, 60), (80, 60), (97, 60)):
        c.disc(x, y, 8, "#b9762f", 4.5)
        for d in (-3, 0, 3):
            c.line((x + d - 1, y - 2.5, x + d + 1, y + 1.5), "#e9bd78", 0.9)
    for number in range(10):
        x = 40 + number * 8.4
        c.poly((x, 32, x + 8.4, 32, x + 8.4, 44, x, 44), "#c94b3d" if number % 2 else "#f3e9d8")
        c.shape("pieslice", (x, 40, x + 8.4, 48), "#c94b3d" if number % 2 else "#f3e9d8", start=0, end=180)
    c.box((132, 40, 160, 84), "#6a3f28")
    c.box((137, 46, 155, 66), "#ffe2a0")
    c.disc(156, 70, 1.6, "#e3b341")
    c.box((0, 84, 200, 100), "#3a3d59")
    c.poly((44, 84, 120, 84, 132, 100, 34, 100), "#7d6a63")
    if sign:
        c.line((172, 28, 196, 28), "#20222e", 2)
        c.line((178, 28, 178, 35), "#20222e", 1)
        c.line((192, 28, 192, 35), "#20222e", 1)
        c.disc(185, 47, 13, "#f3e9d8")
        c.ring(185, 47, 13, "#7a4d31", 2)
        c.ring(181, 46, 5, "#b9762f", 2.4)
        c.ring(189, 46, 5, "#b9762f", 2.4)
        c.line((179, 54, 185, 48, 191, 54), "#b9762f", 2.4)


def snow_figure(c: Canvas, x: float, nose: bool) -> None:
    """A snowman, his middle at x."""
    c.disc(x + 2, 94, 28, "#dfe8f1", 22)
    c.disc(x, 92, 28, "#ffffff", 22)
    c.disc(x, 56, 20, "#ffffff", 18)
    c.disc(x, 30, 15, "#ffffff")
    c.line((x - 18, 52, x - 40, 38), "#6b4a2f", 2)
    c.line((x + 18, 52, x + 40, 40), "#6b4a2f", 2)
    c.box((x - 14, 40, x + 14, 46), "#cf2f2b")
    c.poly((x + 6, 44, x + 14, 44, x + 18, 64, x + 10, 65), "#cf2f2b")
    for y in (54, 62):
        c.disc(x, y, 1.8, "#2b2f36")
    for dx in (-6, 6):
        c.disc(x + dx, 26, 1.9, "#2b2f36")
    for dx, y in ((-8, 35), (-4.5, 37.5), (0, 38.4), (4.5, 37.5), (8, 35)):
        c.disc(x + dx, y, 1.1, "#2b2f36")
    if nose:
        c.poly((x, 28, x, 33, x + 22, 32.5), "#f08a24")
        c.line((x + 6, 29.6, x + 6, 31.6), "#c96a12", 0.8)


def snowy_garden(c: Canvas, right: int) -> None:
    """Snow, and a fence as far as `right`."""
    c.shape("ellipse", (-40, 60, 240, 150), "#f4f8fc")
    for x in range(4, right, 14):
        c.box((x, 54, x + 5, 74), "#c7d3de")
    c.box((0, 60, right, 64), "#c7d3de")


def two_snowmen(c: Canvas, nose: bool) -> None:
    """Two snowmen in a front garden. What is unwanted is so on the left alone, where a box is drawn."""
    c.box((0, 0, 200, 100), "#a9d4f2")
    snowy_garden(c, 200)
    snow_figure(c, 53, nose)
    snow_figure(c, 147, True)
    if not nose:
        for start, end, along in ((4, 96, "x"), (5, 95, "y")):
            for at in range(start, end - 3, 8):
                for side in (3, 98) if along == "y" else (4, 96):
                    c.line((at, side, at + 4, side) if along == "x" else (side, at, side, at + 4), "#2b2f36", 1.2)


def snowman(c: Canvas, nose: bool) -> None:
    """A snowman in a front garden."""
    c.box((0, 0, 200, 100), "#a9d4f2")
    c.box((124, 22, 186, 70), "#d98f6a")
    c.poly((116, 26, 155, 2, 194, 26), "#f4f8fc")
    c.box((136, 36, 150, 52), "#fff1c4")
    c.box((160, 40, 174, 70), "#7a4d31")
    snowy_garden(c, 120)
    snow_figure(c, 70, nose)
    c.line((124, 88, 176, 88), "#9a5b2e", 3)
    c.line((128, 96, 180, 96, 187, 90), "#6b3f20", 2.5)
    for x in (132, 152, 170):
        c.line((x, 88, x, 96), "#6b3f20", 2)


def living_room(c: Canvas, tree: bool, stockings: bool = True) -> None:
    """A living room on Christmas Eve."""
    c.box((0, 0, 200, 100), "#7c4b43")
    c.box((0, 80, 200, 100), "#4f2f26")
    c.disc(92, 92, 66, "#b0413a", 8)
    c.box((14, 12, 46, 50), "#22335a")
    c.box((29, 12, 31, 50), "#e7dccb")
    c.box((14, 30, 46, 32), "#e7dccb")
    for x, y in ((20, 20), (38, 24), (24, 40), (41, 42)):
        c.disc(x, y, 1, "#ffffff")
    c.box((64, 26, 120, 80), "#b9a08c")
    c.box((60, 22, 124, 29), "#5f3b25")
    c.shape("pieslice", (72, 40, 112, 84), "#241614", start=180, end=360)
    c.box((72, 61, 112, 80), "#241614")
    c.poly((78, 80, 84, 58, 89, 68, 94, 50, 99, 67, 104, 60, 108, 80), "#f08a24")
    c.poly((85, 80, 91, 66, 94, 62, 98, 70, 101, 80), "#ffd55a")
    for x, colour in ((72, "#cf2f2b"), (86, "#2f7d3b"), (100, "#cf2f2b")) if stockings else ():
        c.poly((x, 29, x + 7, 29, x + 7, 40, x + 13, 42, x + 12, 46, x, 45), colour)
        c.box((x, 28, x + 7, 31), "#ffffff")
    c.disc(34, 66, 22, "#2f5d73", 16)
    c.box((16, 64, 52, 88), "#3d7590")
    c.box((12, 62, 20, 90), "#2f5d73")
    c.box((48, 62, 56, 90), "#2f5d73")
    if tree:
        c.box((156, 78, 164, 90), "#5f3b25")
        for top, half in ((10, 16), (24, 23), (42, 30)):
            c.poly((160 - half, top + 38, 160, top, 160 + half, top + 38), "#1f6b3a")
        colours = ("#cf2f2b", "#ffd55a", "#5ab4e5")
        balls = ((152, 36), (168, 40), (146, 54), (161, 52), (175, 57), (140, 72), (155, 70), (170, 73))
        for number, (x, y) in enumerate(balls):
            c.disc(x, y, 2.6, colours[number % 3])
        star = [(160 + r * math.sin(math.radians(36 * n)), 9 - r * math.cos(math.radians(36 * n)))
                for n, r in enumerate((7, 3) * 5)]  # fmt: skip
        c.poly(tuple(v for point in star for v in point), "#ffd55a")


def street_cafe(c: Canvas, umbrellas: bool) -> None:
    """A street in Paris on a rainy evening."""
    c.box((0, 0, 200, 100), "#38426b")
    for x, top, colour in ((0, 4, "#59608a"), (44, -4, "#4d547d"), (160, 2, "#4d547d")):
        c.box((x, top, x + 46, 72), colour)
        for row in range(3):
            for column in range(3):
                c.box((x + 6 + 13 * column, top + 8 + 20 * row, x + 13 + 13 * column, top + 20 + 20 * row), "#f5d58b")
    c.box((0, 72, 200, 100), "#2b3152")
    for number in range(22):
        c.disc((number * 37) % 204, 76 + (number * 11) % 24, 6, "#353c61", 1.4)
    c.box((0, 48, 42, 72), "#f5c26b")
    c.poly((0, 40, 46, 40, 52, 52, 0, 52), "#b3322c")
    c.line((124, 20, 124, 74), "#1a1d2c", 2.5)
    c.disc(124, 18, 11, "#5a6087")
    c.disc(124, 18, 5, "#ffe9a8")
    c.poly((119, 76, 129, 76, 134, 100, 114, 100), "#7d7a6a")
    for x, coat, height in ((70, "#8f2f3a", 0), (98, "#2f7d6b", 3), (150, "#c58f3c", 1)):
        y = 46 + height
        c.line((x - 3, 74, x - 3, 88), "#1a1d2c", 3)
        c.line((x + 3, 74, x + 3, 88), "#1a1d2c", 3)
        c.poly((x - 7, y + 10, x + 7, y + 10, x + 10, 78, x - 10, 78), coat)
        c.disc(x, y + 5, 5, "#e0b08c", 6)
        c.shape("pieslice", (x - 5.5, y - 2, x + 5.5, y + 11), "#3a2418", start=180, end=360)
        if umbrellas:
            colour = {70: "#e3b341", 98: "#d95d5d", 150: "#5ab4e5"}[x]
            c.line((x + 6, y + 22, x + 6, y - 8), "#dfe3ee", 1.3)
            c.shape("pieslice", (x - 17, y - 18, x + 25, y + 12), colour, start=180, end=360)
            c.line((x + 6, y - 18, x + 6, y - 21), "#dfe3ee", 1.3)
    for number in range(44):
        x, y = (number * 47) % 200, (number * 29) % 98
        c.line((x, y, x - 1.5, y + 6), "#8d9bc4", 0.5)


def sailing_boat(c: Canvas, sails: bool) -> None:
    """A sailing boat on a mountain lake at sunrise."""
    for number, colour in enumerate(("#f6b78e", "#f8c79c", "#fad7ae", "#fbe4c4")):
        c.box((0, number * 14, 200, 60), colour)
    c.disc(150, 44, 13, "#fff1c4")
    for left, top, right, colour in ((-30, 16, 80, "#a48aa6"), (40, 6, 140, "#8f7d9e"), (100, 20, 230, "#a48aa6")):
        middle = (left + right) / 2
        c.poly((left, 60, middle, top, right, 60), colour)
        c.poly((middle - 10, top + 10, middle, top, middle + 10, top + 10, middle + 3, top + 13), "#fbf3ee")
    for x in (*range(-4, 50, 11), *range(160, 210, 11)):
        c.poly((x - 8, 62, x, 34 + (x * 3) % 11, x + 8, 62), "#3c6b58")
    c.box((0, 60, 200, 100), "#7fa8c2")
    c.disc(150, 62, 16, "#f5d6b4", 2)
    for y, x in ((68, 20), (74, 140), (82, 60), (90, 120), (94, 20)):
        c.line((x, y, x + 34, y), "#a9c7d8", 1)
    if sails:
        c.poly((98, 8, 98, 66, 64, 66), "#ffffff")
        c.poly((102, 14, 102, 66, 130, 66), "#eef2f6")
    c.line((100, 4, 100, 74), "#5f3b25", 2)
    c.line((70, 68, 128, 68), "#5f3b25", 1.5)
    c.poly((58, 72, 142, 72, 128, 88, 72, 88), "#8f3d2c")
    c.poly((58, 72, 142, 72, 139, 76, 61, 76), "#f3e9d8")
    c.disc(100, 91, 40, "#6a93ad", 2)


def wizard(c: Canvas, hat: bool) -> None:
    """The portrait of an old wizard."""
    c.box((0, 0, 200, 100), "#9aa0a8")
    c.disc(100, 46, 74, "#aeb4bb", 54)
    robe, fold = "#23376b", "#1a2a55"
    c.poly((44, 100, 62, 76, 100, 68, 138, 76, 156, 100), robe)
    c.poly((100, 68, 138, 76, 156, 100, 100, 100), fold)
    for x, y in ((60, 92), (76, 82), (128, 84), (142, 94)):
        c.disc(x, y, 1.6, "#e3b341")
    skin = "#e3b594"
    c.disc(79, 46, 4, "#d39f7c", 6)
    c.disc(121, 46, 4, "#d39f7c", 6)
    c.disc(100, 42, 21, skin, 25)
    white, grey = "#f3f4f6", "#dcdfe4"
    c.poly((80, 48, 90, 55, 100, 57, 110, 55, 120, 48, 122, 66, 112, 86, 100, 97, 88, 86, 78, 66), white)
    c.poly((100, 57, 110, 55, 120, 48, 122, 66, 112, 86, 100, 97), grey)
    c.disc(93, 57, 9, white, 3.4)
    c.disc(107, 57, 9, white, 3.4)
    c.poly((98, 40, 102, 40, 105, 52, 96, 52), "#d39f7c")
    for x in (91, 109):
        c.disc(x, 41, 3.6, "#ffffff", 2.4)
        c.disc(x, 41, 1.8, "#2f5d8c")
        c.line((x - 6, 36 if x < 100 else 35, x + 6, 35 if x < 100 else 36), white, 2.6)
    for left in (76, 117):
        c.poly((left, 34, left + 7, 30, left + 7, 60, left + 3, 68, left - 3, 62), white)
    if hat:
        c.poly((80, 27, 99, -1, 116, 3, 110, 9, 120, 27), robe)
        c.poly((102, 0, 116, 3, 110, 9, 120, 27, 100, 27), fold)
        c.disc(100, 27, 34, fold, 6)
        c.poly((79, 20, 121, 20, 121, 27, 79, 27), "#e3b341")
    else:
        c.shape("pieslice", (79, 15, 121, 55), white, start=180, end=360)
        c.disc(100, 27, 15, skin, 8)


def train(c: Canvas, time: float, smoke: bool) -> None:
    """A steam locomotive in a snowy valley, coming from the left."""
    c.box((0, 0, 100, 100), "#a9d3ee")
    for left, top, right in ((-20, 30, 45), (20, 18, 85), (60, 34, 130)):
        middle = (left + right) / 2
        c.poly((left, 70, middle, top, right, 70), "#7f93a8")
        c.poly((middle - 9, top + 11, middle, top, middle + 9, top + 11, middle, top + 7), "#ffffff")
    c.box((0, 66, 100, 100), "#f2f6fa")
    c.box((0, 85, 100, 88), "#5b4a3f")
    x = -6 + 30 * time  # the train's end
    c.box((x - 40, 63, x + 8, 80), "#8e2f2a")
    for window in range(-36, 6, 11):
        c.box((x + window, 66, x + window + 6, 72), "#ffe9a8")
    c.box((x + 12, 56, x + 28, 80), "#2c3140")
    c.box((x + 15, 60, x + 24, 67), "#ffe9a8")
    c.box((x + 28, 65, x + 58, 80), "#3b4254")
    c.box((x + 48, 53, x + 54, 66), "#2c3140")
    c.poly((x + 58, 80, x + 66, 84, x + 58, 84), "#8e2f2a")
    for wheel in (-32, -8, 16, 31, 44, 54):
        c.disc(x + wheel, 81, 5, "#1d2029")
    if smoke:
        for number in range(7):
            y = 48 - 5 * number + 1.5 * (number % 2)
            c.disc(x + 51 - 9 * number, y, 4 + 1.6 * number, "#e9e9ee" if number % 2 else "#d5d6de")


def arrival(c: Canvas, time: float, unwanted: bool) -> None:
    """The same train on its way to a station. The smoke is unwanted at first, the people are at the end."""
    train(c, 0.8 * time, unwanted or time > 0.5)
    if time == 0.5 and not unwanted:  # the one part turns into the other
        for number in range(3):
            c.disc(57 - 9 * number, 46 - 5 * number, 3 + 1.4 * number, "#c9d9e6")
    if time > 0.5:
        c.box((0, 88, 100, 100), "#8f8a86")
        c.box((0, 88, 100, 90), "#c7c2bd")
        if unwanted:
            for x, coat in ((12, "#2f7d6b"), (27, "#c58f3c"), (44, "#8f2f3a"), (62, "#3b4f8a"), (88, "#7a4d31")):
                c.line((x - 1.7, 90, x - 1.7, 97), "#1a1d2c", 1.8)
                c.line((x + 1.7, 90, x + 1.7, 97), "#1a1d2c", 1.8)
                c.poly((x - 3, 76, x + 3, 76, x + 4.6, 91, x - 4.6, 91), coat)
                c.disc(x, 73, 2.7, "#e0b08c", 3.2)
                c.shape("pieslice", (x - 3, 69, x + 3, 77), "#3a2418", start=180, end=360)


def cat(c: Canvas, whole: bool) -> None:
    """A sitting cat in strokes of paint; or what is left of it, half cancelled: shapes and colours of the one half."""
    c.box((0, 0, 200, 100), "#e9c79a")
    for number in range(60):
        x, y = (number * 61) % 216 - 8, (number * 37) % 104
        c.line((x, y, x + 16, y - 3), ("#e2b983", "#efd3ab", "#dcae76")[number % 3], 3)
    c.disc(102, 94, 62, "#b98450", 7)
    fur, dark, pale = "#d9772e", "#a34f1c", "#f3c48c"
    if whole:
        c.shape("arc", (106, 44, 156, 99), dark, start=-60, end=110, width=8)
        c.poly((72, 95, 78, 56, 92, 40, 112, 40, 126, 58, 132, 95), fur)
        c.disc(102, 80, 15, pale, 14)
        c.disc(102, 32, 21, fur, 18)
        c.poly((82, 26, 80, 3, 97, 16), fur)
        c.poly((122, 26, 124, 3, 107, 16), fur)
        c.poly((85, 19, 84, 9, 92, 15), pale)
        c.poly((119, 19, 120, 9, 112, 15), pale)
        for x in (94, 110):
            c.disc(x, 30, 4, "#4f8a3a", 4.5)
            c.disc(x, 30, 1.4, "#20160f", 4)
        c.poly((99, 37, 105, 37, 102, 41), "#7a2f2a")
        for y, dy in ((40, -3), (42, 1)):
            c.line((92, y, 70, y + dy), "#fff5e6", 0.8)
            c.line((112, y, 134, y + dy), "#fff5e6", 0.8)
        for x in (88, 116):
            c.disc(x, 93, 9, pale, 5)
        for y in (56, 64, 72):
            c.line((80, y, 88, y + 2), dark, 2)
            c.line((124, y, 116, y + 2), dark, 2)
        return
    blue, violet = "#2f6f8f", "#6b4f8f"
    c.shape("arc", (124, 40, 174, 96), blue, start=-70, end=60, width=8)
    c.poly((70, 95, 74, 62, 88, 52, 94, 95), fur)
    c.poly((108, 92, 104, 58, 122, 50, 134, 78, 130, 95), violet)
    c.poly((94, 88, 98, 60, 106, 66, 104, 93), pale)
    c.poly((78, 30, 74, 4, 95, 18), fur)
    c.poly((126, 34, 134, 8, 112, 14), blue)
    c.shape("pieslice", (82, 14, 122, 50), fur, start=100, end=250)
    c.shape("pieslice", (86, 12, 126, 48), dark, start=-60, end=60)
    c.disc(93, 31, 5, "#4f8a3a", 5.5)
    c.disc(116, 40, 3.5, pale, 5)
    for x, y, colour in ((64, 74, violet), (140, 66, fur), (100, 48, dark), (82, 64, blue), (120, 84, pale), (148, 88, dark)):
        c.line((x - 9, y, x + 9, y - 5), colour, 4)


def storm(c: Canvas, time: float, bolts: bool) -> None:
    """Clouds and rain come over a green hill; the first frame is the start picture, without either."""
    sky = [round(a + (b - a) * time) for a, b in zip((110, 170, 240), (62, 70, 98), strict=True)]
    c.box((0, 0, 100, 100), "#{:02x}{:02x}{:02x}".format(*sky))
    c.shape("ellipse", (-30, 62, 130, 170), "#6fc04d" if time < 0.3 else "#4b8a44")
    c.box((64, 55, 67, 68), "#6b4a2f")
    c.shape("ellipse", (55, 34, 76, 60), "#2f7d3b")
    if time == 0:
        c.disc(20, 18, 8, "#ffe066")
        return
    for line in range(round(34 * time)):
        left, top = (line * 37) % 100, 30 + (line * 53) % 62
        c.line((left, top, left - 3, top + 9), "#c3d3ea", 0.8)
    for left, top, size in ((-8, 4, 30), (12, -4, 36), (38, 2, 34), (62, -6, 40), (84, 4, 30)):
        c.shape("ellipse", (left, top, left + size, top + 0.7 * size), "#4a4f63" if time < 0.8 else "#33374a")
    if bolts:
        for x in (26, 84) if time > 0.8 else (40,):
            c.poly((x, 22, x - 9, 46, x - 2, 46, x - 8, 68, x + 8, 40, x + 1, 40, x + 7, 22), "#fff27a")


def lighthouse(c: Canvas, time: float, gulls: bool) -> None:
    """A lighthouse on a rock in the sea at dusk; its light turns."""
    c.box((0, 0, 100, 40), "#3c4f80")
    c.box((0, 40, 100, 58), "#d98f6a")
    c.box((0, 58, 100, 100), "#2f5d7c")
    c.disc(16, 57, 9, "#ffd27a", 7)
    c.box((0, 60, 100, 66), "#2a5471")
    turn = math.cos(math.pi * time)  # the beam's end goes from the right to the left
    if abs(turn) > 0.1:
        c.poly((62, 27, 62 - 70 * turn, 12, 62 - 70 * turn, 34), "#f6e7b0")
    for number in range(9):
        x, y = (number * 27 + 12 * time) % 110 - 5, 72 + (number * 13) % 24
        c.line((x, y, x + 5, y - 1.5, x + 10, y), "#8fb6cc", 1)
    c.poly((40, 84, 50, 66, 60, 62, 74, 64, 88, 78, 94, 88, 36, 88), "#4a4038")
    c.poly((55, 64, 58, 33, 66, 33, 69, 64), "#f4f2ec")
    c.poly((56, 54, 57, 46, 67, 46, 68, 54), "#c2473b")
    c.box((57, 24, 67, 33), "#ffe9a8")
    c.poly((55, 24, 62, 17, 69, 24), "#7a2f2a")
    for x in (38, 50, 82, 92):
        c.disc(x, 86 + 2 * time, 4, "#dfeaf0", 2)
    if gulls:
        for left, top, size in ((18, 24, 8), (34, 14, 6), (80, 20, 7), (27, 40, 6), (88, 38, 5)):
            x, y = left + 6 * time, top - 3 * time
            c.line((x - size, y - size / 2, x - size / 3, y - size / 1.6, x, y), "#ffffff", 1.6)
            c.line((x, y, x + size / 3, y - size / 1.6, x + size, y - size / 2), "#ffffff", 1.6)


PICTURES: dict[str, Scene] = {  # what a recipe's card says -> its scene
    "Z-Image-Turbo": bicycle,
    "Krea 2 Turbo": knight,
    "Qwen-Image Lightning": bakery,
    "Flux.2 Klein 4B": snowman,
    "Flux.1 schnell": living_room,
    "Flux.1 dev": street_cafe,
    "SDXL Lightning": sailing_boat,
    "SD3.5 Large Turbo": wizard,
    "See what it does": bicycle,
    "In one place only": two_snowmen,
    "A list of negatives": lambda c, unwanted: living_room(c, unwanted, unwanted),
    "Half-cancelled style": cat,
}
FILMS: dict[str, Film] = {
    "Wan 2.2 T2V Lightning": train,
    "Wan 2.2 I2V Lightning": storm,
    "Along a video": arrival,
    "MiniMax H3": lighthouse,
}
