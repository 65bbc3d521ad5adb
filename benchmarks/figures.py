"""Tables and figures of the evidence, from its rows."""
from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


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
        lines += ["", f"Ablations at scale {ablations[0]['setting']:g}:", "",
                  "| form | part absent | subject kept | both | quality |", "|---|---|---|---|---|"]
        lines += [f"| {r['method']} | {span(r, 'absent')} | {span(r, 'kept')} | {span(r, 'both')} | {r['quality']:.3f} |"
                  for r in ablations]
        lines.append("")
    lines += ["### Where the negative's mass 1 - W lies", "",
              "Over the picture, and on the part as a multiple of elsewhere; each row a layer, first and last step:", "",
              "| architecture | layer | first step | last step | on the part, first | on the part, last |",
              "|---|---|---|---|---|---|"]
    for found in results["mass"]:
        (first, last), (near, far) = ((rows[0], rows[-1]) for rows in (found["mass"], found["on_part_over_elsewhere"]))
        lines += [f"| {found['architecture']} | {layer + 1} | {first[layer]:.3f} | {last[layer]:.3f} | {near[layer]:.2f} | "
                  f"{far[layer]:.2f} |" for layer in range(len(first))]
    return "\n".join([*lines, ""])


COLOURS = {"VSF": "#2a78d6", "NAG": "#eb6834", "NASA": "#1baf7a", "NegPip (flip)": "#eda100", "flip about the mean": "#e87ba4",
           "CFG": "#4a3aa7", "DNG": "#e34948"}


def curves(results: dict[str, Any], path: pathlib.Path) -> None:
    """Part absent against subject kept, and against quality: a line a method."""
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


def bars(results: dict[str, Any], path: pathlib.Path) -> None:
    """The ablations: pictures with the part gone and the subject there, with 95 % intervals."""
    kinds = sorted({(r["architecture"], r["steps"]) for r in results["ablations"]})
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(1 + 3.4 * len(kinds), 4), squeeze=False)
    for ax, (architecture, steps) in zip(axes[0], kinds, strict=True):
        rows = [r for r in results["ablations"] if (r["architecture"], r["steps"]) == (architecture, steps)]
        values = np.array([r["both"] for r in rows])
        spans = np.array([r["both_95"] for r in rows]).T
        ax.barh([r["method"] for r in rows], values, xerr=np.abs(spans - values),
                color=[COLOURS["VSF"] if r["method"] == "VSF" else "#b0b0ab" for r in rows], ecolor="#52514e")
        ax.set(xlim=(0, 1), xlabel="part gone, subject there", title=f"{architecture}, {steps} steps")
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def grid(sheet: Callable[[str, str, int], pathlib.Path], sweep: list[dict[str, Any]], architecture: str, steps: int,
         path: pathlib.Path) -> None:
    """One row a method at its best setting, one column a subject; the same noise in a column. sheet: evidence.Bench.sheet."""
    rows = [r for r in sweep if (r["architecture"], r["steps"]) == (architecture, steps)]
    none = next(r for r in rows if r["method"] == "none")
    names = dict.fromkeys(r["method"] for r in rows)
    chosen = [best([r for r in rows if r["method"] == name], none["quality"]) for name in names]
    strips = []
    for r in chosen:
        name = r["method"] if r["method"] == "none" else f"{r['method']}, {r['setting']}"
        with Image.open(sheet(r["method"], r["rule"], steps)) as pictures:
            strips.append((name, pictures.crop((0, 0, pictures.width, 128)).convert("RGB")))
    margin, height = 190, 132
    out = Image.new("RGB", (margin + strips[0][1].width, height * len(strips)), "white")
    pen = ImageDraw.Draw(out)
    for line, (name, strip) in enumerate(strips):
        pen.text((6, line * height + 58), name, fill="black")
        out.paste(strip, (margin, line * height))
    out.save(path)


def mass_maps(masses: np.ndarray, before: np.ndarray, after: np.ndarray, path: pathlib.Path) -> None:
    """1 - W over pictures that have the part: by step (mean over layers), then by layer (mean over steps).

    masses: [pairs, steps, layers, 8, 8]; before, after: uint8 pictures without the negative and with VSF.
    """
    _, steps, layers, *_ = masses.shape
    shown = sorted({0, steps // 3, 2 * steps // 3, steps - 1})
    titles = ["no negative", *(f"step {s + 1}" for s in shown), *(f"layer {n + 1}" for n in range(layers)), "VSF"]
    figure, axes = pyplot.subplots(len(before), len(titles), figsize=(1.3 * len(titles), 1.3 * len(before)), squeeze=False)
    for row, picture, result, seen in zip(axes, before, after, masses, strict=False):
        maps = [*(seen[s].mean(0) for s in shown), *(seen[:, n].mean(0) for n in range(layers))]
        row[0].imshow(picture)
        row[-1].imshow(result)
        for ax, found in zip(row[1:-1], maps, strict=True):
            ax.imshow(picture, alpha=0.45)
            ax.imshow(found, alpha=0.6, cmap="magma", vmin=0, vmax=masses.max(), extent=(0, 128, 128, 0))
    for ax in axes.flat:
        ax.axis("off")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
