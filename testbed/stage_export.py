"""Stage `export`: writes testbed/weights/*.safetensors in float16, in the key layouts that ComfyUI's loaders
recognise.
"""

from __future__ import annotations

import stage_ae
import stage_flow
import stage_students
import torch
from safetensors.torch import save_file
from student import STUDENTS
from workspace import Workspace, log

LIMIT = 25e6  # bytes, all files of the default model together


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()
    }


def run(work: Workspace) -> None:
    model = stage_flow.load(work, "settle.pt", "settle", torch.float32)
    files = {
        "vsf_testbed_sd3": _half(model.denoiser.state_dict()),
        "vsf_testbed_text": _half(model.text.state_dict()),
        "vsf_testbed_vae": _half(stage_ae.load(work, torch.float32).state_dict()),
        "vsf_testbed_scorer": _half(work.require("scorer.pt", "scorer")),
    }
    others = {kind.name: _half(stage_students.load(work, kind).network.state_dict()) for kind in STUDENTS.values()}
    work.weights.mkdir(parents=True, exist_ok=True)
    size = 0
    for name, state in files.items():
        path = work.weights / f"{name}.safetensors"
        save_file(state, path, metadata={"format": "pt", "title": f"VSF for ComfyUI: {name}", "seed": str(work.seed)})
        size += path.stat().st_size
        log.info("%s: %.2f MB", path.name, path.stat().st_size / 1e6)
    for name, state in others.items():
        metadata = {"format": "pt", "seed": str(work.seed), **STUDENTS[name].metadata}
        save_file(state, work.weights / f"vsf_testbed_{name}.safetensors", metadata=metadata)
    if size > LIMIT:
        raise RuntimeError(f"the weights take {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f} MB")
