"""Start the real ComfyUI server on a free loopback port, put packs and models into it, queue prompts, read pictures.

Standard library only: the tests, the demo and `dev.py comfy` share it. Every server has a base directory of its own (models,
custom_nodes, input, output, user, database), so nothing of an existing installation is read or written.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = "vsf-guidance"  # the folder's name after an installation from the registry
TESTBED_PACK = "vsf-testbed"
TESTBED_MODELS = {
    "diffusion_models": "vsf_testbed_sd3.safetensors",
    "vae": "vsf_testbed_vae.safetensors",
    "text_encoders": "vsf_testbed_text.safetensors",
}
NOT_MODELS = ("vsf_testbed_scorer.safetensors",)  # for ComfyUI; what else lies beside them is another architecture's
# For work on this file alone: another pack and testbed in place of this repository's.
PACK_SOURCE = Path(os.environ.get("VSF_PACK_SOURCE", ROOT))
TESTBED_SOURCE = Path(os.environ.get("VSF_TESTBED_SOURCE", ROOT / "testbed"))
# Where links cannot be made, the pack is copied: what it needs at run time, and not .venv or .git.
SHIPPED = (
    "__init__.py",
    "pyproject.toml",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "nodes",
    "vsf_core",
    "web",
    "workflows",
    "locales",
    "subgraphs",
)


PORT_TAKEN = re.compile(r"address already in use|WinError 10048|error while attempting to bind", re.IGNORECASE)


class ServerError(RuntimeError):
    """The server did not start, refused a prompt, or a prompt failed."""


class PromptRefused(ServerError):
    """ComfyUI did not accept a prompt; `node_errors` is its answer, by node id."""

    def __init__(self, message: str, node_errors: dict) -> None:
        super().__init__(message)
        self.node_errors = node_errors


def place(source: Path, target: Path) -> None:
    """Make `source` appear at `target`: a link, a junction where Windows grants no links, or a copy. An earlier one goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
        return
    except OSError:
        pass
    if source.is_file():
        shutil.copyfile(source, target)
        return
    try:
        import _winapi

        _winapi.CreateJunction(str(source), str(target))
    except (ImportError, OSError):
        copy_pack(source, target)


def remove(target: Path) -> None:
    """Take away what `place` has made."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        try:
            target.rmdir()  # a junction: what it leads to stays
        except OSError:
            shutil.rmtree(target)


def copy_pack(source: Path, target: Path) -> None:
    """A copy of a pack: of this repository only what ships, of another folder everything."""
    if source != ROOT:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    target.mkdir(parents=True)
    for name in SHIPPED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def place_testbed(base: Path) -> None:
    """The testbed's mini pack and its weights, as a user would put them into ComfyUI's folders."""
    place(TESTBED_SOURCE / "comfy_pack", base / "custom_nodes" / TESTBED_PACK)
    weights = TESTBED_SOURCE / "weights"
    for name in TESTBED_MODELS.values():
        if not (weights / name).is_file():
            raise ServerError(f"{weights / name} is missing: `python dev.py train` makes it.")
    folders = {name: folder for folder, name in TESTBED_MODELS.items()} | dict.fromkeys(NOT_MODELS)
    for file in weights.glob("*.safetensors"):
        if folder := folders.get(file.name, "diffusion_models"):
            place(file, base / "models" / folder / file.name)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on. Somebody else may take it before we do: see `start`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer:
    """A running ComfyUI, stopped on leaving the `with` block; it also ends by itself when this process dies.

    `packs` maps folder names in custom_nodes to the folders that appear there; only these are loaded.
    """

    def __init__(
        self,
        base: Path,
        packs: dict[str, Path],
        *,
        arguments: tuple[str, ...] = ("--cpu",),
        testbed: bool = True,
        comfyui: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.base, self.packs, self.arguments, self.testbed, self.port = base, packs, arguments, testbed, port
        self.comfyui = comfyui or Path(os.environ["COMFYUI_PATH"])
        self.log_file = base / "server.log"
        self.start_log = ""  # what it wrote until it answered
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ComfyServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def start(self, seconds: float = 600, tries: int = 3) -> None:
        """Place everything, start the process and wait until it answers. Where no port was asked for and another process took
        the one that was free, once more with another."""
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, source in self.packs.items():
            if (target := self.base / "custom_nodes" / name) != source:
                place(source, target)
        if self.testbed:
            place_testbed(self.base)
        is_ours = self.port is None
        for left in reversed(range(tries if is_ours else 1)):
            self.port = free_port() if is_ours else self.port
            try:
                return self._start_on_port(seconds)
            except ServerError:
                self.stop()
                if not left or not PORT_TAKEN.search(self.log()):
                    raise

    def _start_on_port(self, seconds: float) -> None:
        loaded = [*self.packs, *([TESTBED_PACK] if self.testbed else [])]
        command = [
            sys.executable, str(Path(__file__).resolve()), str(self.comfyui / "main.py"),
            "--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base), "--disable-auto-launch",
            "--database-url", f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}", "--disable-api-nodes",
            "--disable-all-custom-nodes", *(["--whitelist-custom-nodes", *loaded] if loaded else []), *self.arguments,
        ]  # fmt: skip
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.comfyui, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )
        begin = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI ended at start (exit status {self.process.returncode}).\n{self.log_tail()}")
            if self._answers():
                self.start_log = self.log()
                return
            if time.monotonic() - begin > seconds:
                raise ServerError(f"ComfyUI did not answer within {seconds:.0f} s.\n{self.log_tail()}")
            time.sleep(0.3)

    def _answers(self) -> bool:
        """Whether our own process answers, and not another ComfyUI on this port: each tells the command line it has."""
        try:
            return str(self.base) in json.loads(self.get("/system_stats", timeout=30))["system"]["argv"]
        except (OSError, ValueError, KeyError):
            return False

    def stop(self) -> None:
        """End the process and wait for its end. Safe to call twice."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.process = None

    def log(self) -> str:
        """Everything the server has written."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.is_file() else ""

    def log_tail(self, lines: int = 30) -> str:
        """The log's end, and where the whole is."""
        return "\n".join([*self.log().splitlines()[-lines:], f"The whole log: {self.log_file}"])

    def get(self, path: str, timeout: float = 300) -> bytes:
        """The body of a GET; urllib's HTTPError for anything but success."""
        with urllib.request.urlopen(self.address + path, timeout=timeout) as answer:
            return answer.read()

    def get_json(self, path: str) -> dict:
        """The same as JSON."""
        return json.loads(self.get(path))

    def queue(self, prompt: dict) -> str:
        """Queue a prompt in API format; its id, or PromptRefused."""
        body = json.dumps({"prompt": prompt, "client_id": "vsf"}).encode()
        request = urllib.request.Request(self.address + "/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                node_errors = json.loads(text).get("node_errors", {})
            except ValueError:
                node_errors = {}
            raise PromptRefused(f"ComfyUI refused the prompt: {text}", node_errors) from None
        if found.get("node_errors"):  # some outputs are wrong: ComfyUI runs the others
            self.wait(found["prompt_id"])
            raise PromptRefused(f"ComfyUI refused a part of the prompt: {found['node_errors']}", found["node_errors"])
        return found["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 600) -> dict:
        """Wait for a queued prompt's end; its outputs by node id. ServerError carries the message of a failed node."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if self.process is not None and self.process.poll() is not None:
                raise ServerError(f"ComfyUI ended (exit status {self.process.returncode}).\n{self.log_tail()}")
            entry = self.get_json(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                for kind, detail in entry["status"]["messages"]:
                    if kind in ("execution_error", "execution_interrupted"):
                        where = f"{detail.get('node_type')} ({detail.get('node_id')})"
                        raise ServerError(f"{where}: {detail.get('exception_message', kind)}")
                return entry["outputs"]
            time.sleep(0.2)
        raise ServerError(f"The prompt did not end within {seconds:.0f} s.\n{self.log_tail()}")

    def run(self, prompt: dict, seconds: float = 600) -> dict[str, list[bytes]]:
        """Queue a prompt and wait; the PNG files that each node saved, by node id."""
        outputs = self.wait(self.queue(prompt), seconds)
        return {
            node: [self.picture(image) for image in found["images"]] for node, found in outputs.items() if "images" in found
        }

    def picture(self, image: dict) -> bytes:
        """A saved picture's file."""
        return self.get("/view?" + urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")}))


def run_while_wanted(main: Path) -> None:
    """Run ComfyUI's main.py in this process, but no longer than the starter lives: its end closes the pipe to us."""

    def watch(leave: Callable[[int], None] = os._exit) -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock would disturb the end of the interpreter
        leave(0)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(main.parent)
    runpy.run_path(str(main), run_name="__main__")


if __name__ == "__main__":
    run_while_wanted(Path(sys.argv[1]))
