"""Makes the ComfyUI that the environment variable COMFYUI_PATH names importable, for use without its server.

Import this module before any `import comfy...`. ComfyUI reads its command line when `comfy.cli_args` is first
imported and picks its device when `comfy.model_management` is, so both are settled here, in this order.
"""

from __future__ import annotations

import importlib
import os
import sys

import torch


def _define_torchvision_operators() -> None:
    """PyPI's torchvision is built against CUDA; with a CPU torch its two fake registrations need operators to
    exist.
    """
    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    global _LIBRARY  # the definitions live as long as this object
    _LIBRARY = library


def setup() -> None:
    """Idempotent. Raises RuntimeError where COMFYUI_PATH is missing or wrong."""
    if "comfy" in sys.modules:
        return
    root = os.environ.get("COMFYUI_PATH", "")
    if not os.path.isfile(os.path.join(root, "comfy", "sd.py")):
        raise RuntimeError(f"COMFYUI_PATH must name a ComfyUI folder (the one with comfy/sd.py in it), not {root!r}")
    _define_torchvision_operators()
    sys.path.insert(0, root)
    importlib.import_module("comfy.options").enable_args_parsing(False)
    arguments = importlib.import_module("comfy.cli_args").args
    arguments.cpu = not torch.cuda.is_available()
    arguments.force_fp32 = True  # a GPU's default is half precision: so the testbed is the same model everywhere
    arguments.use_pytorch_cross_attention = True  # twice as fast as a CPU's default (sub-quadratic), the same result


setup()
