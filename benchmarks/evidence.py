"""Does VSF work better? Every method's strength swept over the testbed, with the same number of settings for each.

    python dev.py evidence                 every method, setting and architecture; takes up where it stopped
    python dev.py evidence --count 200     more prompt pairs: narrower intervals, hours
    python dev.py evidence --quick         a few pictures, to try the command

Every picture is sampled by ComfyUI from the same prompts and the same noise, and counted by testbed/score.py: the part is
absent (what the negative is for), the subject is kept, the quality, and how far the picture changed away from the subject.
Writes results.json, table.md and the figures into --out; counts-*.json there keep what was seen in each picture.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import figures
import numpy as np
import torch
from methods import ABLATIONS, ABLATIONS_OF, METHODS, Method, in_attention

# isort: split
import evaluate
import mass
import pipeline
import scenes
import score
from tqdm import tqdm

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Counts:
    """What was seen in each picture: booleans for absent and kept, else numbers in 0..1."""
    absent: list[bool]
    kept: list[bool]
    quality: list[float]
    collateral: list[float]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % of a mean: Wilson's for shares, normal for numbers."""
    n, mean = len(values), sum(values) / len(values)
    if all(v in (0, 1) for v in values):
        z = 1.96
        middle, half = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def away_from_subject(pair: scenes.Pair) -> np.ndarray:
    """Where a scene's subject is not, [128, 128]: the background, whose change no negative asks for."""
    subject = scenes.render(pair.scene).astype(int)
    empty = scenes.render(dataclasses.replace(pair.scene, body=False, part=False, subject=None)).astype(int)
    rows, columns = np.nonzero(np.abs(subject - empty).max(-1) > 24)
    mask = np.ones(subject.shape[:2], bool)
    margin = 10
    mask[max(rows.min() - margin, 0):rows.max() + margin, max(columns.min() - margin, 0):columns.max() + margin] = False
    return mask


class Bench:
    """Pictures and counts of one architecture, kept on disk."""

    def __init__(self, architecture: str, pairs: list[scenes.Pair], out: pathlib.Path) -> None:
        self.architecture, self.pairs, self.out = architecture, pairs, out
        self.pipe, self.scorer = pipeline.Pipeline(architecture=architecture), score.load()
        self.plain: dict[int, np.ndarray] = {}
        self.away = [away_from_subject(pair) for pair in pairs]
        self.file = out / f"counts-{architecture}.json"
        self.counts: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def sheet(self, name: str, setting: str, steps: int) -> pathlib.Path:
        """Where the first pictures are: rows of eight, one of each subject."""
        return self.out / f"{self.architecture} {name} {setting} {steps}.png"

    def without(self, steps: int) -> np.ndarray:
        """The pictures without a negative."""
        if steps not in self.plain:
            self.plain[steps] = evaluate.generate(self.pipe, evaluate.none_rule(), self.pairs, steps)
        return self.plain[steps]

    def count(self, name: str, rule: evaluate.Rule, steps: int) -> Counts:
        """From disk, or by sampling."""
        key = f"{steps} steps, {len(self.pairs)} pairs: {name}, {rule.name}"
        if key not in self.counts:
            plain = self.without(steps)
            pictures = plain if name == "none" else evaluate.generate(self.pipe, rule, self.pairs, steps)
            seen = score.score(self.scorer, pictures, [pair.scene for pair in self.pairs])
            changed = np.abs(pictures.astype(float) - plain.astype(float)).mean(-1) / 255
            found = Counts(seen.part_absent.tolist(), seen.subject_kept.tolist(), [float(q) for q in seen.quality],
                           [float(c[mask].mean()) for c, mask in zip(changed, self.away, strict=True)])
            scenes.contact_sheet(list(pictures[:24]), 8).save(self.sheet(name, rule.name, steps))
            self.counts[key] = dataclasses.asdict(found)
            self.file.write_text(json.dumps(self.counts))
        return Counts(**self.counts[key])


def row(architecture: str, steps: int, method: str, setting: Any, rule: str, counts: Counts) -> dict[str, Any]:
    """Means and intervals of one method's setting."""
    means = {name: float(np.mean(values)) for name, values in dataclasses.asdict(counts).items()}
    spans = {f"{name}_95": interval(values) for name, values in dataclasses.asdict(counts).items()}
    both = [a and k for a, k in zip(counts.absent, counts.kept, strict=True)]
    return {"architecture": architecture, "steps": steps, "method": method, "setting": setting, "rule": rule, **means, **spans,
            "both": float(np.mean(both)), "both_95": interval(both)}


def run(bench: Bench, steps: list[int], methods: dict[str, Method], position: int = 0) -> dict[str, list[dict[str, Any]]]:
    """All rows of one architecture. position: the progress bar's line."""
    results: dict[str, list[dict[str, Any]]] = {"sweep": [], "ablations": []}
    scale, ablations = pipeline.SCALES[bench.architecture], ABLATIONS | ABLATIONS_OF.get(bench.architecture, {})
    total = len(steps) * (1 + sum(len(m.settings) for m in methods.values()) + len(ablations))
    with tqdm(total=total, desc=bench.architecture, mininterval=2, position=position) as bar:
        for count in steps:
            def add(part: str, name: str, setting: Any, rule: evaluate.Rule, count: int = count) -> None:
                results[part].append(row(bench.architecture, count, name, setting, rule.name, bench.count(name, rule, count)))
                bar.update()
            add("sweep", "none", "", evaluate.none_rule())
            for name, method in methods.items():
                for setting in method.settings:
                    add("sweep", name, setting, method.rule(setting))
            for name, rule in ablations.items():
                add("ablations", name, scale, rule(scale))
    return results


def masses(pipe: pipeline.Pipeline, pairs: list[scenes.Pair], scale: float, steps: int) -> np.ndarray:
    """1 - W of VSF at this scale: [pairs, steps, layers, 8, 8]."""
    seen: list[np.ndarray] = [np.empty(0)] * len(pairs)
    for subject, members in evaluate.by_subject(pairs).items():
        recorder = mass.MassSeen()
        rule = in_attention(lambda _, recorder=recorder: recorder, lambda s: s)(scale)
        positive = evaluate.stack(pipe, [pairs[i].positive for i in members])
        model, positive, negative, cfg = rule.prepare(pipe, scenes.PARTS[subject], positive)
        pipe.sample(model, positive, members, steps, cfg, negative)
        found = torch.stack([torch.stack(layers) for layers in recorder.forwards])  # [steps, layers, members, tokens]
        maps = found.permute(2, 0, 1, 3).unflatten(-1, (mass.TOKENS, mass.TOKENS))
        for i, one in zip(members, maps.numpy(), strict=True):
            seen[i] = one
    return np.stack(seen)


def attention(bench: Bench, steps: int) -> dict[str, Any]:
    """Where the negative's mass lies, in figures and as a figure."""
    pairs = bench.pairs[:64]
    scale = pipeline.SCALES[bench.architecture]
    seen = masses(bench.pipe, pairs, scale, steps)
    after = evaluate.generate(bench.pipe, METHODS["VSF"].rule(scale), pairs[:8], steps)
    figures.mass_maps(seen, bench.without(steps)[:8], after, bench.out / f"mass-{bench.architecture}.png")
    return {"architecture": bench.architecture, "steps": steps, **mass.summary(seen, pairs)}


def sample_apart(architectures: list[str]) -> None:
    """All sampling, one process an architecture, as many at once as there are cores. Raises CalledProcessError."""
    threads = max((os.cpu_count() or 1) // len(architectures), 1)

    def child(position: int) -> None:
        command = [sys.executable, *sys.argv, "--architectures", architectures[position], "--child", str(position)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(child, range(len(architectures))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="prompt pairs")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--architectures", nargs="+", choices=pipeline.SCALES, default=list(pipeline.SCALES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="a few pictures in one step: tries the command, shows nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".cache" / "evidence")
    parser.add_argument("--child", type=int, default=None, help=argparse.SUPPRESS)  # sample only; the progress bar's line
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = scenes.prompt_pairs(2 if options.quick else options.count)
    steps = [1] if options.quick else options.steps
    methods = {name: METHODS[name] for name in options.methods}
    if options.child is not None:
        run(Bench(options.architectures[0], pairs, options.out), steps, methods, options.child)
        return
    if len(options.architectures) > 1:
        sample_apart(options.architectures)
    results: dict[str, list[dict[str, Any]]] = {"sweep": [], "ablations": [], "mass": []}
    for architecture in options.architectures:
        bench = Bench(architecture, pairs, options.out)
        for part, rows in run(bench, steps, methods).items():
            results[part] += rows
        results["mass"].append(attention(bench, max(steps)))
        figures.grid(bench.sheet, results["sweep"], architecture, max(steps), options.out / f"grid-{architecture}.png")
    text = figures.tables(results)
    print(text)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "table.md").write_text(text)
    figures.curves(results, options.out / "curves.png")
    figures.bars(results, options.out / "ablations.png")


if __name__ == "__main__":
    main()
