"""Make the template cards' pictures: workflows/*.jpg and the demo's.

    python dev.py thumbnails                    all of them
    python dev.py thumbnails Krea "Flux.2"      those whose names begin so

A card of pictures shows two prompts, left without a negative and right with VSF on the same seed, the negative printed below.
They are the testbed's pictures, made by the workflow's twin in the real ComfyUI, and say so: no picture of a big model can be
made where this runs. The cards of the videos are drawings, and say so: the testbed makes no videos.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import build_workflows
import testbed_workflows
from cards import DRAWINGS, Picture, picture_card, video_card
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer
from demo import without_and_with
from recipes import RECIPES
from testbed_lora import write_lora

CARDS = {  # file without its ending: two prompts with their negatives and seeds
    "VSF SD3.5 Large Turbo": (
        ("a red car in the center, day", "wheels", 7),
        ("a blue house in the center, night", "roof", 7),
    ),
    "VSF Flux.1 schnell": (
        ("a green car in the center, night", "wheels", 7),
        ("a purple airplane in the center, day", "wings", 7),
    ),
    "VSF Flux.1 dev": (
        ("a purple sailboat in the center, day", "sails", 7),
        ("a red airplane in the center, day", "wings", 7),
    ),
    "VSF Flux.2 Klein 4B": (
        ("a yellow car in the center, day", "wheels", 7),
        ("a green tree in the center, day", "apples", 7),
    ),
    "VSF Z-Image-Turbo": (
        ("a red airplane in the center, night", "wings", 7),
        ("a purple sailboat in the center, night", "sails", 7),
    ),
    "VSF Krea 2 Turbo": (
        ("a blue car in the center, day", "wheels", 7),
        ("a green face in the center, day", "eyes", 7),
    ),
    "VSF Qwen-Image Lightning": (
        ("a yellow airplane in the center, night", "wings", 7),
        ("a green tree in the center, night", "apples", 7),
    ),
    "VSF SDXL Lightning": (
        ("a purple car in the center, night", "wheels", 7),
        ("a red airplane in the center, day", "wings", 7),
    ),
    testbed_workflows.DEMO.stem: (
        ("a blue cup in the center, day", "handle", 7),
        ("a red car in the center, night", "wheels", 8),
    ),
}
RECIPE_OF = {recipe.title: recipe for recipe in RECIPES} | {testbed_workflows.DEMO.stem: RECIPES[0]}


def target(name: str) -> Path:
    """The card's file."""
    folder = testbed_workflows.DEMO.parent if name == testbed_workflows.DEMO.stem else build_workflows.WORKFLOWS
    return folder / f"{name}.jpg"


def save(name: str, picture: Picture) -> None:
    """Write a card and say so."""
    picture.save(target(name), quality=90)
    print(target(name).relative_to(ROOT), flush=True)


def main(beginnings: list[str]) -> int:
    """Run every prompt that is wanted and write the cards."""
    wanted = [name for name in (*CARDS, *DRAWINGS) if not beginnings or name.startswith(tuple(beginnings))]
    if unused := [word for word in beginnings if not any(name.startswith(word) for name in wanted)]:
        print(f"no card's name begins with {', '.join(unused)}. There are:", *CARDS, *DRAWINGS, sep="\n    ", file=sys.stderr)
        return 2
    for name in wanted:
        if name in DRAWINGS:
            save(name, video_card(RECIPE_OF[name].negative, DRAWINGS[name]))
    if not (wanted := [name for name in wanted if name in CARDS]):
        return 0
    with tempfile.TemporaryDirectory(prefix="vsf-cards-", ignore_cleanup_errors=True) as folder:
        write_lora(Path(folder) / "models")
        with ComfyServer(Path(folder), {PACK: PACK_SOURCE}) as server:
            info = server.get_json("/object_info")
            for name in wanted:
                rows = []
                for positive, negative, seed in CARDS[name]:
                    pictures = without_and_with(server, info, (positive, negative), seed, RECIPE_OF[name])
                    rows.append((negative, pictures))
                save(name, picture_card(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
