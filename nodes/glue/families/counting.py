"""How many blocks of a model read the prompt: what its own lists of blocks say, held against what a forward does."""
from __future__ import annotations

from typing import NamedTuple

from torch import nn

APART = ("refiner", "text", "llm", "adapter", "encoder", "pixel", "nerf", "tokenizer")
"""In the names of lists of blocks in which the image does not read the prompt, or which are no part of every forward."""


class Count(NamedTuple):
    """Blocks of a model, and how many attentions in each of them have the image read the prompt."""
    blocks: int
    attentions: int = 1

    @property
    def total(self) -> int:
        """All attentions."""
        return self.blocks * self.attentions

    def block_of(self, attention: int) -> int:
        """Both from 0, in the order of a forward."""
        return attention // self.attentions


def count_blocks(model: nn.Module) -> Count:
    """Of a diffusion model, before it is run: one attention in each of the blocks in its lists."""
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    crossing = sum(name.endswith(".attn2") and hasattr(module, "to_k") for name, module in model.named_modules())
    return Count(crossing or _in_lists(model))


def _in_lists(model: nn.Module) -> int:
    """The blocks in a model's own lists of them; where it has none, in those of its parts."""
    parts = [(name, part) for name, part in model.named_children()
             if name != "visual" and not any(apart in name for apart in APART)]
    own = [len(part) for name, part in parts if isinstance(part, nn.ModuleList | nn.ModuleDict)
           and name.rpartition("_")[2] in ("blocks", "layers")]
    return sum(own) if own else sum(_in_lists(part) for _, part in parts)


def recounted(listed: Count, attentions: int, left_out: int = 0) -> Count:
    """What a forward of so many attentions says of the blocks in the lists: that each has several (a video and its sound, the
    two halves of differential attention); or, where they do not go into it, that each attention is a block of its own.
    left_out: blocks that another node has skipped in it."""
    ran = listed.blocks - left_out
    each, left = divmod(attentions, max(ran, 1))
    return Count(listed.blocks, each) if ran > 0 and each and not left else Count(attentions + left_out)
