"""Several negatives: as lines of one box, as one long negative, and as chained nodes.

    python dev.py several                       104 pictures a model, 4 steps
    python dev.py several --count 16 --architectures flux

Each picture has one subject, and four negatives: its own part, and the parts of the three subjects that come next in the
testbed's list. Same prompts and same noise in each row of a model:

    alone           its own part, and nothing else
    lines           VSF Prompt, a negative a line
    one text        VSF Prompt, the same words as one negative, joined by commas
    chained         a VSF Contrast node a negative, one behind the other

Success: the part is not there, and the subject is; its 95 % interval.
"""
from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "benchmarks")]

import comfy_env  # noqa: E402, F401  (before comfy)
import evaluate  # noqa: E402
import intervals  # noqa: E402
import pipeline  # noqa: E402
import scenes  # noqa: E402
import score  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)
SEED = 105  # no setting was chosen on it
TOGETHER = 4  # negatives
PARTS = [scenes.PARTS[subject] for subject in scenes.SUBJECTS]


def together(pair: scenes.Pair) -> list[str]:
    """Its part, and those that come next."""
    first = PARTS.index(pair.negative)
    return [PARTS[(first + i) % len(PARTS)] for i in range(TOGETHER)]


def one_a_line(pair: scenes.Pair) -> str:
    return "\n".join(together(pair))


def chained(case: evaluate.Case) -> tuple[Any, Any, Any, float]:
    model = case.pipe.model
    for part in case.negative.splitlines():
        model, = NODES["VSFContrast"].execute(model, case.pipe.encode(f"{case.prompts[0]}, {part}"), 1.0, 0.0, 1.0).args
    return model, case.positive, None, 1.0


ONE_NODE = evaluate.prompt_rule(NODES, 1.0)
ROWS: dict[str, tuple[evaluate.Rule, Callable[[scenes.Pair], str]]] = {
    "alone": (ONE_NODE, lambda pair: pair.negative),
    "lines": (ONE_NODE, one_a_line),
    "one text": (ONE_NODE, lambda pair: ", ".join(together(pair))),
    "chained": (evaluate.Rule("chained", chained, one_by_one=True), one_a_line),
}


def row(found: score.Score) -> list[str]:
    """A row of the table."""
    success = found.part_absent & found.subject_kept
    low, high = intervals.interval(success.tolist())
    return [f"{success.mean():.2f} ({low:.2f} to {high:.2f})",
            *(f"{share.mean():.2f}" for share in (found.part_absent, found.subject_kept, found.quality))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=104, help="pictures")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--architectures", nargs="+", choices=pipeline.SCALES, default=["sd3", "flux", "wan"])
    options = parser.parse_args()
    pairs, scorer = scenes.prompt_pairs(options.count, SEED), score.load()
    print("| model | negatives | success | part absent | subject kept | quality |", "|---|---|---|---|---|---|", sep="\n")
    for architecture in options.architectures:
        pipe = pipeline.Pipeline(architecture=architecture)
        for name, (rule, negative) in ROWS.items():
            pictures = evaluate.generate(pipe, rule, pairs, options.steps, SEED * 1_000_000, negative)
            found = score.score(scorer, pictures, [pair.scene for pair in pairs])
            print("|", " | ".join([architecture, name, *row(found)]), "|", flush=True)


if __name__ == "__main__":
    main()
