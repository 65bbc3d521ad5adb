"""`python dev.py comfy`: the real ComfyUI with this pack and the testbed models, until Ctrl+C.

Its base directory is comfy-home/ in the repository (ignored by git): workflows and pictures saved in it stay. Further
words go to ComfyUI's command line.
"""

from __future__ import annotations

import signal
import sys

import torch
from comfy_server import PACK, PACK_SOURCE, ROOT, ComfyServer, ServerError


def device() -> tuple[str, ...]:
    """ComfyUI's switch for the CPU where torch has nothing better."""
    mps = torch.backends.mps.is_available()
    return () if torch.cuda.is_available() or mps else ("--cpu",)


def main(arguments: list[str]) -> int:
    """Start, print the address, wait."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("[comfy] starting ...", flush=True)
    try:
        with ComfyServer(ROOT / "comfy-home", {PACK: PACK_SOURCE}, arguments=(*device(), *arguments)) as server:
            print(f"[comfy] ComfyUI with VSF: {server.address}")
            print("[comfy] the demo: Templates (left bar) > EXTENSIONS > vsf-testbed. For real models: comfy-home/models, or")
            print("[comfy] --extra-model-paths-config FILE. Ctrl+C stops it.", flush=True)
            return server.process.wait()
    except ServerError as error:
        print(f"[comfy] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("[comfy] stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
