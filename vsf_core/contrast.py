"""The context rule: a negative prompt that needs no scale.

A bare negative ("wheels") is another picture's text, and pushing away from it pushes away from all that it brings. So the
prompt is encoded once more with the negative behind it, "<prompt>, <negative>": a context. What the two texts share
cancels in their difference; what is left is what the negative adds to this very picture, here, in this head.

For each image query, with Z, l: attention over one set of keys alone, and its log-sum-exp
    P    the prompt's words
    B    all else that the image sees: the image itself and the tokens of no words (padding, registers); may be empty
    N_c  the words of context c

    Z+   = Z(P, B)                                                the model without a negative
    D_c  = Z(N_c, B) - Z+ = w_c (Z_c - Z_B) - w_P (Z_P - Z_B),    w = sigmoid(l - l_B), the words' share of the softmax
    T_c  = f m_c min(s_c, kappa |Z+| / |D_c|) D_c                 token by token; |.| over all heads of a token
    Z    = Z+ - min(1, max_c |T_c| / |sum_c T_c|) sum_c T_c

s = 6 strength; kappa = 1: a push is never longer than what it pushes; f: how it fades as the picture's noise goes (`fade`);
m in [0, 1]: the image token's share of the region that the negative acts on. Several contexts together push no farther
than the longest of them.

What is near it: CFG, and its dynamic and contrastive kin, take a difference of two whole predictions, hence a second pass
through the model, and a scale for each model; NAG (arXiv 2505.21179) takes it in attention as here, but between the prompt
and a bare negative, each with an image attention of its own, and renormalises the sum, with three numbers to tune. Here the
image's own attention is shared, the negative is read within the prompt, and the cap takes the place of the tuning.

Tensors are (B, H, L, D), token by token values (B, 1, L, 1). All of it is computed in single precision or wider, and may be
written over an argument (out), which saves as much time as it takes to compute.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

SCALE = 6.0  # s at strength 1
KAPPA = 1.0  # a push's greatest length, in lengths of Z+
FADE_FROM = 0.75  # the noise's share below which a push fades

Level = TypeVar("Level", float, Tensor)


def noise_share(sigma: Level, is_flow: bool) -> Level:
    """t, the noise's share of the signal at noise level sigma, in [0, 1].

    Flow matching (is_flow) mixes x = (1 - t) x0 + t eps, and sigma is t itself. Models that predict eps or v, and EDM's, have
    x = x0 + sigma eps; divided by 1 + sigma, that is the same mixture with t = sigma / (1 + sigma).
    """
    return sigma if is_flow else sigma / (1 + sigma)


def fade(t: Level) -> Level:
    """f(t) = min(1, (t / 0.75)^2): a push decides what is in the picture while that is open, and leaves the details alone."""
    f = (t / FADE_FROM) ** 2
    return f.clamp(max=1) if isinstance(f, Tensor) else min(f, 1.0)


def share(lse: Tensor, lse_rest: Tensor) -> Tensor:
    """w, the share of the softmax that some keys have beside the rest. lse: (B, H, L); returns (B, H, L, 1)."""
    return torch.sigmoid(lse - lse_rest).unsqueeze(-1)


def difference(z: Tensor, w: Tensor, z_text: Tensor, w_text: Tensor, z_rest: Tensor, out: Tensor | None = None) -> Tensor:
    """D = w (Z - Z_B) - w_P (Z_P - Z_B), in w's dtype; the z may be narrower, and are read once.

    Right at every share: a division by 1 - w (Z_B by subtraction) or by Z+'s mass has no digits left where one side of the
    softmax has it all.
    """
    d = torch.mul(z, w, out=out)
    if d.requires_grad:
        return d - z_text * w_text - z_rest * (w - w_text)
    return d.addcmul_(z_text, w_text, value=-1).addcmul_(z_rest, w_text - w)


def length(x: Tensor) -> Tensor:
    """|x| of each token over its heads and channels, (B, H, L, D) -> (B, 1, L, 1), in single precision or wider; always
    positive and finite."""
    wide = torch.promote_types(x.dtype, torch.float32)
    limits = torch.finfo(wide)
    untyped = torch.linalg.vector_norm  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  by torch
    return cast(Tensor, untyped(x, dim=(1, 3), keepdim=True, dtype=wide)).clamp(limits.tiny, limits.max)


def capped(difference: Tensor, room: Tensor, s: Tensor | float, weight: Tensor | float = 1.0,
           kappa: float = KAPPA) -> tuple[Tensor, Tensor]:
    """What D is stretched by, weight min(s, kappa |Z+| / |D|), and |T|: (B, 1, L, 1). room: |Z+|, of that shape; weight: f m,
    broadcastable over it."""
    long = length(difference)
    factor = (kappa * room / long).clamp(max=s) * weight
    return factor, long * factor


def push(pushes: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """min(1, max_c |T_c| / |sum_c T_c|) sum_c T_c, no longer than the longest, of the contexts' (D_c, factor, |T_c|): in the
    same form, a direction, what it is stretched by, and its length. A lone one is its own: no pass over it."""
    if len(pushes) == 1:
        return pushes[0]
    total = functools.reduce(torch.add, [d * factor for d, factor, _ in pushes])
    longest = functools.reduce(torch.maximum, [long for *_, long in pushes])
    long = length(total)
    factor = (longest / long).clamp(max=1)
    return total, factor, long * factor
