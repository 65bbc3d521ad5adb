"""The benchmark commands run to their end on a toy."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_bench(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {"VSF, bias 0", "NAG", "NASA", "CFG"} <= {row["method"] for row in results["forward"]}
    assert {(row["negatives"], row["tokens"]) for row in results["attention"]} == {(1, 4), (2, 12)}
    assert all(row["time_ratio"] > 0 for part in ("forward", "attention") for row in results[part])
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert "| CFG |" in (tmp_path / "table.md").read_text()


def test_evidence(tmp_path):
    """One architecture, two methods; a second call finds all of it on disk."""
    command = [sys.executable, str(ROOT / "benchmarks" / "evidence.py"), "--quick", "--out", str(tmp_path),
               "--architectures", "flux", "--methods", "VSF", "NASA"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["method"] for row in results["sweep"]} == {"none", "VSF", "NASA"}
    assert len(results["sweep"]) == 1 + 2 * 8
    assert {"VSF", "no mask", "single blocks left out"} <= {row["method"] for row in results["ablations"]}
    assert len(results["mass"][0]["mass"][0]) == 3, "layers"
    assert "| NASA |" in (tmp_path / "table.md").read_text()
    for name in ("curves", "ablations", "grid-flux", "mass-flux"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
