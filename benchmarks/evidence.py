"""Does VSF work better? Every method's strength swept over the testbed, with the same number of settings for each.

    python dev.py evidence                 every method, setting and architecture; takes up where it stopped
    python dev.py evidence --count 32      fewer prompt pairs
    python dev.py evidence --quick         a few pictures, to try the command

Every picture is sampled by ComfyUI from the same prompts and the same noise, and counted by testbed/score.py: the part is
absent (what the negative is for), the subject is kept, the quality, and how far the picture changed away from the subject.
Writes results.json (every picture's counts), table.md and the figures into --out.
"""
from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "benchmarks")]

import evaluate  # noqa: E402
import pipeline  # noqa: E402
import scenes  # noqa: E402
import score  # noqa: E402

NODES = asyncio.run(pipeline.pack_nodes(ROOT))  # loads the pack as vsf_pack

import rivals  # noqa: E402
from tqdm import tqdm  # noqa: E402
from vsf_pack.nodes.glue.conditioning import negative_prompts  # noqa: E402
from vsf_pack.nodes.glue.override import VSFAttention  # noqa: E402
from vsf_pack.nodes.glue.patch import attach  # noqa: E402

log = logging.getLogger("evidence")


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a negative prompt, and the settings that are tried, weakest first: as many for each method."""
    name: str
    settings: tuple[Any, ...]
    rule: Callable[[Any], evaluate.Rule]

    def __post_init__(self) -> None:
        if len(self.settings) != BUDGET:
            raise ValueError(f"{self.name} has {len(self.settings)} settings, every method has {BUDGET}")


BUDGET = 8


def in_attention(make: Callable[[Any], Callable[..., VSFAttention]], scale: Callable[[Any], float] = lambda s: 1.0,
                 bias: float = 0.0) -> Callable[[Any], evaluate.Rule]:
    """A method that stands in attention: the negative's words as VSFTextEncode gives them, what becomes of them by `make`."""
    def rule(setting: Any) -> evaluate.Rule:
        def prepare(pipe: pipeline.Pipeline, part: str, positive: Any) -> tuple[Any, Any, Any, float]:
            negative = NODES["VSFTextEncode"].execute(pipe.clip, part).args[0]
            prompts = negative_prompts(negative, scale(setting), bias, 0.0, 1.0)
            return attach(pipe.model, prompts, make(setting)), positive, None, 1.0
        return evaluate.Rule(str(setting), prepare)
    return rule


def dng_rule(setting: tuple[float, float, float]) -> evaluate.Rule:
    """Dynamic negative guidance with (scale, prior, temperature)."""
    def prepare(pipe: pipeline.Pipeline, part: str, positive: Any) -> tuple[Any, Any, Any, float]:
        return rivals.DNG(*setting).attach(pipe.model), positive, pipe.encode(part), 1.0
    return evaluate.Rule(str(setting), prepare)


FLIPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
METHODS = {method.name: method for method in (
    Method("VSF", (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0), in_attention(lambda s: VSFAttention, lambda s: s)),
    Method("NAG", ((2, 2.5, 0.125), (4, 2.5, 0.125), (4, 2.5, 0.25), (5, 2.5, 0.5), (9, 5, 0.5), (10, 5, 0.5), (11, 5, 0.75),
                   (11, 10, 1.0)), in_attention(lambda s: rivals.NAG(*s))),
    Method("NASA", (0.05, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.7), in_attention(lambda s: rivals.NASA(s))),
    Method("NegPip (flip)", FLIPS, in_attention(lambda s: rivals.Flip(), lambda s: s)),
    Method("flip about the mean", FLIPS, in_attention(lambda s: rivals.Flip(about_mean=True), lambda s: s)),
    Method("CFG", (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0), evaluate.cfg_rule),
    Method("DNG", ((1, 0.2, 0.05), (2, 0.2, 0.05), (5, 0.01, 0.2), (5, 0.2, 0.05), (5, 0.2, 0.2), (5, 0.5, 0.05),
                   (10, 0.2, 0.05), (10, 0.5, 0.2)), dng_rule),
)}
ABLATIONS: dict[str, Callable[[float], evaluate.Rule]] = {
    "VSF": METHODS["VSF"].rule,
    "padding kept": lambda scale: evaluate.vsf_rule(NODES, scale, 0.0, padding=True),
    "no mask": in_attention(lambda s: rivals.NoMask(), lambda s: s),
    "no duplicate, no mask": METHODS["NegPip (flip)"].rule,
    "bias 0.2": in_attention(lambda s: VSFAttention, lambda s: s, bias=0.2),
    "whole embedding flipped": evaluate.whole_flip_rule,
}
ABLATION_SCALE = 1.75


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
        self.pipe, self.scorer = pipeline.Pipeline(), score.load()
        self.plain: dict[int, np.ndarray] = {}
        self.away = [away_from_subject(pair) for pair in pairs]
        self.file = out / f"counts-{architecture}.json"
        self.counts: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}

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
            scenes.contact_sheet(list(pictures[:24]), 8).save(self.out / f"{self.architecture} {name} {rule.name} {steps}.png")
            self.counts[key] = dataclasses.asdict(found)
            self.file.write_text(json.dumps(self.counts))
        return Counts(**self.counts[key])


def row(architecture: str, steps: int, method: str, setting: Any, counts: Counts) -> dict[str, Any]:
    """Means and intervals of one method's setting."""
    means = {name: float(np.mean(values)) for name, values in dataclasses.asdict(counts).items()}
    spans = {f"{name}_95": interval(values) for name, values in dataclasses.asdict(counts).items()}
    both = [a and k for a, k in zip(counts.absent, counts.kept, strict=True)]
    return {"architecture": architecture, "steps": steps, "method": method, "setting": setting, **means, **spans,
            "both": float(np.mean(both)), "both_95": interval(both)}


def best(rows: list[dict[str, Any]], quality: float) -> dict[str, Any]:
    """A method's best setting: most pictures with the part gone and the subject there, quality within 0.03 of no negative's
    where any setting has that."""
    good = [r for r in rows if r["quality"] >= quality - 0.03]
    return max(good or rows, key=lambda r: r["both"])


def at_level(rows: list[dict[str, Any]], level: float, axis: str) -> float | None:
    """A method's curve: the best `axis` among settings, or between neighbours, with at least `level` parts absent."""
    points = sorted((r["absent"], r[axis]) for r in rows)
    found = [y for x, y in points if x >= level]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 < level <= x1:
            found.append(y0 + (y1 - y0) * (level - x0) / (x1 - x0))
    return max(found, default=None)


LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85)


def tables(results: dict[str, Any]) -> str:
    """Each method's best setting; its curve at several levels; the ablations."""
    def span(r: dict[str, Any], name: str) -> str:
        low, high = r[f"{name}_95"]
        return f"{r[name]:.3f} ({low:.2f} to {high:.2f})"

    lines = []
    for kind in sorted({(r["architecture"], r["steps"]) for r in results["sweep"]}):
        sweep = [r for r in results["sweep"] if (r["architecture"], r["steps"]) == kind]
        none = next(r for r in sweep if r["method"] == "none")
        lines += [f"### {kind[0]}, {kind[1]} steps", "",
                  "| method | best of 8 settings | part absent | subject kept | both | quality | change elsewhere |",
                  "|---|---|---|---|---|---|---|"]
        names = list(dict.fromkeys(r["method"] for r in sweep))
        for name in names:
            r = best([r for r in sweep if r["method"] == name], none["quality"])
            lines.append(f"| {name} | {r['setting']} | {span(r, 'absent')} | {span(r, 'kept')} | {span(r, 'both')} | "
                         f"{r['quality']:.3f} | {r['collateral']:.3f} |")
        lines += ["", "Subject kept / quality where at least so many parts are absent:", "",
                  "| method | " + " | ".join(f"{level:g}" for level in LEVELS) + " |", "|---" * (len(LEVELS) + 1) + "|"]
        for name in names[1:]:
            cells = []
            for level in LEVELS:
                points = [none, *(r for r in sweep if r["method"] == name)]
                pair = [at_level(points, level, axis) for axis in ("kept", "quality")]
                cells.append("not reached" if None in pair else " / ".join(f"{value:.3f}" for value in pair))
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        ablations = [r for r in results["ablations"] if (r["architecture"], r["steps"]) == kind]
        lines += ["", f"Ablations at scale {ABLATION_SCALE}:", "", "| form | part absent | subject kept | both | quality |",
                  "|---|---|---|---|---|"]
        lines += [f"| {r['method']} | {span(r, 'absent')} | {span(r, 'kept')} | {span(r, 'both')} | {r['quality']:.3f} |"
                  for r in ablations]
        lines.append("")
    return "\n".join(lines)


COLOURS = {"VSF": "#2a78d6", "NAG": "#eb6834", "NASA": "#1baf7a", "NegPip (flip)": "#eda100", "flip about the mean": "#e87ba4",
           "CFG": "#4a3aa7", "DNG": "#e34948"}


def curves(results: dict[str, Any], path: pathlib.Path) -> None:
    """Part absent against subject kept, and against quality: a line a method."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    kinds = sorted({(r["architecture"], r["steps"]) for r in results["sweep"]})
    figure, axes = pyplot.subplots(len(kinds), 2, figsize=(10, 4 * len(kinds)), squeeze=False)
    for (architecture, steps), pair in zip(kinds, axes, strict=True):
        sweep = [r for r in results["sweep"] if (r["architecture"], r["steps"]) == (architecture, steps)]
        none = next(r for r in sweep if r["method"] == "none")
        for ax, axis, title in zip(pair, ("kept", "quality"), ("subject kept", "quality"), strict=True):
            for name, colour in COLOURS.items():
                points = [none, *(r for r in sweep if r["method"] == name)]
                ax.plot([r["absent"] for r in points], [r[axis] for r in points], "o-", ms=5, lw=2, color=colour, label=name)
            ax.set(xlabel="part absent", ylabel=title, title=f"{architecture}, {steps} steps", xlim=(0, 1))
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(bench: Bench, steps: list[int], methods: dict[str, Method]) -> dict[str, list[dict[str, Any]]]:
    """All rows of one architecture."""
    results: dict[str, list[dict[str, Any]]] = {"sweep": [], "ablations": []}
    total = len(steps) * (1 + sum(len(m.settings) for m in methods.values()) + len(ABLATIONS))
    with tqdm(total=total, desc=bench.architecture, mininterval=2) as bar:
        for count in steps:
            def add(part: str, name: str, setting: Any, rule: evaluate.Rule, count: int = count) -> None:
                results[part].append(row(bench.architecture, count, name, setting, bench.count(name, rule, count)))
                bar.update()
            add("sweep", "none", "", evaluate.none_rule())
            for name, method in methods.items():
                for setting in method.settings:
                    add("sweep", name, setting, method.rule(setting))
            for name, rule in ABLATIONS.items():
                add("ablations", name, ABLATION_SCALE, rule(ABLATION_SCALE))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="prompt pairs")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="a few pictures in two steps: tries the command, shows nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".cache" / "evidence")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = scenes.prompt_pairs(8 if options.quick else options.count)
    steps = [1] if options.quick else options.steps
    results: dict[str, list[dict[str, Any]]] = {"sweep": [], "ablations": []}
    bench = Bench("sd3", pairs, options.out)
    for part, rows in run(bench, steps, {name: METHODS[name] for name in options.methods}).items():
        results[part] += rows
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = tables(results)
    (options.out / "table.md").write_text(text)
    curves(results, options.out / "curves.png")
    print(text)


if __name__ == "__main__":
    main()
