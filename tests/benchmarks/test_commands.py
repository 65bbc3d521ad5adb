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
    assert {"VSF, bias 0", "VSF context", "NAG", "NASA", "CFG"} <= {row["method"] for row in results["forward"]}
    assert {(row["negatives"], row["tokens"]) for row in results["attention"]} == {(1, 4), (2, 12)}
    assert all(row["time_ratio"] > 0 for part in ("forward", "attention") for row in results[part])
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert "| CFG |" in (tmp_path / "table.md").read_text()


def test_evidence(tmp_path):
    """One architecture, one method; a second call finds all of it on disk."""
    command = [sys.executable, str(ROOT / "benchmarks" / "evidence.py"), "--quick", "--out", str(tmp_path),
               "--architectures", "flux", "--methods", "VSF", "--processes", "1"]
    written = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
        written.append({file: file.stat().st_mtime_ns for file in (tmp_path / "counts").iterdir()})
    assert written[0] == written[1]
    results = json.loads((tmp_path / "results.json").read_text())
    methods = {"none", "VSF"}
    assert len(results["sweep"]) == 1 + 8
    assert {row["method"] for row in results["shared"]} == {row["method"] for row in results["own"]} == methods
    assert {row["negative"] for row in results["irrelevant"]} == {"another subject's part", "an unknown word", "nothing"}
    nothing = [row for row in results["irrelevant"] if row["negative"] == "nothing" and row["method"] == "VSF"]
    assert [row["moved"] for row in nothing] == [0.0], "off is off"
    assert {"VSF", "no mask", "single blocks left out"} <= {row["method"] for row in results["ablations"]}
    assert len({pairs["seed"] for pairs in results["pairs"].values()}) == 3, "tuning pairs are not report pairs"
    assert len(results["mass"][0]["mass"][0]) == 3, "layers"
    text = (tmp_path / "table.md").read_text()
    assert "| VSF |" in text and "python dev.py evidence --quick" in text
    for name in ("curves", "ablations", "grid-flux", "mass-flux"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_where(tmp_path):
    """Two pictures of two cars: without a negative all wheels are there, without a mask none are, with it the right car's."""
    sheet = tmp_path / "sheet.png"
    command = [sys.executable, str(ROOT / "benchmarks" / "where.py"), "--count", "2", "--sheet", str(sheet)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {name: values for name, *values in (line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])}
    plain, everywhere, masked = (rows[name] for name in ("no negative", "negative, no mask", "negative, mask on the left"))
    assert plain[1:] == ["0.00", "1.00", "1.00", "0.00", "0.00"]
    assert everywhere[1:4] == ["1.00", "0.00", "1.00"]
    assert masked[0].startswith("1.00") and masked[1:4] == ["1.00", "1.00", "1.00"]
    left, right = map(float, masked[4:])
    assert right < 0.1 * left, "the right half changed too"
    assert sheet.stat().st_size > 1000


def test_heat():
    """docs/measured.md's claim with a margin, by the command itself: VSF Prompt acts more where the part would be drawn."""
    command = [sys.executable, str(ROOT / "benchmarks" / "heat.py"), "--each", "1", "--architectures", "sd3", "wan"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    rows = {cells[0]: cells[1:] for cells in lines[2:]}
    for architecture, least in {"sd3": 1.9, "wan": 1.3}.items():
        pictures, elsewhere, more, body, _ = rows[architecture]
        assert pictures == more == "8", "in every picture"
        assert float(elsewhere.split("(")[1].split(" to ")[0]) >= least, "of the interval, the lower end"
        assert float(body.split()[0]) > 1, "also over the rest of the subject"


def test_several(tmp_path):
    """Four negatives as lines are what four nodes are."""
    command = [sys.executable, str(ROOT / "benchmarks" / "several.py"), "--count", "2", "--architectures", "sd3"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {name: values for _, name, *values in (line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])}
    assert rows["lines"] == rows["chained"] and set(rows) == {"alone", "lines", "one text", "chained"}
    assert rows["alone"][1:3] == ["1.00", "1.00"]
