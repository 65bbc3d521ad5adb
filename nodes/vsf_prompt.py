"""VSF Prompt: a prompt and what must not be in the picture, in one node (vsf_core/contrast.py)."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..vsf_core.schedule import Curve
from .aliases import ALIASES
from .glue.families import find_family
from .glue.reading.contexts import MAX_STRENGTH, ContextPrompt, in_context
from .glue.reading.lines import MOST, has_negative_weight, has_unread_weight, negatives_of, taken_out, without_repeats
from .glue.reading.masks import EVERYWHERE, Region, of_mask
from .glue.reading.tokens import has_words, tokenize
from .glue.said import node_id, say
from .glue.sampling.fit import check_fit
from .glue.sampling.patch import attach
from .inputs import Shown, curve_input, in_range, mask_input, over_time

NO = ("no", "not", "without")
"""Words before a thing that say what a negative says already."""


class VSFPrompt(Shown, io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFPrompt",
            display_name="VSF Prompt (with negative)",
            category="advanced/guidance",
            description="A prompt and a negative prompt that works, for models that run at CFG 1 (turbo, schnell, lightning, "
                        "distilled). Takes the place of CLIP Text Encode: connect the model and CLIP, and put both outputs "
                        "into the sampler. Nothing to tune.",
            search_aliases=["CLIP Text Encode", *ALIASES],
            inputs=[
                io.Model.Input("model", tooltip="The model that samples the prompt."),
                io.Clip.Input("clip", tooltip="The text encoder of this model."),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True,
                                tooltip="What the picture shows. A part with a negative weight, `(wheels:-1)`, is taken out "
                                        "and joins the negatives."),
                io.String.Input("negative", multiline=True, dynamic_prompts=True,
                                tooltip="What must not be in it: a thing in one to four words, such as `wheels`. One a "
                                        "line, with a weight if need be: `wheels:1.5`. Words that the prompt has too are "
                                        "left out. Empty is off."),
                io.Float.Input("strength", default=1.0, min=0.0, max=MAX_STRENGTH, step=0.05, round=0.001,
                               tooltip="1 is right for most. More if the thing stays, less if the picture suffers. 0 is off."),
                mask_input(),
                curve_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.Model.Output(tooltip="The model with the negative prompt inside. Sample it at CFG 1."),
                     io.Conditioning.Output("positive", display_name="positive",
                                            tooltip="The prompt, for the sampler's positive input.")],
        )

    @classmethod
    def execute(cls, model, clip, prompt: str, negative: str, strength: float, curve: str = "constant",
                mask=None) -> io.NodeOutput:
        family = find_family(model.model)  # say that a model cannot do it even when the negative is empty
        positive, contexts = read(node_id(cls), clip, prompt, negative, strength, curve,
                                  waiting="not sampled yet: connect both outputs to the sampler", region=of_mask(mask))
        for context in contexts:
            check_fit(context, family, model.model, "load the text encoder in another precision")
        return io.NodeOutput(attach(model, contexts) if contexts else model, positive)


def read(node: str | None, clip: Any, prompt: Any, negative: Any, strength: Any, curve: Any,
         waiting: str, region: Region = EVERYWHERE) -> tuple[list[Any], list[ContextPrompt]]:
    """The CONDITIONING of a prompt and its negatives, a line each; what becomes of each is said on the node, and `waiting` if
    any is left. Raises ValueError, for the user to read, for inputs that are none."""
    prompt, found, told, times = read_lines(node, clip, prompt, negative, strength, curve, waiting, region)
    positive, contexts = in_context(clip, prompt, found, node, told, region)
    return positive, [replace(context, curve=times) for context in contexts]


def read_lines(node: str | None, clip: Any, prompt: Any, negative: Any, strength: Any, curve: Any, waiting: str,
               region: Region) -> tuple[str, list[tuple[str, float]], str, Curve | None]:
    """The prompt without its negative parts; the negatives that act, a text and its strength each; what was said of them; their
    curve. As `read` otherwise."""
    if clip is None:
        raise ValueError("VSF: load a text encoder with a CLIP loader node, if the checkpoint has none inside. Expected "
                         "one in `clip`, found none.")
    if not isinstance(prompt, str) or not isinstance(negative, str):
        raise ValueError("VSF: write `prompt` and `negative` as texts. Expected two texts, found "
                         f"{type(prompt).__name__} and {type(negative).__name__}.")
    strength, times, off = over_time("strength", in_range("strength", strength, MAX_STRENGTH), curve)
    off = off or region.why_off
    prompt, inline = taken_out(prompt)
    found = []
    said = [f"off: {off}"] if off else []
    if has_negative_weight(prompt):
        said.append("a negative weight in the prompt is left to the text encoder: write that part without brackets inside")
    for line, weight in (*negatives_of(negative), *inline) if not off else ():
        if weight > MOST:
            raise ValueError(f'VSF: lower the weight of "{line}". Expected weights up to {MOST:g}, found {weight:g}.')
        text, left_out = without_repeats(prompt, line)
        if left_out:
            as_what = f'is read as "{text}"' if text else "is off"
            said.append(f'"{line}" {as_what}: the prompt has {", ".join(left_out)} itself')
        if not text or not weight or not has_words(clip, text, tokenize(clip, text)):
            why = "its weight is 0" if text and not weight else "the text encoder makes nothing of it"
            said += [] if left_out and not text else [f'"{line}" is off: {why}']
            continue
        if has_unread_weight(line):
            said.append(f'"{line}" is read with its number: a weight stands at the end of a line, one negative a line')
        found.append((text, strength * weight))
        if len(words := text.lower().split()) > 1 and words[0] in NO:
            said.append(f'write "{text.split(maxsplit=1)[1]}" for "{text}": what stands there is taken out as it is')
    said += [] if said or found else ["off: no negative"]
    told = "\n".join(said)
    say(node, "\n".join([*([waiting] if found else []), *said]))
    return prompt, found, told, times


NODES: list[type[io.ComfyNode]] = [VSFPrompt]
