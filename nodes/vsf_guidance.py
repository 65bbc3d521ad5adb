"""VSF Guidance: a negative prompt inside attention (Value Sign Flip, arXiv 2508.10931)."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from typing_extensions import override

from ..vsf_core.schedule import read_blocks
from .aliases import NEGATIVE
from .glue.families import find_family
from .glue.reading.conditioning import negative_prompts
from .glue.reading.masks import of_mask
from .glue.reading.tokens import UNPADDED
from .glue.said import node_id, say
from .glue.sampling.fit import check_fit
from .glue.sampling.patch import attach
from .inputs import (
    MAX_BIAS,
    MAX_SCALE,
    WAITING,
    Shown,
    blocks_input,
    check_scales,
    curve_input,
    in_range,
    in_time,
    mask_input,
    over_time,
    times,
)


class VSFGuidance(Shown, io.ComfyNode):
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
            search_aliases=NEGATIVE,
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
                mask_input(),
                curve_input(),
                blocks_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.Model.Output(tooltip="The model with the negative prompt inside. Sample it at CFG 1.")],
        )

    @classmethod
    def execute(cls, model, negative, scale: float, bias: float, start_percent: float, end_percent: float,
                curve: str = "constant", blocks: str = "", mask=None) -> io.NodeOutput:
        scale, bias = in_range("scale", scale, MAX_SCALE), in_range("bias", bias, MAX_BIAS)
        start, end = in_time(start_percent, end_percent)
        scale, times, off = over_time("scale", scale, curve)
        where = read_blocks(blocks)
        region = of_mask(mask)
        if off := off or region.why_off:
            say(node_id(cls), f"off: {off}")
            return io.NodeOutput(model)
        family = find_family(model.model)  # say that a model cannot do it even when the negative is empty
        padded = family.__name__.rpartition(".")[2] not in UNPADDED
        prompts = [replace(prompt, curve=times, blocks=where)
                   for prompt in negative_prompts(negative, scale, bias, start, end, padded, node_id(cls), region)]
        check_scales(prompts)
        for prompt in prompts:
            check_fit(prompt, family, model.model, "encode `negative` again, in another precision if need be")
        if prompts:
            say(node_id(cls), WAITING)
        return io.NodeOutput(attach(model, prompts) if prompts else model)


# SD3.5 Large Turbo in the paper's form: its setting "Quality" (3.3, 0.2), less the second, unflipped copy of the negative
# that the authors' code shows to the image: effective alpha = 3.3 - e^0.2 = 2.1
DEFAULT_SCALE = 2.0
DEFAULT_BIAS = 0.2

NODES: list[type[io.ComfyNode]] = [VSFGuidance]
