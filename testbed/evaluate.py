"""Generates pictures through the real ComfyUI for many prompt pairs and rules, scores them, and writes a table and
picture sheets.

    python testbed/evaluate.py --count 200 --steps 4 8 --scales 1 2 3 4 --biases 0

Rules:
- none                no negative, CFG 1
- CFG c               the part as ordinary negative prompt at CFG c
- VSF context s       VSFPrompt with strength s: the negative in the prompt's context
- VSF a, b            VSFGuidance with scale a and bias b, the negative from VSFTextEncode (no padding)
- padding kept a, b   the same with the negative from an ordinary text-encode node, its padding included
- whole flip a        the negative's embedding times -a appended to the positive's: keys and values are both flipped

Every rule sees the same prompts and the same noise. Pairs of one subject are sampled as one batch: their negative
is the same, and their positives travel as the rows of one conditioning.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pipeline
import scenes
import score
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

HERE = pathlib.Path(__file__).resolve().parent
log = logging.getLogger("testbed")


@dataclasses.dataclass(frozen=True)
class Case:
    """One batch: prompts, and the negative that they share."""

    pipe: pipeline.Pipeline
    prompts: list[str]
    negative: str

    @property
    def positive(self) -> Any:
        return stack(self.pipe, self.prompts)

    @property
    def contexts(self) -> list[str]:
        """Each prompt followed by what must not be there: a negative in the prompt's context."""
        return [f"{prompt}, {self.negative}" if self.negative else prompt for prompt in self.prompts]


@dataclasses.dataclass(frozen=True)
class Rule:
    """`prepare(case)` -> (model, positive, negative or None, cfg) for one batch of one subject; of one picture where the rule
    belongs to a prompt."""

    name: str
    prepare: Callable[[Case], tuple[Any, Any, Any, float]]
    one_by_one: bool = False


def none_rule() -> Rule:
    return Rule("none", lambda case: (case.pipe.model, case.positive, None, 1.0))


def cfg_rule(cfg: float) -> Rule:
    return Rule(f"CFG {cfg:g}", lambda case: (case.pipe.model, case.positive, case.pipe.encode(case.negative), cfg))


def vsf_rule(nodes: dict[str, Any], scale: float, bias: float, padding: bool = False) -> Rule:
    def prepare(case: Case) -> tuple[Any, Any, Any, float]:
        pipe, part = case.pipe, case.negative
        negative = pipe.encode(part) if padding else nodes["VSFTextEncode"].execute(pipe.clip, part).args[0]
        model = nodes["VSFGuidance"].execute(pipe.model, negative, scale, bias, 0.0, 1.0).args[0]
        return model, case.positive, None, 1.0

    return Rule(f"{'padding kept' if padding else 'VSF'} {scale:g}, {bias:g}", prepare)


def prompt_rule(nodes: dict[str, Any], strength: float) -> Rule:
    """VSFPrompt, whose model and positive are made for each other."""

    def prepare(case: Case) -> tuple[Any, Any, Any, float]:
        (prompt,) = case.prompts
        model, positive = nodes["VSFPrompt"].execute(case.pipe.model, case.pipe.clip, prompt, case.negative, strength).args
        return model, positive, None, 1.0

    return Rule(f"VSF context {strength:g}", prepare, one_by_one=True)


def whole_flip_rule(scale: float) -> Rule:
    def prepare(case: Case) -> tuple[Any, Any, Any, float]:
        pipe, part = case.pipe, case.negative
        real = sum(token != 0 for token, _ in pipe.clip.tokenize(part)["t5xxl"][0])
        flipped = -scale * pipe.encode(part)[0][0][:, :real]
        states, extra = case.positive[0]
        return pipe.model, [[torch.cat((states, flipped.expand(len(states), -1, -1)), dim=1), extra]], None, 1.0

    return Rule(f"whole flip {scale:g}", prepare)


def stack(pipe: pipeline.Pipeline, prompts: list[str]) -> Any:
    """One conditioning whose rows are the prompts (all of the padded length)."""
    encoded = [pipe.encode(prompt)[0] for prompt in prompts]
    extra = {**encoded[0][1], "pooled_output": torch.cat([e["pooled_output"] for _, e in encoded])}
    return [[torch.cat([states for states, _ in encoded]), extra]]


def by_subject(pairs: list[scenes.Pair]) -> dict[str, list[int]]:
    """The pairs' places in the list, by subject: those that can be sampled as one batch."""
    groups: dict[str, list[int]] = collections.defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[pair.scene.subject].append(index)
    return groups


def generate(
    pipe: pipeline.Pipeline,
    rule: Rule,
    pairs: list[scenes.Pair],
    steps: int,
    first_seed: int = 0,
    negative: Callable[[scenes.Pair], str] = lambda pair: pair.negative,
) -> np.ndarray:
    """uint8 pictures [n, 128, 128, 3], one a pair; the noise of pair k is that of seed first_seed + k whatever the rule.
    `negative`: what must not be there, the same for all pairs of a subject."""
    pictures = np.empty((len(pairs), scenes.SIZE, scenes.SIZE, 3), np.uint8)
    batches = [[i] for i in range(len(pairs))] if rule.one_by_one else by_subject(pairs).values()
    for members in batches:
        case = Case(pipe, [pairs[i].positive for i in members], negative(pairs[members[0]]))
        model, positive, other, cfg = rule.prepare(case)
        seeds = [first_seed + i for i in members]
        pictures[members] = pipe.decode(pipe.sample(model, positive, seeds, steps, cfg, other))
    return pictures


def before_after(pipe: pipeline.Pipeline, rule: Rule, pairs: list[scenes.Pair], steps: int) -> Any:
    """A picture: without a negative over the same seeds with `rule`, negatives named below; the first pair of each subject,
    whatever became of it."""
    shown = [members[0] for members in by_subject(pairs).values()]
    without, with_rule = (generate(pipe, r, pairs[: max(shown) + 1], steps)[shown] for r in (none_rule(), rule))
    sheet = scenes.contact_sheet([*without, *with_rule], len(shown))
    out = Image.new("RGB", (sheet.width, sheet.height + 18), "white")
    out.paste(sheet)
    pen = ImageDraw.Draw(out)
    for column, index in enumerate(shown):
        middle = column * (sheet.width + 4) // len(shown) + scenes.SIZE // 2
        pen.text((middle, sheet.height + 3), pairs[index].negative, fill="black", anchor="ma")
    return out


def evaluate(
    pipe: pipeline.Pipeline,
    scorer: score.Scorer,
    rules: list[Rule],
    pairs: list[scenes.Pair],
    steps: list[int],
    sheets: pathlib.Path | None = None,
) -> list[dict[str, Any]]:
    """One row a rule and number of steps: shares over all pairs, and the part-absent share of each subject."""
    rows = []
    wanted = [pair.scene for pair in pairs]
    subjects = [scene.subject for scene in wanted]
    for count in steps:
        for rule in tqdm(rules, f"{count} steps"):
            begin = time.monotonic()
            pictures = generate(pipe, rule, pairs, count)
            result = score.score(scorer, pictures, wanted)
            absent = {s: float(result.part_absent[[x == s for x in subjects]].mean()) for s in sorted(set(subjects))}
            rows.append(
                {
                    "steps": count,
                    "rule": rule.name,
                    "images": len(pairs),
                    "part_absent": float(result.part_absent.mean()),
                    "subject_kept": float(result.subject_kept.mean()),
                    "both": float((result.part_absent & result.subject_kept).mean()),
                    "colour_kept": float(result.colour_kept.mean()),
                    "quality": float(result.quality.mean()),
                    "part_absent_by_subject": absent,
                    "seconds": time.monotonic() - begin,
                }
            )
            log.info("%s", markdown(rows[-1:]).splitlines()[-1])
            if sheets is not None:
                name = rule.name.replace(" ", "_").replace(",", "")
                scenes.contact_sheet(list(pictures[:32]), 8).save(sheets / f"{count}_{name}.png")
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| steps | rule | part absent | subject kept | both | colour kept | quality |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = [row[k] for k in ("part_absent", "subject_kept", "both", "colour_kept", "quality")]
        lines.append(f"| {row['steps']} | {row['rule']} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=pathlib.Path, default=pipeline.WEIGHTS)
    parser.add_argument("--architecture", choices=pipeline.SCALES, default="sd3")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / ".cache" / "testbed" / "evaluation")
    parser.add_argument("--count", type=int, default=200, help="prompt pairs")
    parser.add_argument("--seed", type=int, default=0, help="of the prompt pairs")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--scales", type=float, nargs="*", default=[1, 2, 3, 4, 6])
    parser.add_argument("--biases", type=float, nargs="*", default=[0])
    parser.add_argument(
        "--padding-scales", type=float, nargs="*", default=[1, 2, 4], help="scales for the padding-kept rule (bias 0)"
    )
    parser.add_argument("--flip-scales", type=float, nargs="*", default=[1, 2, 4])
    parser.add_argument("--picture", type=pathlib.Path, help="write a before/after picture of the first strength or scale here")
    parser.add_argument("--cfg", type=float, nargs="*", default=[2, 4])
    parser.add_argument("--strengths", type=float, nargs="*", default=[], help="for the context rule")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    rules = [none_rule(), *map(cfg_rule, options.cfg)]
    if options.scales or options.padding_scales or options.strengths:
        nodes = pipeline.pack_nodes()
        rules += [prompt_rule(nodes, strength) for strength in options.strengths]
        rules += [vsf_rule(nodes, scale, bias) for bias in options.biases for scale in options.scales]
        rules += [vsf_rule(nodes, scale, 0.0, padding=True) for scale in options.padding_scales]
    rules += map(whole_flip_rule, options.flip_scales)
    options.out.mkdir(parents=True, exist_ok=True)
    pipe = pipeline.Pipeline(options.weights, options.architecture)
    scorer = score.load(options.weights / "vsf_testbed_scorer.safetensors")
    if options.picture:
        one = options.strengths
        rule = prompt_rule(nodes, one[0]) if one else vsf_rule(nodes, options.scales[0], options.biases[0])
        picture = before_after(pipe, rule, scenes.prompt_pairs(options.count, options.seed), options.steps[0])
        picture.save(options.picture, quality=92)
        return
    rows = evaluate(pipe, scorer, rules, scenes.prompt_pairs(options.count, options.seed), options.steps, options.out)
    (options.out / "results.json").write_text(json.dumps(rows, indent=1))
    table = markdown(rows)
    (options.out / "results.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
