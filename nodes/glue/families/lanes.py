"""What families with lanes share (../lanes.py): how a negative is read by the model itself."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Segment, take
from ..attention.lanes import Lane, split_heads
from ..attention.override import OVERRIDE
from . import ModelCall

OTHERS = ("patches", "patches_replace", "wrappers", "callbacks")
"""What other nodes hang into a call: made for a picture, of which the call that reads a negative has next to nothing."""


def kept(call: ModelCall, c: int) -> dict[Any, Any]:
    """What is kept of a negative for the run: nothing where hooks change the model's weights between steps."""
    patcher = call.base_model.current_patcher
    return call.kept[c] if patcher is not None and not patcher.hook_patches else {}


def read(call: ModelCall, sequence: Sequence[Segment], own_options: dict[str, Any], **inputs: Any) -> Lane:
    """Keys and values of a negative's words in each block, from one call of the model.

    sequence: what the attention of the image sees in this call, the words as "P"; own_options: transformer_options that keep
    the model from taking the negative for a prompt to keep; inputs: of the model, the negative in place of the prompt.
    """
    model = call.base_model.diffusion_model
    layout = Layout(tuple(sequence), ())
    length = sum(s.tokens for s in sequence)
    words = [s for role, s in layout.key_spans(length) if role == "P"]
    reader = PromptReader(length, words, call.transformer_options.get(OVERRIDE))
    options = {k: v for k, v in call.transformer_options.items() if k not in OTHERS} | own_options
    getattr(model, "_orig_mod", model)(**inputs, transformer_options={**options, OVERRIDE: reader})  # not compiled for one call
    return reader.lane


class PromptReader:
    """An attention override that notes keys and values in `lane`.

    length: keys of the one attention in a block that sees the whole sequence; words: where the words are among them.
    """

    def __init__(self, length: int, words: list[slice], previous: Callable[..., Tensor] | None) -> None:
        self.length, self.words, self.previous = length, words, previous
        self.lane: Lane = {}

    def __call__(self, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any,
                 skip_reshape: bool = False, **kwargs: Any) -> Tensor:
        keys, values = (k, v) if skip_reshape else (split_heads(t, q.shape[-1] // heads) for t in (k, v))
        if keys.shape[-2] == self.length:
            own = take(keys, self.words).clone(), take(values, self.words).clone()
            self.lane[kwargs["transformer_options"]["block_index"]] = own
        kwargs["skip_reshape"] = skip_reshape
        return func(q, k, v, heads, *args, **kwargs) if self.previous is None else self.previous(func, q, k, v, heads, *args,
                                                                                                **kwargs)
