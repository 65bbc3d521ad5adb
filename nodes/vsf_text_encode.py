"""VSF Text Encode: a prompt without the padding that text encoders add."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from .aliases import NEGATIVE
from .glue.reading import made
from .glue.reading.conditioning import WORDS, keep, keep_rows
from .glue.reading.tokens import OTHERS, Tokens, has_words, real_rows, real_rows_of_others, tokenize

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
            search_aliases=["CLIP Text Encode", *NEGATIVE],
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
            raise ValueError("VSF: load a text encoder with a CLIP loader node, if the checkpoint has none inside. Expected "
                             "one in `clip`, found none.")
        if not isinstance(text, str):
            raise ValueError(f"VSF: write the negative as a text. Expected one in `text`, found {type(text).__name__}.")
        return io.NodeOutput(encoded(clip, text))


def encoded(clip: Any, text: str) -> list[Any]:
    """The CONDITIONING of a negative, without padding."""
    tokens = tokenize(clip, text)
    words = has_words(clip, text, tokens)
    conditioning = clip.encode_from_tokens_scheduled(tokens)
    if words:
        return [only_words(clip, tokens, *entry, quiet=i > 0) for i, entry in enumerate(conditioning)]
    log.info("VSF: the negative has no words, which turns it off")
    for rows, _ in conditioning:
        made.remember(rows, words=False)
    return [[rows, {**options, WORDS: 0}] for rows, options in conditioning]


def only_words(clip: Any, tokens: Tokens, encoded: Tensor, options: dict[str, Any], quiet: bool) -> list[Any]:
    """An entry of a conditioning without padding, and WORDS in its options; as it is where padding cannot be told from words.

    quiet: without the line in the log that says what was kept.
    """
    rows = real_rows(clip, tokens, encoded, options)
    if rows is None:
        if not quiet:
            log.warning("VSF: the text encoder %s is not known, so all %d tokens of the negative are kept. If padding is among "
                        "them, it weakens the negative.", type(clip.cond_stage_model).__name__, encoded.shape[-2])
        return [encoded, options]
    others = real_rows_of_others(clip, tokens, options)
    options = {**options, **{name: keep(options[name], real, OTHERS[name][2]) for name, real in others.items()}}
    encoded, options = keep_rows(encoded, options, rows)
    if not quiet:
        counts = {OTHERS[name][0]: f"; of {OTHERS[name][0]} {real.sum()} of {len(real)}" for name, real in others.items()}
        log.info("VSF: kept %d of %d tokens of the negative%s", rows.sum(), len(rows), "".join(counts.values()))
    made.remember(encoded, words=True)
    return [encoded, {**options, WORDS: int(rows.sum()) or max((int(r.sum()) for r in others.values()), default=0)}]


NODES: list[type[io.ComfyNode]] = [VSFTextEncode]
