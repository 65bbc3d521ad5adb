"""Make the template cards' pictures: workflows/*.jpg and the demo's.

    python dev.py thumbnails                    all of them
    python dev.py thumbnails "VSF 02" "VSF demo"    those whose names begin so

Each shows its workflow's own subject, above without the negative and below with it. No picture of a big model can be made where
this runs: its card is a drawing (drawings.py), and says so. The testbed's demo has pictures that the real ComfyUI made.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import build_workflows
import testbed_workflows
from cards import Picture, film_card, heat_card, picture_card, testbed_card
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer
from demo import without_and_with
from drawings import FILMS, PICTURES
from recipes import TEMPLATES, Recipe

DEMO = testbed_workflows.DEMO.stem
DEMO_PROMPTS, DEMO_NEGATIVE, DEMO_SEED = ("a red car in the center, day", "a blue car in the center, night"), "wheels", 7


def drawing(recipe: Recipe) -> Picture:
    """A recipe's card."""
    if recipe.sees:
        return heat_card(recipe.unwanted, PICTURES[recipe.card])
    if recipe.video:
        return film_card(recipe.unwanted, FILMS[recipe.card])
    return picture_card(recipe.unwanted, PICTURES[recipe.card])


def demo_card() -> Picture:
    """The demo workflow's own pictures, run for this."""
    temporary = tempfile.TemporaryDirectory(prefix="vsf-cards-", ignore_cleanup_errors=True)
    with temporary as folder, ComfyServer(Path(folder), {PACK: PACK_SOURCE}) as server:
        info = server.get_json("/object_info")
        made = [without_and_with(server, info, (prompt, DEMO_NEGATIVE), DEMO_SEED) for prompt in DEMO_PROMPTS]
    return testbed_card(DEMO_NEGATIVE, {kind: [pair[kind] for pair in made] for kind in ("without", "with")})


def save(path: Path, picture: Picture) -> None:
    """Write a card and say so."""
    picture.save(path, quality=88, optimize=True)
    print(path.relative_to(ROOT), flush=True)


def main(beginnings: list[str]) -> int:
    """Make every card that is wanted."""
    names = [*(recipe.title for recipe in TEMPLATES), DEMO]
    if unused := [word for word in beginnings if not any(name.startswith(word) for name in names)]:
        print(f"no card's name begins with {', '.join(unused)}. There are:", *names, sep="\n    ", file=sys.stderr)
        return 2
    wanted = {name for name in names if not beginnings or name.startswith(tuple(beginnings))}
    for recipe in TEMPLATES:
        if recipe.title in wanted:
            save(build_workflows.WORKFLOWS / f"{recipe.title}.jpg", drawing(recipe))
    if DEMO in wanted:
        save(testbed_workflows.DEMO.with_suffix(".jpg"), demo_card())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
