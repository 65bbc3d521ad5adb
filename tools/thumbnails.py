"""Make the template cards' pictures: workflows/*.jpg and the demo's, with the testbed in the real ComfyUI.

    python dev.py thumbnails

Each shows two prompts, left without a negative and right with VSF on the same seed, the negative printed below. They are the
testbed's pictures, and say so: no picture of a big model can be made where this runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import build_workflows
import testbed_workflows
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer
from demo import Picture, without_and_with
from PIL import Image, ImageDraw, ImageFont

CARDS = {  # file without its ending: two prompts with their negatives and seeds
    build_workflows.WORKFLOWS / build_workflows.RECIPES[0].title: (
        ("a red car in the center, day", "wheels", 7),
        ("a blue house in the center, night", "roof", 7),
    ),
    build_workflows.WORKFLOWS / build_workflows.RECIPES[1].title: (
        ("a yellow face in the center, day", "eyes", 7),
        ("a green tree in the center, day", "apples", 7),
    ),
    build_workflows.WORKFLOWS / build_workflows.RECIPES[2].title: (
        ("a purple sailboat in the center, day", "sails", 7),
        ("a red airplane in the center, day", "wings", 7),
    ),
    testbed_workflows.DEMO.with_suffix(""): (
        ("a blue cup in the center, day", "handle", 7),
        ("a yellow clock in the center, night", "hands", 7),
    ),
}
SIDE, BAND = 256, 34
INK, RED, WHITE = (35, 35, 59), (179, 38, 30), (255, 255, 255)


def band(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, text: str, colour: tuple[int, int, int]) -> None:
    """A strip with centred white text."""
    draw.rectangle((left, top, left + width - 1, top + BAND - 1), fill=colour)
    draw.text((left + width / 2, top + BAND / 2), text, WHITE, ImageFont.load_default(20), anchor="mm")


def card(rows: list[tuple[str, dict[str, Picture]]]) -> Picture:
    """The square picture: for each prompt, without | with and the negative below."""
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


def main() -> int:
    """Run every prompt and write the cards."""
    with (
        tempfile.TemporaryDirectory(prefix="vsf-cards-", ignore_cleanup_errors=True) as folder,
        ComfyServer(Path(folder), {PACK: PACK_SOURCE}) as server,
    ):
        info = server.get_json("/object_info")
        for path, prompts in CARDS.items():
            rows = []
            for positive, negative, seed in prompts:
                rows.append((negative, without_and_with(server, info, (positive, negative), seed)))
            target = path.parent / f"{path.name}.jpg"
            card(rows).save(target, quality=90)
            print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
