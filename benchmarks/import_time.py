"""What starting ComfyUI with VSF costs: the time to import the pack and to list its nodes, beyond PyTorch and ComfyUI.

    python dev.py bench-import [PROCESSES]      20 without

Each is a fresh process that has ComfyUI's own modules, as it has them when it begins with custom nodes (main.py, nodes.py).
Beside the time on the clock stands that of the processor, which a busy machine does not lengthen.
"""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST = 0.05  # seconds

CHILD = """
import asyncio, gc, importlib.util, json, sys, time
comfyui, pack = sys.argv[1:]
sys.path.insert(0, comfyui)
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import torch, nodes, server, execution, comfy_api.latest, comfy_execution.progress, comfy_execution.utils
known = set(sys.modules)
gc.collect()
wall, processor = time.perf_counter(), time.process_time()
spec = importlib.util.spec_from_file_location("vsf_guidance", pack + "/__init__.py", submodule_search_locations=[pack])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

async def listed():
    return [node.GET_SCHEMA().node_id for node in await (await module.comfy_entrypoint()).get_node_list()]
found = asyncio.run(listed())
times = time.perf_counter() - wall, time.process_time() - processor
others = sorted(name for name in set(sys.modules) - known if not name.startswith("vsf_guidance"))
print(json.dumps([*times, found, others]))
"""


def measure() -> tuple[float, float, list[str], list[str]]:
    """Of one process: seconds, seconds of the processor, the nodes, and others' modules that came with them."""
    command = [sys.executable, "-c", CHILD, os.environ["COMFYUI_PATH"], str(ROOT)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=os.environ["COMFYUI_PATH"],
                          env=environment)
    wall, processor, found, others = json.loads(done.stdout.splitlines()[-1])
    return wall, processor, found, others


def main(arguments: list[str]) -> int:
    """Prints one line; 1 where the processor's median is not below MOST."""
    measure()  # writes the compiled files, as an installation does
    runs = [measure() for _ in range(int(arguments[0]) if arguments else 20)]
    wall, processor = (statistics.median(run[i] for run in runs) for i in (0, 1))
    print(f"import of {len(runs[0][2])} nodes: median of {len(runs)} processes {wall * 1000:.1f} ms "
          f"({min(run[0] for run in runs) * 1000:.1f} to {max(run[0] for run in runs) * 1000:.1f}), "
          f"of the processor {processor * 1000:.1f} ms; others' modules: {', '.join(runs[0][3]) or 'none'}")
    return int(processor >= MOST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
