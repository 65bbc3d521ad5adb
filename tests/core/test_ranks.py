"""Attention shared out over ranks, as in sequence parallelism (xDiT, raylight): each image token's result is that of one rank,
by both rules and both forms."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

RANKS = Path(__file__).resolve().parents[1] / "helpers" / "ranks.py"


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo")
def test_two_ranks_give_what_one_gives(tmp_path):
    done = subprocess.run([sys.executable, str(RANKS), str(tmp_path / "store")], capture_output=True, text=True, timeout=600,
                          check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name.split(", ")[0] for name in found} == {"gather", "ring", "ulysses"}
    assert {name.split(", ")[2] for name in found} == {"paper", "contexts", "both"}
    assert {name: error for name, error in found.items() if error > 1e-6} == {}
