"""VSF Text Encode: a prompt without the padding that text encoders add."""
from __future__ import annotations

import logging

from comfy_api.latest import io
from typing_extensions import override

from .glue.conditioning import WORDS
from .glue.tokens import real_rows

log = logging.getLogger("vsf")


class VSFTextEncode(io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFTextEncode",
            display_name="VSF Text Encode (negative)",
            category="advanced/guidance",
            description="Encodes the negative prompt for VSF Guidance. Like CLIP Text Encode, without the padding tokens, "
                        "which would weaken the negative.",
            search_aliases=["negative prompt", "VSF", "Value Sign Flip", "CLIP Text Encode", "CFG 1"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that gets the negative prompt."),
                io.String.Input("text", multiline=True, dynamic_prompts=True,
                                tooltip="What must not be in the picture: a thing in two to four words. Quality words "
                                        "(`blurry`, `low quality`) are not what VSF is for. Empty is off."),
            ],
            outputs=[io.Conditioning.Output(tooltip="For the `negative` input of VSF Guidance.")],
        )

    @classmethod
    def execute(cls, clip, text: str) -> io.NodeOutput:
        if clip is None:
            raise ValueError("VSF: expected a text encoder in `clip`, found none. If the checkpoint has none inside, load "
                             "one with a CLIP loader node.")
        tokens = clip.tokenize(text)
        conditioning = clip.encode_from_tokens_scheduled(tokens)
        words = real_rows(clip, tokens)
        out = []
        for encoded, options in conditioning:
            options = dict(options)
            if words is not None and len(words) == encoded.shape[1]:
                log.info("VSF: kept %d of %d tokens of the negative", int(words.sum()), len(words))
                encoded = encoded[:, words.to(encoded.device)]
                options.pop("attention_mask", None)
                options[WORDS] = encoded.shape[1]
            if not text.strip():
                options[WORDS] = 0
            out.append([encoded, options])
        return io.NodeOutput(out)


NODES: list[type[io.ComfyNode]] = [VSFTextEncode]
