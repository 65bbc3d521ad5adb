"""The support table says what the tests found, and names every family."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import cases
import pytest
from vsf_pack.nodes.glue.families import FAMILIES, REFUSED

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import support_table  # noqa: E402


@pytest.fixture
def findings() -> dict:
    return json.loads(support_table.FINDINGS.read_text(encoding="utf-8"))


def test_page_is_made_of_the_findings(findings):
    assert support_table.PAGE.read_text(encoding="utf-8") == support_table.page(findings)


def test_readme_counts_the_families(findings):
    """README has one line about them; each line of the table is one."""
    count = len(set(next(iter(findings.values()))["labels"].values()))
    assert f"{count} lines of the table" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_findings_are_of_this_code(findings):
    """The newest version's findings name just the families, refusals and cases that are here; run `python dev.py versions`."""
    version, newest = next(iter(findings.items()))
    if support_table.as_numbers(version) > cases.VERSION:
        pytest.skip("an older ComfyUI has fewer cases")
    assert newest["labels"] == {name: label for name, (_, label) in FAMILIES.items()}
    assert newest["refused"] == REFUSED
    assert set(newest["cases"]) == set(cases.BY_NAME)


def test_nothing_fails(findings):
    """Every case passes every check in the newest ComfyUI, if that has its model, and in each older one that has it."""
    newest = next(iter(findings.values()))
    for name, case in newest["cases"].items():
        is_newer = name in cases.BY_NAME and cases.BY_NAME[name].newer
        assert support_table.verdict(case["checks"]) in ({"pass", "-"} if is_newer else {"pass"}), name
    for version, report in findings.items():
        failed = [n for n, case in report["cases"].items() if support_table.verdict(case["checks"]) == "FAIL"]
        assert not failed, f"{version}: {failed}"
