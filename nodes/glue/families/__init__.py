"""Which models VSF knows, and the adapter of each.

An adapter tells two things: why a particular model cannot be used (`refuse`), and where the negatives' tokens go in a
call of it (`lengthen`). Adapters are imported when their model is met, so that a class that ComfyUI moves can stop
one family and never the pack.
"""
from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ....vsf_core.layout import JointLayout, Negative

# class of BaseModel.diffusion_model -> (adapter module, what users call it)
FAMILIES = {
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": ("sd3", "SD3, SD3.5"),
    "comfy.ldm.flux.model.Flux": ("flux", "Flux.1 (schnell, dev, Kontext, Fill, Krea)"),
}


@dataclass
class ModelCall:
    """One call of BaseModel.apply_model, ours to change. x: (B, C, ...), context: (B, LP, C), conds: the other inputs."""
    base_model: Any
    x: Tensor
    context: Tensor
    conds: dict[str, Any]


class Family(Protocol):
    """What a module in this package provides."""

    def refuse(self, base_model: Any) -> str | None:
        """Why this BaseModel cannot take a negative, as the rest of a sentence; None when it can."""

    def lengthen(self, call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> JointLayout:
        """Put each negative's tokens, (B, LN, C), into the call; return where everything then stands in attention."""


def find_family(base_model: Any) -> Family:
    """The adapter for a BaseModel. Raises ValueError, for the user to read, when there is none."""
    model = base_model.diffusion_model
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    known = "; ".join(label for _, label in FAMILIES.values())
    if name not in FAMILIES:
        raise ValueError(f"VSF: this model ({type(base_model).__name__}, {type(model).__name__}) is not supported. "
                         f"Supported: {known}. Remove or bypass the VSF Guidance node for this model.")
    family: Any = importlib.import_module(f".{FAMILIES[name][0]}", __package__)
    if reason := family.refuse(base_model):
        raise ValueError(f"VSF: this model ({type(base_model).__name__}) is not supported: {reason}. "
                         f"Supported: {known}. Remove or bypass the VSF Guidance node for this model.")
    return family
