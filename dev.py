"""Developer commands of VSF for ComfyUI. Needs nothing but Python 3.10 to 3.13; the first call sets everything else up.

    python dev.py demo         the demo workflow in the real ComfyUI: pictures without a negative and with VSF Prompt
    python dev.py test [...]   every test; further words go to pytest (a file, -k name, ...)
    python dev.py versions [...]  the tests of the mathematics and of every family on several ComfyUI versions (default: all
                                that dev_setup.py knows), and from them docs/families.md with the support table
    python dev.py comfy [...]  leaves the real ComfyUI running with this pack and the testbed models; Ctrl+C stops it
    python dev.py train [...]  trains the testbed's models again
    python dev.py evaluate [...]  counts, on many pictures, what the negative removes and what it spares
    python dev.py bench [...]  what a negative costs, VSF and others side by side
    python dev.py bench-import  what the pack adds to ComfyUI's start, in 20 fresh processes
    python dev.py evidence [...]  VSF and its rivals over the testbed, strength by strength
    python dev.py heat [...]   where VSF Prompt acts in the testbed's pictures, by VSF Heat Map
    python dev.py where [...]  what a mask does: two cars side by side, the wheels taken off the left one alone
    python dev.py several [...]  several negatives: as lines, as one long negative, as chained nodes
    python dev.py check [...]  types, coverage and mutation testing: the figures of docs/checked.md
    python dev.py thumbnails   makes the pictures of the template cards again
    python dev.py help-pictures  makes the pictures of the nodes' help pages again
    python dev.py setup        the set-up alone

Set-up (tools/dev_setup.py) makes .venv here and puts ComfyUI into a cache folder outside the clone. Environment variables that
it obeys:
    COMFYUI_PATH     an existing ComfyUI folder to use instead of fetching one
    COMFYUI_VERSION  another version of its table COMFYUI (default: the first); it shares .venv with the default, and what it
                     pins otherwise lies in a folder of its own in the cache
    VSF_CACHE        the cache folder (default: vsf-comfyui in the user's cache folder)
    VSF_TORCH        what to give to pip instead of torch, torchvision and torchaudio as pinned, for a special build
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))
from dev_setup import COMFYUI, NEWEST, OLDEST, PYTHON, ROOT, Trouble, call, say, setup  # noqa: E402


def script(*parts: str):
    """A command that runs one Python file of the repository in .venv."""

    def command(arguments: list[str]) -> int:
        return call([str(PYTHON), str(ROOT.joinpath(*parts)), *arguments], setup())

    return command


def tool(name: str) -> str:
    """A console script of .venv."""
    return str(PYTHON.with_name(f"{name}{PYTHON.suffix}"))


def pytest(arguments: list[str], folder: Path) -> int:
    """Pytest through its console script: `python -m pytest` would put this folder on sys.path, where nodes/ hides
    ComfyUI's nodes.py. Unless told otherwise, two processes share the tests (tests/conftest.py says which stay
    together), with one thread each: tiny models gain nothing from more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    shared = [] if "-n" in arguments else ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder"]
    return call([tool("pytest"), *shared, *arguments], folder)


def test(arguments: list[str]) -> int:
    """Ruff over everything, then pytest. Pytest comes last, so that its closing line is the last line."""
    folder = setup()
    lint = call([tool("ruff"), "check", str(ROOT)], folder)
    return pytest(arguments, folder) or lint


VERSION_TESTS = ("tests/core", "tests/glue", "tests/families", "tests/nodes")


def versions(arguments: list[str]) -> int:
    """The same tests on each version of ComfyUI, then the tables that are made from what they found."""
    os.environ["VSF_EVERY"] = "1"  # tests/families/conftest.py: what a plain run leaves out
    results = {}
    for version in arguments or COMFYUI:
        os.environ["COMFYUI_VERSION"] = version
        folder = setup()
        say(f"[versions] ComfyUI {version}")
        results[version] = pytest(["-q", *VERSION_TESTS], folder)
    os.environ.pop("COMFYUI_VERSION")
    for version, code in results.items():
        say(f"[versions] ComfyUI {version}: {'passed' if code == 0 else f'failed ({code})'}")
    failed = next(filter(None, results.values()), 0)  # -9 where a run was killed
    return failed or call([str(PYTHON), str(ROOT / "tools" / "support_table.py")], setup())


def only_setup(arguments: list[str]) -> int:
    """The set-up alone."""
    setup()
    return 0


COMMANDS = {
    "demo": script("tools", "demo.py"),
    "test": test,
    "versions": versions,
    "bench": script("benchmarks", "speed.py"),
    "bench-import": script("benchmarks", "import_time.py"),
    "evidence": script("benchmarks", "evidence.py"),
    "heat": script("benchmarks", "heat.py"),
    "where": script("benchmarks", "where.py"),
    "several": script("benchmarks", "several.py"),
    "comfy": script("tools", "run_comfyui.py"),
    "train": script("testbed", "train.py"),
    "evaluate": script("testbed", "evaluate.py"),
    "check": script("tools", "check.py"),
    "thumbnails": script("tools", "thumbnails.py"),
    "help-pictures": script("tools", "help_pictures.py"),
    "setup": only_setup,
}


def main(arguments: list[str]) -> int:
    """Pick the command; show the help when there is none."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"], ["help"]) else 2
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        say(f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, this is {sys.version.split()[0]}.")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except Trouble as trouble:
        say(str(trouble))
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
