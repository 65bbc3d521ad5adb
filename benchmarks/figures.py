"""Tables and figures of the evidence, from its rows."""
from __future__ import annotations

import pathlib
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


def at_level(rows: list[dict[str, Any]], level: float, axis: str) -> float | None:
    """A method's curve: the best `axis` among settings, or between neighbours, with at least `level` parts absent."""
    points = sorted((r["absent"], r[axis]) for r in rows)
    found = [y for x, y in points if x >= level]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 < level <= x1:
            found.append(y0 + (y1 - y0) * (level - x0) / (x1 - x0))
    return max(found, default=None)


LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85)
Rows = list[dict[str, Any]]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown lines, and an empty one."""
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]


def span(r: dict[str, Any], name: str) -> str:
    low, high = r[f"{name}_95"]
    return f"{r[name]:.3f} ({low:.2f} to {high:.2f})"


def kinds(rows: Rows) -> list[tuple[str, int]]:
    return list(dict.fromkeys((r["architecture"], r["steps"]) for r in rows))


def names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(r["method"] for r in rows))


def one(rows: Rows, **values: Any) -> dict[str, Any]:
    """The only row with these values."""
    found, = (r for r in rows if all(r[key] == value for key, value in values.items()))
    return found


def paired(r: dict[str, Any], reference: str) -> str:
    if not r["paired"] or r["method"] in (reference, "none"):
        return ""
    return f"+{r['paired']['gained']} -{r['paired']['lost']}, p {r['paired']['p']:.2g}"


def overview(rows: Rows) -> list[str]:
    """Success: a line a method, a column an architecture and number of steps."""
    def cell(name: str, kind: tuple[str, int]) -> str:
        found = [r for r in rows if (r["method"], r["architecture"], r["steps"]) == (name, *kind)]
        return span(found[0], "success") if found else ""
    lines = [[name, str(next(r for r in rows if r["method"] == name)["setting"]), *(cell(name, kind) for kind in kinds(rows))]
             for name in names(rows)]
    return table(["method", "setting", *(f"{a}, {steps} steps" for a, steps in kinds(rows))], lines)


def headline(shared: Rows, stronger: Rows) -> list[str]:
    """README's table: success at each number of steps, and at three times the strength; a column an architecture."""
    steps = list(dict.fromkeys(r["steps"] for r in shared))

    def value(rows: Rows, name: str, architecture: str, count: int) -> str:
        found = [r for r in rows if (r["method"], r["architecture"], r["steps"]) == (name, architecture, count)]
        return f"{found[0]['success']:.2f}" if found else "-"
    lines = [[name, str(next(r for r in shared if r["method"] == name)["setting"]),
              *(" / ".join([*(value(shared, name, a, count) for count in steps), value(stronger, name, a, steps[0])])
                for a in dict.fromkeys(r["architecture"] for r in shared))] for name in names(shared)]
    return table(["method", "setting", *dict.fromkeys(r["architecture"] for r in shared)], lines)


def details(rows: Rows, reference: str) -> list[str]:
    """All that was counted, one table an architecture and number of steps."""
    lines: list[str] = []
    for architecture, steps in kinds(rows):
        some = [r for r in rows if (r["architecture"], r["steps"]) == (architecture, steps)]
        lines += [f"#### {architecture}, {steps} steps, {some[0]['pictures']} pictures a line", ""]
        lines += table(["method", "setting", "success", "part absent", "subject kept", "clean", "quality", "changed elsewhere",
                        f"against {reference}"],
                       [[r["method"], str(r["setting"]), *(span(r, key) for key in ("success", "absent", "kept", "clean")),
                         f"{r['quality']:.3f}", f"{r['away']:.3f}", paired(r, reference)] for r in some])
    return lines


def by_subject(rows: Rows) -> list[str]:
    lines: list[str] = []
    for architecture, steps in kinds(rows):
        some = [r for r in rows if (r["architecture"], r["steps"]) == (architecture, steps) and r["method"] != "none"]
        lines += [f"#### {architecture}, {steps} steps", ""]
        cells = [[f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in r["by_subject"].values()] for r in some]
        lines += table(["method", *some[0]["by_subject"]], [[r["method"], *c] for r, c in zip(some, cells, strict=True)])
    return lines


def irrelevant(rows: Rows) -> list[str]:
    """How far a picture moves by a negative that names nothing in it: mean difference of all pixels, then what was counted."""
    lines: list[str] = []
    for architecture in dict.fromkeys(r["architecture"] for r in rows):
        some = [r for r in rows if r["architecture"] == architecture]
        negatives = list(dict.fromkeys(r["negative"] for r in some))
        cells = [[name, str(one(some, method=name, negative=negatives[0])["setting"]),
                  *(f"{r['moved']:.4f}; {r['absent']:.3f}, {r['kept']:.3f}, {r['clean']:.3f}"
                    for r in (one(some, method=name, negative=n) for n in negatives))] for name in names(some)]
        lines += [f"#### {architecture}", "", *table(["method", "setting", *negatives], cells)]
    return lines


def levels(rows: Rows) -> list[str]:
    """The sweep's curves: subject kept / clean, where at least so many parts are absent."""
    lines: list[str] = []
    for architecture, steps in kinds(rows):
        sweep = [r for r in rows if (r["architecture"], r["steps"]) == (architecture, steps)]
        none, cells = one(sweep, method="none"), []
        for name in names(sweep)[1:]:
            points = [none, *(r for r in sweep if r["method"] == name)]
            pairs = [[at_level(points, level, axis) for axis in ("kept", "clean")] for level in LEVELS]
            cells.append([name, *("not reached" if None in pair else " / ".join(f"{v:.3f}" for v in pair) for pair in pairs)])
        lines += [f"#### {architecture}, {steps} steps", "", *table(["method", *(f"{level:g}" for level in LEVELS)], cells)]
    return lines


def ablations(rows: Rows) -> list[str]:
    lines: list[str] = []
    for architecture, steps in kinds(rows):
        some = [r for r in rows if r["architecture"] == architecture]
        lines += [f"#### {architecture}, {steps} steps, scale {some[0]['setting']:g}", ""]
        lines += table(["form", "success", "part absent", "subject kept", "clean", "quality"],
                       [[r["method"], *(span(r, key) for key in ("success", "absent", "kept", "clean")), f"{r['quality']:.3f}"]
                        for r in some])
    return lines


def masses(found: list[dict[str, Any]]) -> list[str]:
    cells = []
    for one_of in found:
        (first, last), (near, far) = ((rows[0], rows[-1]) for rows in (one_of["mass"], one_of["on_part_over_elsewhere"]))
        cells += [[one_of["architecture"], str(layer + 1), f"{first[layer]:.3f}", f"{last[layer]:.3f}", f"{near[layer]:.2f}",
                   f"{far[layer]:.2f}"] for layer in range(len(first))]
    return table(["architecture", "layer", "first step", "last step", "on the part, first", "on the part, last"], cells)


def tables(results: dict[str, Any]) -> str:
    """All that was made, in Markdown."""
    reference, sets = results["reference"], results["pairs"].values()
    lines = [f"Made by `{results['command']}` on {results['date']} ({results['machine']}). Pairs of each subject: "
             + ", ".join(f"{s['name']} {s['each']} (seed {s['seed']})" for s in sets) + ".", ""]
    shared, own = results["shared"], results["own"]
    for title, made in (
            (f"Success at {' and '.join(str(steps) for steps in dict.fromkeys(r['steps'] for r in shared))} steps, one setting "
             "for all architectures, and at three times the strength",
             headline([*shared, *results["default"]], results["stronger"])),
            ("The same with 95 % intervals", overview([*shared, *results["default"]])),
            ("What was counted, one setting for all architectures", details(shared, reference)),
            ("Each method at its best setting for each architecture", details(own, reference)),
            ("Success by subject, each method at its best for the architecture", by_subject(own)),
            ("Three times the strength", details(results["stronger"], reference)),
            ("Irrelevant negatives: mean difference of the pixels (0 to 1); part absent, subject kept, clean",
             irrelevant(results["irrelevant"])),
            ("The curves: subject kept / clean where at least so many parts are absent (tuning pairs)",
             levels(results["sweep"])),
            ("Ablations of the paper's form", ablations(results["ablations"])),
            ("Where the negative's mass 1 - W lies, over the picture, and on the part as a multiple of elsewhere",
             masses(results["mass"]))):
        lines += [f"### {title}", "", *made] if len(made) > 3 else []
    return "\n".join(lines)


CONTEXT = ", in context"
COLOURS = {"VSF": "#2a78d6", "VSF context": "#0b2f66", "NAG": "#eb6834", "NASA": "#1baf7a", "NegPip (flip)": "#eda100",
           "flip about the mean": "#e87ba4", "CFG": "#4a3aa7", "DNG": "#e34948"}


def curves(results: dict[str, Any], path: pathlib.Path) -> None:
    """Part absent against subject kept, and against clean: a line a method, broken where its negative stands in context."""
    sweeps = kinds(results["sweep"])
    figure, axes = pyplot.subplots(len(sweeps), 2, figsize=(10, 4 * len(sweeps)), squeeze=False)
    for (architecture, steps), pair in zip(sweeps, axes, strict=True):
        sweep = [r for r in results["sweep"] if (r["architecture"], r["steps"]) == (architecture, steps)]
        none = one(sweep, method="none")
        for ax, axis, title in zip(pair, ("kept", "clean"), ("subject kept", "clean where the subject is"), strict=True):
            for name in names(sweep)[1:]:
                points = [none, *(r for r in sweep if r["method"] == name)]
                ax.plot([r["absent"] for r in points], [r[axis] for r in points], "o--" if CONTEXT in name else "o-", ms=4,
                        lw=1.6, color=COLOURS[name.removesuffix(CONTEXT)], label=name)
            ax.set(xlabel="part absent", ylabel=title, title=f"{architecture}, {steps} steps", xlim=(0, 1))
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def bars(results: dict[str, Any], path: pathlib.Path) -> None:
    """The ablations: success, with 95 % intervals."""
    found = kinds(results["ablations"])
    figure, axes = pyplot.subplots(1, len(found), figsize=(1 + 3.4 * len(found), 4), squeeze=False)
    for ax, (architecture, steps) in zip(axes[0], found, strict=True):
        rows = [r for r in results["ablations"] if (r["architecture"], r["steps"]) == (architecture, steps)]
        values = np.array([r["success"] for r in rows])
        spans = np.array([r["success_95"] for r in rows]).T
        ax.barh([r["method"] for r in rows], values, xerr=np.abs(spans - values),
                color=[COLOURS["VSF"] if r["method"] == "VSF" else "#b0b0ab" for r in rows], ecolor="#52514e")
        ax.set(xlim=(0, 1), xlabel="success", title=f"{architecture}, {steps} steps")
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def grid(rows: Rows, sheets: list[pathlib.Path], path: pathlib.Path) -> None:
    """One row a method at its best setting, the first pair of each subject in a column, whatever became of it."""
    strips = []
    for r, sheet in zip(rows, sheets, strict=True):
        name = r["method"] if r["method"] == "none" else f"{r['method']}, {r['setting']}"
        with Image.open(sheet) as pictures:
            strips.append((name, pictures.convert("RGB")))
    margin, height = 260, 132
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
