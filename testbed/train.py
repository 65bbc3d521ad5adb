"""Trains the whole testbed: `python testbed/train.py` (COMFYUI_PATH names a ComfyUI; `python dev.py` sets it).

Stages, in order: ae, latents, flow, reflow, settle, scorer, export. Each writes checkpoints into --work and takes up where it
stopped. The last one writes testbed/weights/*.safetensors. --stage runs some of them; --stage students, after them, teaches the
models of the other architectures (student.py). --quick runs for a few iterations into --work without touching testbed/weights.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import pathlib
import time

from training.workspace import Workspace, log

STAGES = ("ae", "latents", "flow", "reflow", "settle", "scorer", "export")
AFTERWARDS = ("students",)
HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=pathlib.Path, default=HERE.parent / ".cache" / "testbed", help="folder for checkpoints"
    )
    parser.add_argument("--stage", nargs="+", default=STAGES, choices=(*STAGES, *AFTERWARDS), help="run these stages only")
    parser.add_argument("--quick", action="store_true", help="a few iterations of every stage (smoke test)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--students", nargs="+", default=(), help="which ones --stage students teaches (default: all)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end a student's run then, on the same schedule")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    work = Workspace(options.work, options.seed, options.quick, students=tuple(options.students), minutes=options.minutes)
    if options.quick:
        work.weights = options.work / "weights"
    for stage in options.stage:
        begin = time.monotonic()
        importlib.import_module(f"training.stage_{stage}").run(work)
        log.info("stage %s: %.0f s", stage, time.monotonic() - begin)


if __name__ == "__main__":
    main()
