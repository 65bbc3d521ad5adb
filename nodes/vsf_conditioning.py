"""VSF Conditioning: a prompt that brings its own negatives with it, for one region or part of the sampling."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from typing_extensions import override

from .aliases import NEGATIVE
from .glue.reading.conditioning import negative_prompts
from .glue.reading.contexts import MAX_STRENGTH
from .glue.reading.masks import of_mask
from .glue.said import node_id
from .glue.sampling.carry import carrying
from .inputs import MAX_BIAS, MAX_SCALE, Shown, check_scales, curve_input, in_range, mask_input
from .vsf_prompt import read, read_lines
from .vsf_text_encode import encoded

WAITING = "not sampled yet: connect this to a positive input"


class VSFConditioning(Shown, io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFConditioning",
            display_name="VSF Conditioning (prompt with its own negative)",
            category="advanced/guidance",
            description="A prompt that brings its negative along, without a wire to the model: for one region of the picture, "
                        "one part of the sampling, or one window of a video. Combine it with others as any conditioning; each "
                        "keeps its own negative. For one prompt for all, VSF Prompt.",
            search_aliases=["CLIP Text Encode", "regional prompt", "area", "prompt scheduling", *NEGATIVE],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that samples the prompt."),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True,
                                tooltip="What this part of the picture shows. A part with a negative weight, `(wheels:-1)`, is "
                                        "taken out and joins the negatives."),
                io.String.Input("negative", multiline=True, dynamic_prompts=True,
                                tooltip="What must not be in it: a thing in one to four words, such as `wheels`. One a "
                                        "line, with a weight if need be: `wheels:1.5`. Empty is off."),
                io.Float.Input("strength", default=1.0, min=0.0, max=MAX_STRENGTH, step=0.05, round=0.001,
                               tooltip="1 is right for most. More if the thing stays, less if the picture suffers. 0 is off."),
                curve_input(),
                mask_input(),
                io.Float.Input("scale", default=0.0, min=0.0, max=MAX_SCALE, step=0.05, round=0.001, optional=True,
                               advanced=True,
                               tooltip="Above 0, the negatives act by VSF Guidance's rule, the paper's, with this scale times "
                                       "`strength`; the help page of VSF Guidance has a starting value for each model. 0 is "
                                       "VSF Prompt's rule."),
                io.Float.Input("bias", default=0.0, min=0.0, max=MAX_BIAS, step=0.05, round=0.001, optional=True, advanced=True,
                               tooltip="With a `scale`: gentleness. Higher leaves more of the picture alone."),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.Conditioning.Output("positive", display_name="positive",
                                            tooltip="The prompt with its negatives, for a positive input.")],
        )

    @classmethod
    def execute(cls, clip, prompt: str, negative: str, strength: float, curve: str = "constant",
                mask=None, scale: float = 0.0, bias: float = 0.0) -> io.NodeOutput:
        scale, bias = in_range("scale", scale, MAX_SCALE), in_range("bias", bias, MAX_BIAS)
        inputs, region = (node_id(cls), clip, prompt, negative, strength, curve, WAITING), of_mask(mask)
        if not scale:
            return io.NodeOutput(carrying(*read(*inputs, region)))
        prompt, found, told, times = read_lines(*inputs, region)
        negatives = [replace(n, curve=times, told=told, name=text) for text, strength in found
                     for n in negative_prompts(encoded(clip, text), scale * strength, bias, 0.0, 1.0, padded=False,
                                               node=node_id(cls), region=region)]
        check_scales(negatives)
        return io.NodeOutput(carrying(clip.encode_from_tokens_scheduled(clip.tokenize(prompt)), negatives))


NODES: list[type[io.ComfyNode]] = [VSFConditioning]
