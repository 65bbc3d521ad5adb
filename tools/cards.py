"""How the template cards look: above without a negative, below with it, the negative named and crossed out."""

from __future__ import annotations

from drawings import Canvas, Film, Scene
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

SIDE = 512
INK, RED, WHITE = (35, 35, 59), (179, 38, 30), (255, 255, 255)
TIMES = 3  # drawn so much larger and reduced, so that edges are smooth
Picture = Image.Image


def chip(image: Picture, bottom: int, text: str, crossed: str = "", aside: bool = False) -> None:
    """A label above a line: red where some of it is crossed out, else dark. `aside`: a small one, on the right."""
    draw = ImageDraw.Draw(image)
    size = 16 if aside else 25
    font = ImageFont.load_default(size)
    wide, cross = draw.textlength(text, font), draw.textlength(crossed, font)
    high, side = size + 13, 12
    left, y = SIDE - 10 - wide - cross - 2 * side if aside else 10, bottom - size - 23
    draw.rounded_rectangle((left, y, left + wide + cross + 2 * side, y + high), 9, RED if crossed else INK)
    draw.text((left + side, y + high / 2), text + crossed, WHITE, font, anchor="lm")
    if crossed:
        begin = left + side + wide
        draw.line((begin - 3, y + high / 2 + 2, begin + cross + 3, y + high / 2 + 2), WHITE, 3)


def stack(above: Picture, below: Picture, negative: str, source: str) -> Picture:
    """Both pictures, 2 : 1 each, with their labels. `source`: what they are, where that needs a word."""
    image = Image.new("RGB", (SIDE, SIDE), WHITE)
    half = (SIDE, SIDE // 2 - 2)
    for picture, top in ((above, 0), (below, SIDE // 2 + 2)):
        image.paste(picture.resize(half, Image.Resampling.LANCZOS), (0, top))
    chip(image, half[1], "no negative")
    chip(image, SIDE, "negative: ", negative)
    if source:
        chip(image, SIDE, source, aside=True)
    return image


def drawn(width: int, height: int) -> tuple[Picture, Canvas]:
    """An empty picture, `TIMES` as large as a card wants it, with its canvas of 100 units in height."""
    image = Image.new("RGB", (width * TIMES, height * TIMES), WHITE)
    return image, Canvas(ImageDraw.Draw(image), height * TIMES / 100)


def picture_card(negative: str, scene: Scene) -> Picture:
    """A scene with the unwanted thing over the same without."""
    halves = []
    for unwanted in (True, False):
        image, canvas = drawn(SIDE, SIDE // 2)
        scene(canvas, unwanted)
        halves.append(image)
    return stack(*halves, negative, "drawing")


def heat_card(negative: str, scene: Scene) -> Picture:
    """A scene with the unwanted thing over the same with heat on it: as in the testbed's maps, all over what has the thing, and
    somewhat more on the thing itself."""
    halves = []
    for unwanted in (True, False):
        image, canvas = drawn(SIDE, SIDE // 2)
        scene(canvas, unwanted)
        halves.append(image)
    heat = ImageChops.difference(*halves).convert("L").point(lambda value: 255 * (value > 24))
    around, on_it = (ImageOps.autocontrast(heat.filter(ImageFilter.GaussianBlur(wide * TIMES))) for wide in (30, 9))
    heat = Image.blend(around, on_it, 0.25)
    hot = Image.blend(halves[0], ImageOps.colorize(heat, (12, 6, 34), (252, 240, 170), (205, 62, 72)), 0.75)
    return stack(halves[0], hot, negative, "drawing")


FRAMES, FRAME = 3, 160


def film_card(negative: str, film: Film) -> Picture:
    """Two strips of film."""
    halves = []
    for unwanted in (True, False):
        strip = Image.new("RGB", (SIDE * TIMES, SIDE // 2 * TIMES), (16, 16, 24))
        draw, gap = ImageDraw.Draw(strip), (SIDE - FRAMES * FRAME) // (FRAMES + 1)
        for number in range(FRAMES):
            image, canvas = drawn(FRAME, FRAME)
            film(canvas, number / (FRAMES - 1), unwanted)
            left, top = gap + number * (FRAME + gap), 26
            strip.paste(image, (left * TIMES, top * TIMES))
        for left in range(8, SIDE, 28):  # the film's holes
            for y in (9, 26 + FRAME + 8):
                draw.rounded_rectangle([value * TIMES for value in (left, y, left + 14, y + 9)], 3 * TIMES, WHITE)
        halves.append(strip)
    return stack(*halves, negative, "drawing")


def testbed_card(negative: str, pictures: dict[str, list[Picture]]) -> Picture:
    """The testbed's own pictures, two square ones beside each other in each half."""
    halves = []
    for kind in ("without", "with"):
        image = Image.new("RGB", (SIDE, SIDE // 2), WHITE)
        for number, picture in enumerate(pictures[kind]):
            image.paste(picture.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS), (number * SIDE // 2, 0))
        halves.append(image)
    return stack(*halves, negative, "")
