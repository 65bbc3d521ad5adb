"""Stage `export`: writes testbed/weights/*.safetensors in float16, in the key layouts that ComfyUI's loaders
recognise.
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from . import stage_ae, stage_flow
from .workspace import Workspace, log

LIMIT = 25e6  # bytes, all files together


def write(work: Workspace, name: str, state: dict[str, torch.Tensor], **metadata: str) -> int:
    """One file of weights/ in float16. Returns its size in bytes."""
    half = {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in state.items()}
    work.weights.mkdir(parents=True, exist_ok=True)
    path = work.weights / f"{name}.safetensors"
    save_file(half, path, metadata={"format": "pt", "title": f"VSF for ComfyUI: {name}", "seed": str(work.seed), **metadata})
    log.info("%s: %.2f MB", path.name, path.stat().st_size / 1e6)
    return path.stat().st_size


def run(work: Workspace) -> None:
    model = stage_flow.load(work, "settle.pt", "settle", torch.float32)
    size = (
        write(work, "vsf_testbed_sd3", model.denoiser.state_dict())
        + write(work, "vsf_testbed_text", model.text.state_dict())
        + write(work, "vsf_testbed_vae", stage_ae.load(work, torch.float32).state_dict())
        + write(work, "vsf_testbed_scorer", work.require("scorer.pt", "scorer"))
    )
    if size > LIMIT:
        raise RuntimeError(f"the weights take {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f} MB")
