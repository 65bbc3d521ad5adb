"""dev.py's set-up in the parts that need no network, and the promise that no server is left behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dev_setup
import pytest
from comfy_server import ROOT

spec = importlib.util.spec_from_file_location("vsf_dev", ROOT / "dev.py")
dev = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dev)


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """dev.py in a process of its own."""
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | variables, timeout=600)


def test_help_names_every_command() -> None:
    done = call("--help")
    assert done.returncode == 0
    assert all(f"dev.py {name}" in done.stdout for name in dev.COMMANDS)
    assert call("nonsense").returncode == 2


def test_needs_nothing_but_python() -> None:
    """The set-up runs before there is any package: without site-packages, and without this folder on the path."""
    code = f"import runpy; runpy.run_path({str(ROOT / 'dev.py')!r}, run_name='dev')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_wrong_comfyui_path_is_said(tmp_path: Path) -> None:
    done = call("demo", COMFYUI_PATH=str(tmp_path))
    assert done.returncode == 1
    assert "not a ComfyUI folder" in done.stdout
    assert "Traceback" not in done.stderr


def test_unknown_version_is_said() -> None:
    done = call("demo", COMFYUI_PATH="", COMFYUI_VERSION="9.9.9")
    assert done.returncode == 1
    assert "0.30.0" in done.stdout


def test_requirements_leave_torch_out(tmp_path: Path) -> None:
    lines = [
        "torch",
        "torchvision",
        "torchaudio",
        "torchsde",
        "numpy>=1.25.0",
        "",
        "#non essential dependencies:",
        "kornia>=0.7.1",
    ]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    assert dev_setup.requirements(tmp_path) == ["torchsde", "numpy>=1.25.0", "kornia>=0.7.1"]


def test_torchvision_block_is_harmless_where_operators_exist() -> None:
    code = dev_setup.BLOCK + dev_setup.BLOCK.replace("_vsf_library", "_vsf_other")
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=600).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="uses a POSIX signal")
def test_server_ends_with_its_starter(tmp_path: Path) -> None:
    """Killed without a chance to clean up, the starter leaves no server running."""
    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.append(sys.argv[1])\n"
        "from comfy_server import ComfyServer\n"
        "server = ComfyServer(Path(sys.argv[2]), {}, testbed=False); server.start()\n"
        "print(server.port, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "tools"), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == -signal.SIGKILL, done.stderr
    end = time.monotonic() + 120
    while time.monotonic() < end and listens(int(done.stdout)):
        time.sleep(0.2)
    assert not listens(int(done.stdout))


def listens(port: int) -> bool:
    """Whether somebody answers on the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
