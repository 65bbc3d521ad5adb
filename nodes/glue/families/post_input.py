"""Other nodes' patches of what goes into a model's blocks (`post_input`), beside negatives in the text."""
from __future__ import annotations

import dataclasses
from typing import Any

import torch

from ....vsf_core.layout import Layout
from . import ModelCall


def keep_out_of_patches(call: ModelCall, layouts: list[Layout], length: int) -> None:
    """Other nodes' patches of what goes into the blocks may lengthen the text (USO's style reference does): let them see the
    positive's `length` tokens alone, and put the negatives behind what they make of those. Tokens that they add are no
    prompt's words."""
    patches, kept, positions = call.transformer_options["patches"], {}, call.positions
    call.positions = None  # of the text as it comes: taken here, before it is lengthened
    segments = layouts[0].segments

    @torch.compiler.disable  # compiled code would not see another length: TorchCompileModel drops such guards
    def before(inputs: dict[str, Any]) -> dict[str, Any]:
        if positions is not None:
            inputs["txt_ids"] = positions.of(inputs["txt_ids"], dim=1)
        for name in ("txt", "txt_ids"):
            inputs[name], kept[name] = inputs[name].tensor_split([length], dim=1)
        return inputs

    @torch.compiler.disable
    def after(inputs: dict[str, Any]) -> dict[str, Any]:
        lanes = [s for s in segments if isinstance(s.role, int)]
        text = call.prompt(inputs["txt"].shape[1])
        layouts[0] = dataclasses.replace(layouts[0], segments=(*text, *lanes, segments[-1]))
        return {**inputs, **{name: torch.cat([inputs[name], negative], dim=1) for name, negative in kept.items()}}

    call.options["patches"] = {**patches, "post_input": [before, *patches["post_input"], after]}
