"""Chooses what a plain run leaves out. Collects one table, family x check, from what the tests here found: shown at the end of
a run, and written for tools/support_table.py, which makes docs/families.md of it."""
from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import cases
import comfyui_version
import pytest
import vsf
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
# What a plain run (without vsf.EVERY) leaves out, half of the tests. No comparison is looser.
# - The mutants ask whether a reference with a rule broken is told from the true one. They run the reference alone, and turn on
#   what it is told of a model (Case.told): one case of each kind in a file has them.
# - Settings do not meet lengths and CFGs in every pair. Each case of those has both lengths, CFG 1 and 3, one negative and two,
#   with bias and without; the second of PAIRS is the mutants' truth too. Cases that are told the same have the last of them,
#   and so it is with the context rule: two negatives in a batch. Off is off at CFG 3 in all of them, by the paper's rule; at
#   CFG 1 and by the context rule in one of a kind.
PAIRS = [("beta 0", 3, 3.0), ("two negatives", 3, 1.0), ("two negatives", 12, 3.0)]
OF_A_KIND: dict[str, tuple[str, Any] | None] = {  # and the parameter of what every case has
    "test_a_wrong_mask_row_or_sign_would_be_seen": None,
    "test_a_wrong_rule_would_be_seen": None,
    "test_the_prompt_once_more_changes_nothing": None,
    "test_context_off": None,
    "test_off": ("cfg", 3.0),
    "test_context_equals_the_reference": ("setting", "two"),
}
REPORTS = Path(os.environ.get("VSF_REPORTS") or Path(__file__).resolve().parents[2] / ".cache" / "families")
found: dict[str, dict[str, str]] = {}


@functools.cache
def of_a_kind() -> set[str]:
    """The names of the cases of which there is one of a kind, in a file."""
    first = {}
    for file, own in cases.FILES.items():
        for case in own:
            if case.exists:
                first.setdefault((file, case.told), case.name)
    return set(first.values())


def is_left_out(item: pytest.Item) -> bool:
    """Of a plain run."""
    name, params = getattr(item, "originalname", ""), getattr(getattr(item, "callspec", None), "params", {})
    if name == "test_equals_the_reference":
        pairs = PAIRS if params["case"].name in of_a_kind() else PAIRS[-1:]
        return (params["settings"], params["length"], params["cfg"]) not in pairs
    if name not in OF_A_KIND or params["case"].name in of_a_kind():
        return False
    of_all = OF_A_KIND[name]
    return of_all is None or params[of_all[0]] != of_all[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if vsf.EVERY:
        return
    own = Path(__file__).parent
    left_out = [item for item in items if own in item.path.parents and is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


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
