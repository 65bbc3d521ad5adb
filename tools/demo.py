"""`python dev.py demo`: the demo workflow in the real ComfyUI, without a negative and with VSF Prompt on the same seeds.

Writes every picture and a labelled sheet of them into demo/ and prints the paths. The server's log stays in demo/server.log.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

import testbed_workflows
from build_workflows import WITH, WITHOUT
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer, ServerError
from PIL import Image, ImageDraw, ImageFont
from recipes import Recipe

OUT = ROOT / "demo"
INK, PAPER, RED = "#23233b", "#ffffff", "#b3261e"
Picture = Image.Image


def without_and_with(
    server: ComfyServer, info: dict, pair: tuple[str, str], seed: int, recipe: Recipe = testbed_workflows.BASE
) -> dict[str, Picture]:
    """Run the demo workflow, or another recipe's twin, once; its two pictures as ComfyUI saved them, workflow inside."""
    prompt = testbed_workflows.to_api(testbed_workflows.demo(pair, seed, recipe), info)
    found = {prompt[node]["_meta"]["title"]: io.BytesIO(files[0]) for node, files in server.run(prompt).items()}
    return {"without": Image.open(found[WITHOUT]), "with": Image.open(found[WITH])}


def sheet(rows: list[tuple[tuple[str, str], list[dict[str, Picture]]]], zoom: int = 2) -> Picture:
    """All pictures side by side: a row for each prompt, and for each seed a pair of without | with."""
    small, large = ImageFont.load_default(15), ImageFont.load_default(17)
    width, height = (zoom * side for side in rows[0][1][0]["without"].size)
    gap, label, head = 8, 46, 34
    pairs = len(rows[0][1])
    across = pairs * (2 * width + gap) + (pairs - 1) * 3 * gap
    image = Image.new("RGB", (across + 2 * gap, head + len(rows) * (height + label + gap)), PAPER)
    draw = ImageDraw.Draw(image)
    lefts = [gap + number * (2 * width + 4 * gap) for number in range(pairs)]
    for left in lefts:
        draw.text((left, 8), "without a negative", INK, large)
        draw.text((left + width + gap, 8), "VSF Prompt, same seed", INK, large)
    for number, ((positive, negative), found) in enumerate(rows):
        top = head + number * (height + label + gap)
        draw.text((gap, top + 2), f"prompt: {positive}", INK, small)
        draw.text((gap, top + 22), f"negative: {negative}", RED, small)
        for left, pictures in zip(lefts, found, strict=True):
            for place, kind in enumerate(("without", "with")):
                picture = pictures[kind].resize((width, height), Image.Resampling.LANCZOS)
                image.paste(picture, (left + place * (width + gap), top + label))
    return image


def run(base: Path) -> None:
    """Start the server, queue every prompt and seed, write the files."""
    begin = time.monotonic()
    print("[demo] starting the real ComfyUI ...", flush=True)
    rows = []
    with ComfyServer(base, {PACK: PACK_SOURCE}) as server:
        try:
            print(f"[demo] ComfyUI answers at {server.address} ({time.monotonic() - begin:.0f} s)", flush=True)
            info = server.get_json("/object_info")
            for pair in testbed_workflows.PAIRS:
                found = []
                for seed in testbed_workflows.SEEDS:
                    then = time.monotonic()
                    pictures = without_and_with(server, info, pair, seed)
                    for kind, picture in pictures.items():
                        words = f"{pair[0]} - seed {seed} - {'no negative' if kind == 'without' else 'without ' + pair[1]}"
                        (OUT / f"{words.replace(', ', ' - ')}.png").write_bytes(picture.fp.getvalue())
                    found.append(pictures)
                    print(
                        f"[demo] {pair[0]}  |  negative: {pair[1]}  |  seed {seed}: {time.monotonic() - then:.1f} s",
                        flush=True,
                    )
                rows.append((pair, found))
        finally:
            shutil.copyfile(server.log_file, OUT / "server.log")
    sheet(rows).save(OUT / "sheet.png")
    print(f"[demo] {2 * sum(len(found) for _, found in rows)} pictures in {OUT}")
    print(f"[demo] side by side: {OUT / 'sheet.png'}")


def main() -> int:
    """Start afresh; on failure say what failed and end with 1."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    with tempfile.TemporaryDirectory(prefix="vsf-demo-", ignore_cleanup_errors=True) as folder:
        try:
            run(Path(folder))
        except ServerError as error:
            kept = OUT / "server.log"
            if not kept.is_file() and Path(folder, "server.log").is_file():
                shutil.copyfile(Path(folder, "server.log"), kept)
            print(f"[demo] FAILED: {error}", file=sys.stderr)
            if kept.is_file():
                tail = kept.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
                print("\n".join([*tail, f"[demo] the server's log: {kept}"]), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
