"""A LoRA for the testbed's model: it stands in for the Lightning LoRAs in the workflows' twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from comfy_server import TESTBED_MODELS, TESTBED_SOURCE
from safetensors import safe_open
from safetensors.numpy import save_file
from testbed_workflows import LORA


def write_lora(models: Path) -> None:
    """Write it into a ComfyUI's `models` folder: random, and small enough that a picture stays a picture."""
    random, weights, rank = np.random.default_rng(0), {}, 4
    with safe_open(TESTBED_SOURCE / "weights" / TESTBED_MODELS["diffusion_models"], "np") as model:
        for name in model.keys():  # noqa: SIM118  not a mapping
            if name.endswith(("qkv.weight", "proj.weight")) and name.startswith("joint_blocks"):
                outputs, inputs = model.get_slice(name).get_shape()
                where = "diffusion_model." + name.removesuffix(".weight")
                weights[f"{where}.lora_down.weight"] = random.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
                weights[f"{where}.lora_up.weight"] = random.normal(0, 0.02, (outputs, rank)).astype(np.float32)
    (models / "loras").mkdir(parents=True, exist_ok=True)
    save_file(weights, models / "loras" / LORA)
