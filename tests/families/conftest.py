"""Collects one table, family x check, from what the tests here found: shown at the end of a run, and written for
tools/support_table.py, which makes docs/families.md of it."""
from __future__ import annotations

import json
import os
from pathlib import Path

import cases
import comfyui_version
import pytest
from vsf_pack.nodes.glue.families import FAMILIES, REFUSED

CHECKS = {
    "test_off": "off",
    "test_beta_large_is_off": "beta large",
    "test_equals_the_reference": "reference",
    "test_a_wrong_mask_row_or_sign_would_be_seen": "mutants",
    "test_positions_of_the_negative": "positions",
    "test_the_prompt_once_more_changes_nothing": "context: same text",
    "test_context_equals_the_reference": "context: reference",
}
REPORTS = Path(os.environ.get("VSF_REPORTS") or Path(__file__).resolve().parents[2] / ".cache" / "families")
found: dict[str, dict[str, str]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Write the case and the check onto the report, which reaches the process that prints (pytest-xdist)."""
    report = (yield).get_result()
    check = CHECKS.get(getattr(item, "originalname", ""))
    case = getattr(item, "callspec", None) and item.callspec.params.get("case")
    if check is not None and case is not None:
        report.vsf_check = [case.name, check]


def pytest_runtest_logreport(report):
    """Note the outcome of a check of a case: one failure outweighs any number of passes."""
    if not hasattr(report, "vsf_check") or (report.passed and report.when != "call"):
        return
    name, check = report.vsf_check
    row = found.setdefault(name, {})
    if report.failed:
        row[check] = "FAIL"
    elif row.get(check) != "FAIL" and (report.passed or check not in row):
        row[check] = "pass" if report.passed else "-"


def _class_of(name: str) -> str | None:
    """The diffusion model's class; None where this ComfyUI has no such model, and for one that stands in for it."""
    if cases.BY_NAME[name].stands_in or not cases.BY_NAME[name].exists:
        return None
    cls = type(cases.load(name).model.diffusion_model)
    return f"{cls.__module__}.{cls.__qualname__}"


def pytest_terminal_summary(terminalreporter):
    """The table, and its file where every check of every case was run. A run of some cases alone puts theirs into that file, if
    there is one."""
    if not found:
        return
    columns = list(CHECKS.values())
    width = max(map(len, found))
    terminalreporter.section(f"families on ComfyUI {comfyui_version.__version__}")
    terminalreporter.write_line(" " * width + "".join(f" {c:>10}" for c in columns))
    for name, row in sorted(found.items()):
        terminalreporter.write_line(name.ljust(width) + "".join(f" {row.get(c, ''):>10}" for c in columns))
    path = REPORTS / f"{comfyui_version.__version__}.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else {}
    run = {name: {"class": _class_of(name) if "pass" in row.values() else None, "checks": row}
           for name, row in found.items() if len(row) == len(columns)}
    rows = {name: row for name, row in sorted({**earlier, **run}.items()) if name in cases.BY_NAME}
    if set(rows) == set(cases.BY_NAME):
        report = {
            "comfyui": comfyui_version.__version__,
            "labels": {name: label for name, (_, label) in FAMILIES.items()},
            "refused": REFUSED,
            "cases": rows,
        }
        REPORTS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        terminalreporter.write_line(f"written: {path}")
