"""How the template cards look: square pictures, without a negative against with VSF, the negative printed below."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

SIDE, BAND = 256, 34
INK, RED, WHITE = (35, 35, 59), (179, 38, 30), (255, 255, 255)
Picture = Image.Image
Draw = ImageDraw.ImageDraw


def band(draw: Draw, left: int, top: int, width: int, text: str, colour: tuple[int, int, int]) -> None:
    """A strip with centred white text."""
    draw.rectangle((left, top, left + width - 1, top + BAND - 1), fill=colour)
    draw.text((left + width / 2, top + BAND / 2), text, WHITE, ImageFont.load_default(20), anchor="mm")


def picture_card(rows: list[tuple[str, dict[str, Picture]]]) -> Picture:
    """For each prompt, without | with and the negative below."""
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), INK)
    draw = ImageDraw.Draw(image)
    height = SIDE - BAND
    for number, (negative, pictures) in enumerate(rows):
        top = number * SIDE
        for place, kind in enumerate(("without", "with")):
            picture = pictures[kind].resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            spare = (SIDE - height) // 2
            image.paste(picture.crop((0, spare, SIDE, spare + height)), (place * SIDE, top))
        draw.line((SIDE, top, SIDE, top + height), WHITE, 3)
        band(draw, 0, top + height, SIDE, "no negative" if number == 0 else "testbed model", INK)
        band(draw, SIDE, top + height, SIDE, f"negative: {negative}", RED)
    return image


Scene = Callable[[Draw, float, bool], None]
"""Draws a frame of 100 x 100 units at a time from 0 to 1, with the unwanted thing or without."""
FRAME, FRAMES = 160, 3


def video_card(negative: str, scene: Scene) -> Picture:
    """Two drawn film strips, without over with. Not a result of any model, which the card says."""
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), (16, 16, 24))
    draw = ImageDraw.Draw(image)
    height, gap = SIDE - BAND, (2 * SIDE - FRAMES * FRAME) // (FRAMES + 1)
    for row, unwanted in enumerate((True, False)):
        top = row * SIDE
        for number in range(FRAMES):
            picture = frame(scene, number / (FRAMES - 1), unwanted)
            image.paste(picture, (gap + number * (FRAME + gap), top + (height - FRAME) // 2))
        for left in range(8, 2 * SIDE, 28):  # the film's holes
            for y in (top + 9, top + height - 21):
                draw.rounded_rectangle((left, y, left + 15, y + 11), 3, WHITE)
    band(draw, 0, height, SIDE, "no negative", INK)
    band(draw, SIDE, height, SIDE, "a drawing, no result", INK)
    band(draw, 0, SIDE + height, 2 * SIDE, f"negative: {negative}", RED)
    return image


def frame(scene: Scene, time: float, unwanted: bool, times: int = 4) -> Picture:
    """A scene's frame, drawn larger and reduced, so that edges are smooth."""
    big = Image.new("RGB", (100 * times, 100 * times))
    scene(Scaled(ImageDraw.Draw(big), times), time, unwanted)
    return big.resize((FRAME, FRAME), Image.Resampling.LANCZOS)


class Scaled:
    """A canvas of 100 x 100 units."""

    def __init__(self, draw: Draw, times: int) -> None:
        self.draw, self.times = draw, times

    def shape(self, kind: str, points: tuple[float, ...], fill: str, **options: float) -> None:
        """`kind` is a method of ImageDraw: polygon, ellipse, rectangle, line."""
        options = {name: round(value * self.times) for name, value in options.items()}
        getattr(self.draw, kind)([value * self.times for value in points], fill=fill, **options)


def train(canvas: Scaled, time: float, smoke: bool) -> None:
    """A steam locomotive in a snowy valley, coming from the left."""
    canvas.shape("rectangle", (0, 0, 100, 100), "#a9d3ee")
    for left, top, right in ((-20, 30, 45), (20, 18, 85), (60, 34, 130)):
        middle = (left + right) / 2
        canvas.shape("polygon", (left, 70, middle, top, right, 70), "#7f93a8")
        canvas.shape("polygon", (middle - 9, top + 11, middle, top, middle + 9, top + 11, middle, top + 7), "#ffffff")
    canvas.shape("rectangle", (0, 66, 100, 100), "#f2f6fa")
    canvas.shape("rectangle", (0, 85, 100, 88), "#5b4a3f")
    x = -6 + 30 * time  # the train's end
    canvas.shape("rectangle", (x - 40, 63, x + 8, 80), "#8e2f2a")
    for window in range(-36, 6, 11):
        canvas.shape("rectangle", (x + window, 66, x + window + 6, 72), "#ffe9a8")
    canvas.shape("rectangle", (x + 12, 56, x + 28, 80), "#2c3140")
    canvas.shape("rectangle", (x + 15, 60, x + 24, 67), "#ffe9a8")
    canvas.shape("rectangle", (x + 28, 65, x + 58, 80), "#3b4254")
    canvas.shape("rectangle", (x + 48, 53, x + 54, 66), "#2c3140")
    canvas.shape("polygon", (x + 58, 80, x + 66, 84, x + 58, 84), "#8e2f2a")
    for wheel in (-32, -8, 16, 31, 44, 54):
        canvas.shape("ellipse", (x + wheel - 5, 76, x + wheel + 5, 86), "#1d2029")
    if smoke:
        for number in range(7):
            radius = 4 + 1.6 * number
            cx, cy = x + 51 - 9 * number, 48 - 5 * number + 1.5 * (number % 2)
            grey = "#e9e9ee" if number % 2 else "#d5d6de"
            canvas.shape("ellipse", (cx - radius, cy - radius, cx + radius, cy + radius), grey)


def storm(canvas: Scaled, time: float, bolts: bool) -> None:
    """Clouds and rain come over a green hill; the first frame is the start picture, without either."""
    sky = [round(a + (b - a) * time) for a, b in zip((110, 170, 240), (62, 70, 98), strict=True)]
    canvas.shape("rectangle", (0, 0, 100, 100), "#{:02x}{:02x}{:02x}".format(*sky))
    canvas.shape("ellipse", (-30, 62, 130, 170), "#6fc04d" if time < 0.3 else "#4b8a44")
    canvas.shape("rectangle", (64, 55, 67, 68), "#6b4a2f")
    canvas.shape("ellipse", (55, 34, 76, 60), "#2f7d3b")
    if time == 0:
        canvas.shape("ellipse", (12, 10, 28, 26), "#ffe066")
        return
    for line in range(round(34 * time)):
        left, top = (line * 37) % 100, 30 + (line * 53) % 62
        canvas.shape("line", (left, top, left - 3, top + 9), "#c3d3ea", width=0.8)
    for left, top, size in ((-8, 4, 30), (12, -4, 36), (38, 2, 34), (62, -6, 40), (84, 4, 30)):
        canvas.shape("ellipse", (left, top, left + size, top + 0.7 * size), "#4a4f63" if time < 0.8 else "#33374a")
    if bolts:
        for x in (26, 84) if time > 0.8 else (40,):
            canvas.shape("polygon", (x, 22, x - 9, 46, x - 2, 46, x - 8, 68, x + 8, 40, x + 1, 40, x + 7, 22), "#fff27a")


DRAWINGS = {  # file without its ending
    "VSF Wan 2.2 T2V Lightning": train,
    "VSF Wan 2.2 I2V Lightning": storm,
}
