"""What a heat map shows, in double precision and from the formulas alone; shares no code with the pack.

paper's rule     the share of the image row's softmax that negative c's keys have, exp(s - beta + log m) over all that it sees,
                 mean over heads
context rule     |T_c| / |Z+|, T_c = f m_c min(6 strength, |Z+| / |D_c|) D_c, D_c = Z(N_c, B, I) - Z(P, B, I)
first            the sum of all shares, and the length of min(1, max |T_c| / |sum T_c|) sum T_c over |Z+|
"""
from __future__ import annotations

import math

import torch
from torch import Tensor
from vsf_pack.vsf_core.layout import Context, Layout


def heat(q: Tensor, k: Tensor, v: Tensor, layout: Layout, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """q: (B, H, Lq, D); k, v: (B, H, Lk, D); mask: added to all logits. Returns (1 + negatives, B, image tokens)."""
    k, v = (t.double().repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    letters = [role for role, s in layout.key_spans(k.shape[2]) for _ in range(s.stop - s.start)]
    image = [i for role, s in layout.query_spans(q.shape[2]) if role == "I" for i in range(s.start, s.stop)]
    logits = (q.double() @ k.mT * (scale or q.shape[-1] ** -0.5) + (0 if mask is None else mask.double()))[:, :, image]
    weights = logits.exp()

    def mass(keys: list[int]) -> Tensor:
        return weights[..., keys].sum(-1)

    def branch(words: str | int) -> Tensor:
        own = [j for j, letter in enumerate(letters) if letter == words]
        if isinstance(words, int):
            own = own[:len(own) // layout.negatives[words].copies]
        keys = sorted([*own, *(j for j, letter in enumerate(letters) if letter in ("B", "I"))])
        return (weights[..., keys] @ v[..., keys, :]) / mass(keys)[..., None]

    def size(x: Tensor) -> Tensor:
        return x.square().sum((1, 3)).sqrt()

    paper: dict[int, Tensor] = {}
    for c, n in enumerate(layout.negatives):
        if not isinstance(n, Context):
            own = mass([j for j, letter in enumerate(letters) if letter == c]) * math.exp(-n.beta)
            paper[c] = own if n.region is None else own * n.region[:, None].double()
    total = mass([j for j, letter in enumerate(letters) if letter in ("P", "B", "I")]) + sum(paper.values())
    found = {c: (own / total).mean(1) for c, own in paper.items()}
    together = sum(found.values(), torch.zeros(q.shape[0], len(image), dtype=torch.float64))

    plus, pushes = branch("P"), {}
    for c, n in enumerate(layout.negatives):
        if isinstance(n, Context):
            d = branch(c) - plus
            stretch = (size(plus) / size(d)).clamp(max=6 * n.strength)
            m = 1 if n.region is None else n.region.double()
            fade = torch.as_tensor(n.fade, dtype=torch.float64).reshape(-1, 1)
            pushes[c] = (fade * m * stretch)[:, None, :, None] * d
            found[c] = size(pushes[c]) / size(plus)
    if pushes:
        whole = size(sum(pushes.values()))
        together = together + torch.minimum(whole, torch.stack([size(t) for t in pushes.values()]).amax(0)) / size(plus)
    return torch.stack([together, *(found[c] for c in range(len(layout.negatives)))])
