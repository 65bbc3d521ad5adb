"""Does VSF work better? Every method's strength swept over the testbed, with the same number of settings for each, and then
each method at its best on pictures that no setting was chosen on.

    python dev.py evidence                 every method, setting and architecture; takes up where it stopped
    python dev.py evidence --each 100 --tables shared own      a headline: 100 report pairs a subject, hours
    python dev.py evidence --quick         a few pictures, to try the command

Every picture is sampled by ComfyUI from the same prompts and the same noise. What is counted: testbed/score.py, success.py.
Three sets of pairs, each with its own prompts and noise (SETS): pictures without a negative of `calibration` say what is clean;
settings are chosen on `tuning`; every table but the sweep's is of `report`.

Writes results.json, table.md and the figures into --out; counts/ there keeps what was seen in each picture.
"""
from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
import logging
import multiprocessing
import os
import pathlib
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import figures
import intervals
import numpy as np
import torch
from methods import ABLATIONS, ABLATIONS_OF, METHODS, in_attention

# isort: split
import comfy.model_management
import evaluate
import mass
import pipeline
import scenes
import score
import success
from tqdm import tqdm

ROOT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = "VSF context"
"""What the others are paired with, where it is among the methods."""
DEFAULT = ("VSF Prompt as it comes", 1.0)
"""The reference at the node's own strength, which no picture here was asked for."""
OTHERS = dict(zip(scenes.SUBJECTS, (*scenes.SUBJECTS[1:], scenes.SUBJECTS[0]), strict=True))
NEGATIVES: dict[str, Callable[[scenes.Pair], str]] = {
    "own part": lambda pair: pair.negative,
    "another subject's part": lambda pair: scenes.PARTS[OTHERS[pair.scene.subject]],
    "an unknown word": lambda pair: "zebra",
    "nothing": lambda pair: "",
}
IRRELEVANT = tuple(NEGATIVES)[1:]
HELD_OUT = "unet"
"""An architecture that no setting is chosen on, where there are others: it is in the first table alone."""
TABLES = ("shared", "own", "stronger", "default", "irrelevant", "ablations")
"""One setting for all architectures; each architecture's own; three times the former; VSF Prompt's own strength; negatives of
nothing in the picture; the paper's form with something taken away."""


@dataclasses.dataclass(frozen=True)
class PairSet:
    """So many pairs of each subject, and noise that no other set has."""
    name: str
    seed: int
    each: int

    @functools.cached_property
    def pairs(self) -> list[scenes.Pair]:
        return scenes.prompt_pairs(self.each * len(scenes.SUBJECTS), self.seed)

    @functools.cached_property
    def wanted(self) -> list[scenes.Scene]:
        return [pair.scene for pair in self.pairs]

    @functools.cached_property
    def subjects(self) -> list[str]:
        return [scene.subject for scene in self.wanted]

    @property
    def first_seed(self) -> int:
        return self.seed * 1_000_000


SEEDS = {"calibration": 101, "tuning": 102, "report": 103}
"""Of prompts; a picture's noise is seed x 1,000,000 + its place. (Seed 0 is that of testbed/README.md's tables, by which the
first two models were trained on.)"""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What was seen in each picture: booleans for absent and kept, else numbers in 0..1."""
    absent: list[bool]
    kept: list[bool]
    quality: list[float]
    box: list[float]
    away: list[float]
    """Share of the pixels away from the subject that changed."""
    moved: list[float]
    """Mean difference of all pixels from the picture without a negative."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Pictures to be counted."""
    architecture: str
    pairs: PairSet
    steps: int
    method: str
    rule: evaluate.Rule
    negative: str = "own part"

    @property
    def cost(self) -> float:
        """About the time that it takes, in pictures of one step."""
        pictures = len(self.pairs.pairs) * (4 if self.rule.one_by_one else 1)
        return pictures * (self.steps + 2)

    @property
    def file(self) -> str:
        words = (self.architecture, self.steps, "steps", self.pairs.name, self.pairs.each, self.method, self.rule.name)
        return " ".join(map(str, (*words, *(() if self.negative == "own part" else (self.negative,)))))


def device_name() -> str:
    device = comfy.model_management.get_torch_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def replace_file(path: pathlib.Path, write: Callable[[pathlib.Path], Any]) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f"{os.getpid()} {path.name}")
    write(partial)
    partial.replace(path)


class Bench:
    """Pictures and counts, kept on disk."""

    def __init__(self, out: pathlib.Path) -> None:
        self.out, self.scorer = out, score.load().to(comfy.model_management.get_torch_device())
        (out / "counts").mkdir(parents=True, exist_ok=True)
        self.pipe = functools.cache(lambda architecture: pipeline.Pipeline(architecture=architecture))

    def generate(self, job: Job) -> np.ndarray:
        return evaluate.generate(self.pipe(job.architecture), job.rule, job.pairs.pairs, job.steps, job.pairs.first_seed,
                                 NEGATIVES[job.negative])

    def plain(self, job: Job) -> np.ndarray:
        """The pictures without a negative of a job's pairs."""
        job = dataclasses.replace(job, method="none", rule=evaluate.none_rule(), negative="own part")
        file = self.out / "counts" / f"{job.file}.npy"
        if not file.exists():
            replace_file(file, lambda path: np.save(path.open("wb"), self.generate(job)))
        return np.load(file)

    def count(self, job: Job) -> Counts:
        """From disk, or by sampling."""
        file = self.out / "counts" / f"{job.file}.json"
        if not file.exists():
            plain = self.plain(job)
            pictures = plain if job.method == "none" else self.generate(job)
            seen = score.score(self.scorer, pictures, job.pairs.wanted)
            moved = np.abs(pictures.astype(np.float32) - plain).mean((1, 2, 3)) / 255
            away = success.changed_away(pictures, plain, job.pairs.wanted)
            values = (seen.part_absent, seen.subject_kept, seen.quality, seen.box, away, moved)
            counts = Counts(*(array.tolist() for array in values))
            replace_file(file, lambda path: path.write_text(json.dumps(dataclasses.asdict(counts))))
        return Counts(**json.loads(file.read_text()))

    def seen(self, job: Job) -> bool:
        return (self.out / "counts" / f"{job.file}.json").exists()

    def sheet(self, job: Job) -> pathlib.Path:
        """The job's first picture of each subject, in a row."""
        file = self.out / "counts" / f"{job.file}.png"
        if not file.exists():
            first = [members[0] for members in evaluate.by_subject(job.pairs.pairs).values()]
            pictures = [evaluate.generate(self.pipe(job.architecture), job.rule, [job.pairs.pairs[i]], job.steps,
                                          job.pairs.first_seed + i, NEGATIVES[job.negative])[0] for i in first]
            replace_file(file, scenes.contact_sheet(pictures, len(pictures)).save)
        return file


@dataclasses.dataclass(eq=False)
class Evidence:
    """All jobs, and what comes out of them."""
    bench: Bench
    sets: dict[str, PairSet]
    architectures: list[str]
    steps: list[int]
    methods: list[str]
    tables: tuple[str, ...] = TABLES
    held_out_each: int | None = None

    @property
    def tuned(self) -> list[str]:
        """The architectures that settings are chosen on."""
        return [a for a in self.architectures if a != HELD_OUT] or self.architectures

    def set_of(self, architecture: str, pairs: str) -> PairSet:
        few = self.held_out_each is not None and architecture not in self.tuned
        return dataclasses.replace(self.sets[pairs], each=self.held_out_each) if few else self.sets[pairs]

    def none(self, architecture: str, pairs: str, steps: int) -> Job:
        return Job(architecture, self.set_of(architecture, pairs), steps, "none", evaluate.none_rule())

    def job(self, architecture: str, pairs: str, steps: int, name: str, setting: Any, **options: Any) -> Job:
        return Job(architecture, self.set_of(architecture, pairs), steps, name, METHODS[name].rule(setting), **options)

    def jobs(self, phase: str) -> list[Job]:
        """What each phase samples: pictures without a negative, all that a setting is chosen by, all that is told then."""
        if phase == "calibration":
            found = [self.none(a, pairs, steps) for a in self.architectures for pairs in self.sets for steps in self.steps]
        elif phase == "tuning":
            found = [self.job(a, "tuning", self.first, name, setting) for a in self.tuned for name in self.methods
                     for setting in METHODS[name].settings]
        else:
            found = [job for part in self.report().values() for job, _ in part]
        return list({job.file: job for job in found}.values())

    @property
    def reference(self) -> str:
        return REFERENCE if REFERENCE in self.methods else self.methods[0]

    @property
    def first(self) -> int:
        """The number of steps at which settings are chosen."""
        return self.steps[0]

    @functools.cache  # noqa: B019  one object a process
    def limits(self, architecture: str, steps: int) -> dict[str, float]:
        job = self.none(architecture, "calibration", steps)
        return success.limits(np.array(self.bench.count(job).box), job.pairs.subjects)

    def row(self, job: Job, setting: Any) -> dict[str, Any]:
        """Means and intervals of one method's setting."""
        counts = self.bench.count(job)
        clean = success.clean(np.array(counts.box), job.pairs.subjects, self.limits(job.architecture, job.steps))
        succeeded = np.array(counts.absent) & np.array(counts.kept) & clean
        values = {**dataclasses.asdict(counts), "clean": clean.tolist(), "success": succeeded.tolist()}
        kinds = np.array(job.pairs.subjects)
        return {"architecture": job.architecture, "steps": job.steps, "method": job.method, "setting": setting,
                "negative": job.negative, "pairs": job.pairs.name, "pictures": len(kinds), "job": job,
                **{name: float(np.mean(v)) for name, v in values.items()},
                **{f"{name}_95": intervals.interval(v) for name, v in values.items()},
                "by_subject": {s: (float(succeeded[kinds == s].mean()), *intervals.interval(succeeded[kinds == s].tolist()))
                               for s in scenes.SUBJECTS},
                "each": succeeded.tolist()}

    @functools.cache  # noqa: B019
    def sweep(self, architecture: str) -> tuple[dict[str, Any], ...]:
        rows = [self.row(self.none(architecture, "tuning", self.first), "")]
        rows += [self.row(self.job(architecture, "tuning", self.first, name, setting), setting) for name in self.methods
                 for setting in METHODS[name].settings]
        return tuple(rows)

    def best(self, name: str, architectures: list[str]) -> Any:
        """The setting with the highest success on the tuning pairs, mean over architectures; the subject kept, then quality
        decide between equals."""
        def merit(setting: Any) -> tuple[float, ...]:
            rows = [r for a in architectures for r in self.sweep(a) if (r["method"], r["setting"]) == (name, setting)]
            return tuple(float(np.mean([r[key] for r in rows])) for key in ("success", "kept", "quality"))
        return max(METHODS[name].settings, key=merit)

    def report(self) -> dict[str, list[tuple[Job, Any]]]:
        """The jobs of every table, with their settings."""
        shared = {name: self.best(name, self.tuned) for name in self.methods}
        tables: dict[str, list[tuple[Job, Any]]] = {part: [] for part in TABLES}
        for a in self.architectures:
            for steps in self.steps:
                tables["shared"].append((self.none(a, "report", steps), ""))
                tables["shared"] += [(self.job(a, "report", steps, name, s), s) for name, s in shared.items()]
        for a in self.tuned:
            tables["own"].append((self.none(a, "report", self.first), ""))
            for name in self.methods:
                own, strong = self.best(name, [a]), METHODS[name].stronger(shared[name])
                tables["own"].append((self.job(a, "report", self.first, name, own), own))
                tables["stronger"].append((self.job(a, "report", self.first, name, strong), strong))
                tables["irrelevant"] += [(self.job(a, "report", self.first, name, shared[name], negative=n), shared[name])
                                         for n in IRRELEVANT]
            if REFERENCE in self.methods:
                untuned = Job(a, self.set_of(a, "report"), self.first, DEFAULT[0], METHODS[REFERENCE].rule(DEFAULT[1]))
                tables["default"].append((untuned, DEFAULT[1]))
            scale = pipeline.SCALES[a]
            tables["ablations"] += [(Job(a, self.sets["report"], self.first, name, rule(scale)), scale)
                                    for name, rule in (ABLATIONS | ABLATIONS_OF.get(a, {})).items()]
        return {part: jobs if part in self.tables else [] for part, jobs in tables.items()}

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Every table's rows. Each of the main ones is paired with the reference: gained, lost, and McNemar's p."""
        tables = {part: [self.row(job, setting) for job, setting in jobs] for part, jobs in self.report().items()}
        for rows in (tables["shared"], tables["own"], tables["stronger"], tables["default"]):
            references = {(r["architecture"], r["steps"]): r for r in rows if r["method"] == self.reference}
            for r in rows:
                other = references.get((r["architecture"], r["steps"]))
                r["paired"] = other and intervals.mcnemar(r["each"], other["each"])
        return {"sweep": [r for a in self.tuned for r in self.sweep(a)], **tables}


def masses(pipe: pipeline.Pipeline, pairs: list[scenes.Pair], scale: float, steps: int) -> np.ndarray:
    """1 - W of VSF at this scale: [pairs, steps, layers, 8, 8]."""
    seen: list[np.ndarray] = [np.empty(0)] * len(pairs)
    for subject, members in evaluate.by_subject(pairs).items():
        recorder = mass.MassSeen()
        rule = in_attention(lambda _, recorder=recorder: recorder, lambda s: s)(scale)
        case = evaluate.Case(pipe, [pairs[i].positive for i in members], scenes.PARTS[subject])
        model, positive, negative, cfg = rule.prepare(case)
        pipe.sample(model, positive, members, steps, cfg, negative)
        found = torch.stack([torch.stack(layers) for layers in recorder.forwards])  # [steps, layers, members, tokens]
        maps = found.permute(2, 0, 1, 3).unflatten(-1, (mass.TOKENS, mass.TOKENS))
        for i, one in zip(members, maps.numpy(), strict=True):
            seen[i] = one
    return np.stack(seen)


def attention(bench: Bench, architecture: str, steps: int) -> dict[str, Any]:
    """Where the negative's mass lies in the paper's form, in figures and as a figure."""
    pairs, pipe, scale = scenes.prompt_pairs(16, SEEDS["report"]), bench.pipe(architecture), pipeline.SCALES[architecture]
    seen = masses(pipe, pairs, scale, steps)
    before, after = (evaluate.generate(pipe, rule, pairs[:8], steps)
                     for rule in (evaluate.none_rule(), METHODS["VSF"].rule(scale)))
    figures.mass_maps(seen, before, after, bench.out / f"mass-{architecture}.png")
    return {"architecture": architecture, "steps": steps, **mass.summary(seen, pairs)}


def sample(evidence: Evidence, options: argparse.Namespace) -> None:
    """All that is not on disk yet, phase by phase, in processes of one thread each; what takes longest begins first."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn"), begin, (options,)) as pool:
        for phase in ("calibration", "tuning", "report"):
            jobs = [job for job in evidence.jobs(phase) if not evidence.bench.seen(job)]
            order = sorted(range(len(jobs)), key=lambda i: jobs[i].cost, reverse=True)
            futures = [pool.submit(count, phase, jobs[i].file) for i in order]
            for future in tqdm(as_completed(futures), phase, len(futures), mininterval=2):
                future.result()


def begin(options: argparse.Namespace) -> None:
    """A process's own bench. Its rules are functions, which no other process can hand over."""
    global _own
    logging.basicConfig(level=logging.WARNING)
    _own = evidence_of(options)


def count(phase: str, file: str) -> None:
    _own.bench.count(next(job for job in _own.jobs(phase) if job.file == file))


def evidence_of(options: argparse.Namespace) -> Evidence:
    each = (1, 1, 1) if options.quick else (options.calibration_each, options.tuning_each, options.each)
    sets = {name: PairSet(name, seed, n) for (name, seed), n in zip(SEEDS.items(), each, strict=True)}
    return Evidence(Bench(options.out), sets, options.architectures, [1] if options.quick else options.steps, options.methods,
                    tuple(options.tables), options.held_out_each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=4, help="report pairs of each subject (100 for a headline)")
    parser.add_argument("--tuning-each", type=int, default=2, help="tuning pairs of each subject")
    parser.add_argument("--calibration-each", type=int, default=16, help="pairs of each subject that say what is clean")
    parser.add_argument("--held-out-each", type=int, help=f"pairs of each subject for {HELD_OUT} (default: as the others)")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8], help="settings are chosen at the first of them")
    parser.add_argument("--architectures", nargs="+", choices=pipeline.SCALES, default=list(pipeline.SCALES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--quick", action="store_true", help="a picture of each subject in one step: tries the command")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".cache" / "evidence")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that sample, one thread each")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    evidence = evidence_of(options)
    sample(evidence, options)
    results: dict[str, Any] = {
        **evidence.rows(), "mass": [attention(evidence.bench, a, max(evidence.steps)) for a in evidence.tuned],
        "reference": evidence.reference, "pairs": {name: dataclasses.asdict(s) for name, s in evidence.sets.items()},
        "command": " ".join(["python dev.py evidence", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
        "machine": f"{device_name()}, torch {torch.__version__}"}
    text = figures.tables(results)
    print(text)
    (options.out / "table.md").write_text(text)
    figures.curves(results, options.out / "curves.png")
    if results["ablations"]:
        figures.bars(results, options.out / "ablations.png")
    for a in evidence.tuned if results["own"] else ():
        rows = [r for r in results["own"] if r["architecture"] == a]
        figures.grid(rows, [evidence.bench.sheet(r["job"]) for r in rows], options.out / f"grid-{a}.png")
    for part in ("sweep", *TABLES):
        for r in results[part]:
            del r["each"], r["job"]
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
