"""Which models VSF knows, and the adapter of each.

An adapter tells two things: why a particular model cannot be used (`refuse`), and where the negatives' tokens go in a
call of it (`lengthen`). Adapters are imported when their model is met, so that a class that ComfyUI moves can stop
one family and never the pack.
"""
from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ....vsf_core.layout import Layout, Negative
from ..conditioning import NegativePrompt

# class of BaseModel.diffusion_model -> (adapter module, what users call it)
FAMILIES = {
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": ("sd3", "SD3, SD3.5"),
    "comfy.ldm.flux.model.Flux": ("flux", "Flux.1, Flux.2"),
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": ("qwen_image", "Qwen-Image"),
    "comfy.ldm.krea2.model.SingleStreamDiT": ("krea2", "Krea 2"),
    "comfy.ldm.wan.model.WanModel": ("wan", "Wan 2.1, 2.2"),
}

# class of BaseModel.diffusion_model that takes text -> why VSF cannot work in it, as the rest of a sentence
REFUSED: dict[str, str] = {}


TEXT = "text"
Encoded = dict[str, Tensor]
"""One negative as its model takes it: TEXT, (B, LN, C), and what else a family's `encode` needs in its `lengthen`."""


@dataclass
class ModelCall:
    """One call of BaseModel.apply_model, ours to change.

    x: (B, C, ...), latents; conds: its other inputs, the text (B, LP, C) among them; negatives: all that was encoded of
    each; transformer_options: as they come, to read; options: to put into them for this call.
    """
    base_model: Any
    x: Tensor
    conds: dict[str, Any]
    text_key: str = "c_crossattn"
    negatives: list[Encoded] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    transformer_options: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> Tensor | None:
        """The text, (B, LP, C)."""
        return self.conds.get(self.text_key)

    @context.setter
    def context(self, text: Tensor) -> None:
        self.conds[self.text_key] = text


class Family(Protocol):
    """What a module in this package provides. It may also have

    TEXT_KEY         the name under which ComfyUI hands the text to the model, where that is not "c_crossattn"
    encode           (base_model, NegativePrompt) -> Encoded: what the model's extra_conds does to a prompt, done to a negative
    OBJECT_PATCHES   {path in the model: function from the object there to one in its place}, for what attention alone
                     cannot reach; what a replacement needs to know of a call, it finds in transformer_options
    """

    def refuse(self, base_model: Any) -> str | None:
        """Why this BaseModel cannot take a negative, as the rest of a sentence; None when it can."""

    def lengthen(self, call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
        """Put each negative's tokens, (B, LN, C), into the call; return how each kind of attention then looks."""


def text_key(family: Family) -> str:
    """The name under which ComfyUI hands the text to this family's models."""
    return getattr(family, "TEXT_KEY", "c_crossattn")


def plain_tokens(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """The default `encode`: the text encoder's output goes to the model as it is."""
    return {TEXT: prompt.tokens}


def find_family(base_model: Any) -> Family:
    """The adapter for a BaseModel. Raises ValueError, for the user to read, when there is none."""
    model = base_model.diffusion_model
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    reason, family = REFUSED.get(name), None
    if name in FAMILIES:
        family = importlib.import_module(f".{FAMILIES[name][0]}", __package__)
        reason = family.refuse(base_model)
    if family is None or reason:
        known = "; ".join(dict.fromkeys(label for _, label in FAMILIES.values()))
        raise ValueError(f"VSF: this model ({type(base_model).__name__}, {type(model).__name__}) is not supported"
                         f"{f': {reason}' if reason else ''}. Supported: {known}. Remove or bypass the VSF Guidance node for "
                         "this model.")
    return family
