"""Make the pictures of the nodes' help pages, web/docs/*.jpg: the testbed's, in the real ComfyUI.

    python dev.py help-pictures

Each row is one prompt and seed: without a negative, at the starting value, and at a value that is too high; for the heat map
with the negative, the heat over that picture, and the heat alone. Others show what a template does: a mask, the same subject as
prompt and negative, frames of a video whose parts have their own negatives. No words in them: every language's page shows the
same.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import testbed_workflows
from build_workflows import WITH, WITHOUT
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer
from PIL import Image
from recipes import AGAINST_ITSELF, ALONG, PLACE, SEE

FOLDER = ROOT / "web" / "docs"
SIDE, GAP = 192, 4
Picture = Image.Image


class Row(NamedTuple):
    """One prompt with its negative and seed."""

    pair: tuple[str, str]
    seed: int


class Page(NamedTuple):
    """A node's picture: the setting, its two values, and the rows."""

    setting: str
    values: tuple[float, float]
    rows: tuple[Row, ...]


FACE, TREE = testbed_workflows.PAIRS[2], testbed_workflows.PAIRS[3]
CAR, HOUSE, CLOCK = testbed_workflows.PAIRS[0], testbed_workflows.PAIRS[1], ("a red clock in the center, day", "hands")
SAME = (1.0, 1.5, 2.0)  # VSF Guidance's scale for them
PAGES = {  # the page says what they show
    "VSFPrompt": Page("strength", (1.0, 3.0), (Row(CAR, 7), Row(CLOCK, 7))),
    "VSFGuidance": Page("scale", (testbed_workflows.SCALE, 4.0), (Row(CAR, 8), Row(HOUSE, 8))),
}


def pictures(server: ComfyServer, info: dict, node: str, page: Page, row: Row) -> list[Picture]:
    """Without, and at each value."""
    prompt = testbed_workflows.to_api(testbed_workflows.demo(*row), info)
    if node == "VSFGuidance":
        prompt = testbed_workflows.paper_form(prompt)
    found = []
    for value in page.values:
        changed = copy.deepcopy(prompt)
        for entry in changed.values():
            if entry["class_type"] == node:
                entry["inputs"][page.setting] = value
        files = {changed[number]["_meta"]["title"]: saved[0] for number, saved in server.run(changed).items()}
        wanted = [WITHOUT, WITH] if not found else [WITH]
        found += [Image.open(io.BytesIO(files[title])).convert("RGB") for title in wanted]
    return found


def heat(server: ComfyServer, info: dict, row: Row) -> list[Picture]:
    """With the negative, the heat over it, and the heat alone."""
    prompt = testbed_workflows.to_api(testbed_workflows.demo(*row, recipe=SEE), info)
    found = {prompt[number]["class_type"]: saved[0] for number, saved in server.run(prompt).items()}
    return [Image.open(io.BytesIO(found[kind])).convert("RGB") for kind in ("SaveImage", "VSFHeatMap", "PreviewImage")]


def by_title(server: ComfyServer, info: dict, twin: dict) -> dict[str, Picture]:
    """Run a twin; the picture that each node shows, by its title."""
    prompt = testbed_workflows.to_api(twin, info)
    files = {prompt[number]["_meta"]["title"]: saved[0] for number, saved in server.run(prompt).items()}
    return {title: Image.open(io.BytesIO(file)).convert("RGB") for title, file in files.items()}


def masked(server: ComfyServer, info: dict, row: Row) -> list[Picture]:
    """Without, with, the mask, and with it."""
    everywhere = dataclasses.replace(PLACE, box=None)
    whole, place = (by_title(server, info, testbed_workflows.demo(*row, recipe=one)) for one in (everywhere, PLACE))
    return [whole[WITHOUT], whole[WITH], place["MaskPreview"], place[WITH]]


def same_subject(server: ComfyServer, info: dict, row: Row) -> list[Picture]:
    """The subject as a negative too: not at all, and more and more."""
    twins = [testbed_workflows.demo(*row, recipe=AGAINST_ITSELF, scale=scale) for scale in (0.0, *SAME)]
    return [by_title(server, info, twin)[WITH] for twin in twins]


def along(server: ComfyServer, info: dict) -> list[list[Picture]]:
    """Frames of a video, without a negative and with one in its first part."""
    import av  # ComfyUI brings it

    prompt = testbed_workflows.to_api(testbed_workflows.demo(recipe=ALONG, shots=(CAR, (CAR[0], ""))), info)
    files = {prompt[number]["_meta"]["title"]: saved[0] for number, saved in server.run(prompt).items()}
    return [[frame.to_image() for frame in av.open(io.BytesIO(files[title])).decode(video=0)] for title in (WITHOUT, WITH)]


def sheet(rows: list[list[Picture]]) -> Picture:
    """All of a page's pictures; frames of a video are smaller."""
    side = SIDE if len(rows[0]) <= 4 else 2 * SIDE // 3
    pitch = side + GAP
    image = Image.new("RGB", (len(rows[0]) * pitch - GAP, len(rows) * pitch - GAP), "white")
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            image.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (across * pitch, down * pitch))
    return image


def main() -> int:
    """Run them and write the files."""
    temporary = tempfile.TemporaryDirectory(prefix="vsf-help-", ignore_cleanup_errors=True)
    with temporary as folder, ComfyServer(Path(folder), {PACK: PACK_SOURCE}) as server:
        info = server.get_json("/object_info")
        sheets = {node: [pictures(server, info, node, page, row) for row in page.rows] for node, page in PAGES.items()}
        sheets["VSFPrompt-mask"] = [masked(server, info, row) for row in (Row(CAR, 7), Row(TREE, 7))]
        subjects = (Row((CAR[0], "car"), 7), Row((FACE[0], "face"), 7))
        sheets["VSFGuidance-same"] = [same_subject(server, info, row) for row in subjects]
        sheets["VSFConditioning"] = along(server, info)
        sheets["VSFHeatMap"] = [heat(server, info, row) for row in (Row(CAR, 7), Row(HOUSE, 8))]
        for node, rows in sheets.items():
            path = FOLDER / f"{node}.jpg"
            sheet(rows).save(path, quality=85, optimize=True)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
