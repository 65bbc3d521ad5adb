"""VSF Contrast: VSF Prompt's rule for prompts that other nodes encode (vsf_core/contrast.py)."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from typing_extensions import override

from ..vsf_core.schedule import read_blocks
from .aliases import NEGATIVE
from .glue.families import find_family
from .glue.reading.contexts import MAX_STRENGTH, context_prompts
from .glue.reading.masks import of_mask
from .glue.said import node_id, say
from .glue.sampling.fit import check_fit
from .glue.sampling.patch import attach
from .inputs import WAITING, Shown, blocks_input, curve_input, in_range, in_time, mask_input, over_time, times


class VSFContrast(Shown, io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFContrast",
            display_name="VSF Contrast",
            category="advanced/guidance",
            description="A negative prompt for graphs whose prompt comes from a node of its own (image editing, several text "
                        "encoders). Encode the prompt once more, with what must not be in the picture behind it, by the same "
                        "kind of node, and connect that to `context`. For plain prompts, VSF Prompt does it all.",
            search_aliases=[*NEGATIVE, "context", "image edit"],
            inputs=[
                io.Model.Input("model", tooltip="The model that samples the prompt."),
                io.Conditioning.Input("context", tooltip="The prompt with what must not be in the picture behind it, such as "
                                                         "`a red car, wheels`, encoded by the same kind of node."),
                io.Float.Input("strength", default=1.0, min=0.0, max=MAX_STRENGTH, step=0.05, round=0.001,
                               tooltip="1 is right for most. More if the thing stays, less if the picture suffers. 0 is off."),
                *times(),
                mask_input(),
                curve_input(),
                blocks_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.Model.Output(tooltip="The model with the negative prompt inside. Sample it at CFG 1.")],
        )

    @classmethod
    def execute(cls, model, context, strength: float, start_percent: float, end_percent: float,
                curve: str = "constant", blocks: str = "", mask=None) -> io.NodeOutput:
        start, end = in_time(start_percent, end_percent)
        strength, times, off = over_time("strength", in_range("strength", strength, MAX_STRENGTH), curve)
        where = read_blocks(blocks)
        region = of_mask(mask)
        if off := off or region.why_off:
            say(node_id(cls), f"off: {off}")
            return io.NodeOutput(model)
        family = find_family(model.model)
        contexts = [replace(c, curve=times, blocks=where)
                    for c in context_prompts(context, strength, start, end, node_id(cls), region)]
        for prompt in contexts:
            check_fit(prompt, family, model.model, "encode `context` again, in another precision if need be")
        if contexts:
            say(node_id(cls), WAITING)
        return io.NodeOutput(attach(model, contexts) if contexts else model)


NODES: list[type[io.ComfyNode]] = [VSFContrast]
