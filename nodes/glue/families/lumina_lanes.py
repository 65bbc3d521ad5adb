"""Negatives that Lumina's models embed and refine beside the prompt (lumina.py)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .objects import in_calls_with

NEGATIVES = "vsf_lumina_negatives"
"""Option of a call: the model, and of each negative (tokens, where they begin in the text, of a context, and how many)."""


@in_calls_with(NEGATIVES)
def with_negatives(original: Callable[..., tuple], options: dict[str, Any], *args: Any, **kwargs: Any) -> tuple:
    """NextDiT.patchify_and_embed, with the negatives of a call before its sequence."""
    sequence, mask, image_sizes, text_lengths, rotations, noisy = original(*args, **kwargs)
    model, negatives = options[NEGATIVES]  # another node's patch may be the original
    refined, rotated = [], []
    for tokens, start, length in negatives:
        if start is None:
            (n, *_), (rotation, *_), _ = model.embed_cap(tokens.to(sequence), device=sequence.device)
            n, rotation = n[:, :tokens.shape[1]], rotation[:, :tokens.shape[1]]  # without the padding
            for layer in model.context_refiner:
                n = layer(n, None, rotation, transformer_options=options)
        else:  # with one patch of the image, and out of sight of patches of the image's refiner
            corner = args[0][..., :model.patch_size, :model.patch_size]
            apart = {**kwargs, "transformer_options": {**options, "patches": {}}}
            n, _, _, _, rotation, _ = original(corner, tokens.to(args[1]), *args[2:], **apart)
            n, rotation = (t[:, start:start + length] for t in (n, rotation))
        refined, rotated = [*refined, n], [*rotated, rotation]
    length = sum(n.shape[1] for n in refined)
    if noisy is not None:  # spans of this step's noise level; all else (references) is modulated as clean
        noisy = [(0, length), *((start + length, stop + length) for start, stop in noisy)]
    return (torch.cat([*refined, sequence], dim=1), mask, image_sizes, [n + length for n in text_lengths],
            torch.cat([*rotated, rotations], dim=1), noisy)
