"""What the registry's zip has: git's files, less those that .comfyignore names (comfy-cli's file_utils.py, zip_files)."""
from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def shipped() -> tuple[PurePosixPath, ...]:
    """Paths from the pack's folder. Skips the test where that is no git checkout."""
    def listed(*options: str) -> set[str]:
        return set(subprocess.run(["git", "ls-files", "-z", "--cached", *options], cwd=ROOT, check=True, capture_output=True,
                                  encoding="utf-8").stdout.split("\0")) - {""}
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return tuple(PurePosixPath(p) for p in sorted(listed() - listed("--ignored", "--exclude-from=.comfyignore")))


def sources() -> list[PurePosixPath]:
    """The Python files among them."""
    return [path for path in shipped() if path.suffix == ".py"]
