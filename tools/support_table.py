"""Make docs/families.md, the support table first, from what the tests found.

    python tools/support_table.py      reads .cache/families/<ComfyUI version>.json, which `python dev.py versions` wrote

The findings are kept in docs/families.json; the page is made of that file alone, and a test holds it to it.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = Path(os.environ.get("VSF_REPORTS") or ROOT / ".cache" / "families")
FINDINGS = ROOT / "docs" / "families.json"
PAGE = ROOT / "docs" / "families.md"
ADAPTERS = ROOT / "nodes" / "glue" / "families"
CHECKS = {
    "off": "scale 0, an empty negative and steps outside the window: bit for bit the model without VSF",
    "beta large": "a bias of 60: the model without VSF to 1e-6",
    "reference": "equal to an independent dense reference in double precision to 1e-5, through ComfyUI's sampler: bias 0 and "
    "above, one and two negatives, both lengths, CFG 1 and 3, batch 2 (1 where the model takes no more)",
    "mutants": "the reference with one mask row, sign or refiner wrong is farther away than the tolerance",
    "positions": "the order of the negative's words matters where the model numbers its text, and only there",
    "context: same text": "a context that is the prompt once more: the model without VSF to 1e-6, by the rule itself; whole "
    "rows, and words beside padding",
    "context: reference": "equal to two whole branches over one image stream in double precision, rows of one batch of the "
    "model, to 1e-5: one and two contexts, whole rows and words, CFG 3 and 1, batch 1 and 3",
}


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def collect() -> dict:
    """The findings of all versions, newest first; older findings stay until their version is run again."""
    known = json.loads(FINDINGS.read_text(encoding="utf-8")) if FINDINGS.is_file() else {}
    for path in REPORTS.glob("*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        known[report.pop("comfyui")] = report
    return {version: known[version] for version in sorted(known, key=as_numbers, reverse=True)}


def verdict(checks: dict[str, str]) -> str:
    """One case on one version: pass, FAIL, or - where that ComfyUI has no such model."""
    outcomes = set(checks.values())
    return "FAIL" if "FAIL" in outcomes else "pass" if "pass" in outcomes else "-"


def adapters() -> list[str]:
    """What each adapter says of its family, one item a module; helpers, which have no `lengthen`, are left out."""
    items = []
    for path in sorted(ADAPTERS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "lengthen" for node in tree.body):
            said = (ast.get_docstring(tree) or "").split("\n\n")
            paragraphs = ["  " + " ".join(paragraph.split()) for paragraph in said]
            items.append(f"- **{path.stem}**:" + "\n\n".join(paragraphs)[1:])
    return items


def page(findings: dict) -> str:
    """docs/families.md."""
    newest, report = next(iter(findings.items()))
    lines = [
        "# Families: what is tested",
        "",
        "Made by `python dev.py versions`: ComfyUI's own model classes at toy size with random weights, through its sampler.",
        "",
        table(findings),
        "",
        "The checks:",
        "",
        *(f"- **{name}**: {text}" for name, text in CHECKS.items()),
        "",
        f"## ComfyUI {newest}, check by check",
        "",
        "| model | " + " | ".join(CHECKS) + " |",
        "|---" * (len(CHECKS) + 1) + "|",
    ]
    for name, case in report["cases"].items():
        lines.append(f"| {name} | " + " | ".join(case["checks"].get(check, "-") for check in CHECKS) + " |")
    lines += ["", "## All checks, version by version", "", "| model | " + " | ".join(findings) + " |",
              "|---" * (len(findings) + 1) + "|"]  # fmt: skip
    for name in report["cases"]:
        row = [verdict(r["cases"].get(name, {"checks": {}})["checks"]) for r in findings.values()]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += ["", "## How each family reads text, and what a negative does not reach", ""]
    lines += ["By adapter (`nodes/glue/families/`), in its own words. What is not named there is reached.", "", *adapters()]
    lines += ["", "## Refused, with a message", "", "| class | why |", "|---|---|"]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(report["refused"].items())]
    return "\n".join(lines) + "\n"


def table(findings: dict) -> str:
    """One line a family, with the oldest ComfyUI of the tested ones in which it passes."""
    report = next(iter(findings.values()))
    by_label: dict[str, list[str]] = {}
    for name, label in report["labels"].items():
        by_label.setdefault(label, []).append(name)
    lines = ["| model family | tested on ComfyUI | models in the tests |", "|---|---|---|"]
    for label, classes in by_label.items():
        names = [name for name, case in report["cases"].items() if case["class"] in classes]
        good = [
            version
            for version, r in findings.items()
            if (v := {verdict(r["cases"].get(n, {"checks": {}})["checks"]) for n in names}) and "FAIL" not in v and "pass" in v
        ]
        by_hand = "by hand: [newer-comfyui.md](newer-comfyui.md)"
        span = f"{good[-1]} to {good[0]}" if len(good) > 1 else good[0] if good else by_hand
        lines.append(f"| {label} | {span} | {', '.join(names)} |")
    return "\n".join(lines)


def main() -> None:
    findings = collect()
    FINDINGS.parent.mkdir(exist_ok=True)
    FINDINGS.write_text(json.dumps(findings, indent=1) + "\n", encoding="utf-8", newline="\n")
    PAGE.write_text(page(findings), encoding="utf-8", newline="\n")
    print(page(findings))


if __name__ == "__main__":
    main()
