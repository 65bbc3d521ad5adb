"""VSF Guidance: a negative prompt inside attention (Value Sign Flip, arXiv 2508.10931)."""
from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from typing_extensions import override

from .aliases import ALIASES
from .glue.families import Family, find_family
from .glue.families.widths import text_width
from .glue.reading.conditioning import NegativePrompt, negative_prompts
from .glue.reading.tokens import UNPADDED
from .glue.said import node_id, say
from .glue.sampling.patch import attach
from .inputs import in_range, times


class VSFGuidance(io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFGuidance",
            display_name="VSF Guidance",
            category="advanced/guidance",
            description="Gives models that run at CFG 1 (turbo, schnell, lightning, distilled) a working negative prompt, in "
                        "one pass, with a scale to tune. Put it between the model and the sampler, and connect VSF Text "
                        "Encode to `negative`. Chain two for two negatives. VSF Prompt needs no tuning: begin with that.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The model to give a negative prompt to."),
                io.Conditioning.Input("negative", tooltip="What must not be in the picture, best from VSF Text Encode: a "
                                                          "thing in two to four words, such as `car wheels`."),
                io.Float.Input("scale", default=DEFAULT_SCALE, min=0.0, max=MAX_SCALE, step=0.05, round=0.001,
                               tooltip="Start here. More if the thing stays, less if the picture breaks, in steps of 0.5. 0 is "
                                       "off, exactly. The help page has a starting value for each model."),
                io.Float.Input("bias", default=DEFAULT_BIAS, min=0.0, max=MAX_BIAS, step=0.05, round=0.001,
                               tooltip="Gentleness. Higher leaves more of the picture alone: 0.5 when it suffers, 0 for the "
                                       "whole push."),
                *times(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.Model.Output(tooltip="The model with the negative prompt inside. Sample it at CFG 1.")],
        )

    @classmethod
    def execute(cls, model, negative, scale: float, bias: float, start_percent: float,
                end_percent: float) -> io.NodeOutput:
        for name, value, most in (("scale", scale, MAX_SCALE), ("bias", bias, MAX_BIAS),
                                  ("start_percent", start_percent, 1.0), ("end_percent", end_percent, 1.0)):
            in_range(name, value, most)
        if start_percent > end_percent:
            raise ValueError("VSF: set start_percent below end_percent. Expected a time in which to act, found "
                             f"{start_percent:g} to {end_percent:g}.")
        if scale == 0.0:
            say(node_id(cls), "off: scale 0")
            return io.NodeOutput(model)
        family = find_family(model.model)  # say that a model cannot do it even when the negative is empty
        padded = family.__name__.rpartition(".")[2] not in UNPADDED
        prompts = negative_prompts(negative, scale, bias, start_percent, end_percent, padded, node_id(cls))
        for prompt in prompts:
            check_fit(prompt, family, model.model)
        return io.NodeOutput(attach(model, prompts) if prompts else model)


def check_fit(prompt: NegativePrompt, family: Family, base_model: Any) -> None:
    """Raise ValueError, for the user to read, for a negative that this model cannot take."""
    if prompt.scale > MAX_SCALE:
        raise ValueError(f"VSF: lower `scale` or the strength of `negative`. Expected at most {MAX_SCALE:g} for both "
                         f"multiplied, found {prompt.scale:g}.")
    width = text_width(family, base_model)
    if width not in (None, prompt.tokens.shape[-1]):
        raise ValueError(f"VSF: encode the negative with the text encoder (CLIP) of this model. Expected a negative of width "
                         f"{width}, as {type(base_model).__name__} takes, found {prompt.tokens.shape[-1]}.")
    most = min(MAX_TOKEN, torch.finfo(base_model.get_dtype_inference()).max)
    if prompt.tokens.numel() and (largest := float(prompt.tokens.abs().max())) > most:
        raise ValueError("VSF: encode `negative` again, in another precision if need be. Expected values up to "
                         f"{most:g}, which this model can compute with, found {largest:g}.")


MAX_SCALE = 10.0
MAX_BIAS = 5.0
MAX_TOKEN = 1e9  # no text encoder comes near it, and beyond, logits of its square overflow float32 and the picture is NaN
# SD3.5 Large Turbo in the paper's form: its setting "Quality" (3.3, 0.2), less the second, unflipped copy of the negative
# that the authors' code shows to the image: effective alpha = 3.3 - e^0.2 = 2.1
DEFAULT_SCALE = 2.0
DEFAULT_BIAS = 0.2

NODES: list[type[io.ComfyNode]] = [VSFGuidance]
