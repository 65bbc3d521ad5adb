"""How many blocks of a model read the prompt: what its own lists of blocks say. patch.py holds it against each forward."""
from __future__ import annotations

from torch import nn

APART = ("refiner", "text", "llm", "adapter", "encoder", "pixel")
"""In the names of lists of blocks in which the image does not read the prompt, or which are no part of every forward."""


def count_blocks(model: nn.Module) -> int:
    """Blocks of a diffusion model in which its image reads the prompt."""
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    if crossing := sum(name.endswith(".attn2") for name, _ in model.named_modules()):
        return crossing
    return sum(len(blocks) for name, blocks in model.named_children() if isinstance(blocks, nn.ModuleList | nn.ModuleDict)
               and name.rpartition("_")[2] in ("blocks", "layers") and not any(part in name for part in APART))
