"""Attention with negatives on several ranks, each with a part of the image's tokens, against the same on one.

    python tests/helpers/ranks.py STORE        prints, as JSON, {"scheme, form, layout": largest error}

STORE is a file that is not there yet, by which the ranks find each other. As in xDiT and raylight, text is on every rank, and
the image's tokens are shared out. Three schemes:

    gather    the image's keys and values of all ranks on each (all-gather)
    ring      they go round, and what each rank finds of them is merged by log-sum-exp (ring attention)
    ulysses   all heads of a part of the tokens become some heads of all tokens, and the result goes back (all-to-all)

VSF is around the sharded attention, where ComfyUI's attention override stands: what it calls as the backend does the
exchange. Inside of ulysses' exchange only the paper's rule would be at home: the lengths of the context rule go over all heads.
"""
from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from vsf_core.attention import math_attention  # noqa: E402
from vsf_core.forms import vsf_attention_concatenated, vsf_attention_merged  # noqa: E402
from vsf_core.layout import Context, Layout, Negative, Segment  # noqa: E402
from vsf_core.merge import merge  # noqa: E402

RANKS, BATCH, HEADS, DIM = 2, 2, 4, 8
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
IMAGE = Segment("I", None)
NEGATIVES = {"paper": (Negative(2.0, 0.3),), "contexts": (Context(1.0, 0.8), Context(0.5)),
             "both": (Negative(2.0), Context(1.0, 0.8))}
TEXT = {"paper": (Segment(0, 5), Segment("P", 7), Segment("B", 2)),
        "contexts": (Segment(0, 5), Segment(1, 3), Segment("P", 7), Segment("B", 2)),
        "both": (Segment(0, 5), Segment(1, 3), Segment("P", 7), Segment("B", 2))}
SHARES = {"gather": (7, 5), "ring": (7, 5), "ulysses": (6, 6)}  # of the image, tokens of each rank

Attend = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def all_gather(own: Tensor, shares: tuple[int, ...]) -> Tensor:
    """The image's tokens (dim -2) of all ranks, in order."""
    parts = [own.new_empty(*own.shape[:-2], n, own.shape[-1]) for n in shares]
    for rank, part in enumerate(parts):
        if rank == dist.get_rank():
            part.copy_(own)
        dist.broadcast(part, rank)
    return torch.cat(parts, dim=-2)


def passed_on(own: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What the rank before has, of this shape; the own goes to the rank behind."""
    rank, received = dist.get_rank(), own.new_empty(shape)
    sent = dist.isend(own.contiguous(), (rank + 1) % RANKS)
    dist.recv(received, (rank - 1) % RANKS)
    sent.wait()
    return received


def exchanged(parts: list[Tensor]) -> list[Tensor]:
    """parts[r] goes to rank r; of each rank, what it sends here."""
    found = [torch.empty_like(parts[0]) for _ in parts]
    dist.all_to_all(found, [part.contiguous() for part in parts])
    return found


def ends_with(t: Tensor, tail: Tensor) -> bool:
    return t.shape[-2] >= tail.shape[-2] and torch.equal(t[..., -tail.shape[-2]:, :], tail)


def ring(k_image: Tensor, shares: tuple[int, ...]) -> Attend:
    """Attention to the keys that are given, and if the image's own part is among them, to all its other parts."""
    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        z, lse = math_attention(q, k, v)
        if ends_with(k, k_image):
            part, rank = torch.stack([k, v])[..., -k_image.shape[-2]:, :], dist.get_rank()
            for step in range(1, RANKS):
                part = passed_on(part, (*part.shape[:-2], shares[(rank - step) % RANKS], DIM))
                z, lse = merge(z, lse, *math_attention(q, *part))
        return z, lse
    return attend


def ulysses(q_image: Tensor, k_image: Tensor) -> Attend:
    """Attention of some heads of all tokens, where the image's keys are asked for; else of this rank's own."""
    def to_heads(t: Tensor, image: Tensor) -> Tensor:
        """All heads of text and of a part of the image -> some heads of text and of the whole image."""
        of_ranks = t.chunk(RANKS, dim=1)
        text = of_ranks[dist.get_rank()]
        if not ends_with(t, image):
            return text
        size = image.shape[-2]
        return torch.cat([text[..., :-size, :], *exchanged([part[..., -size:, :] for part in of_ranks])], dim=-2)

    def to_tokens(t: Tensor, has_image: bool) -> Tensor:
        size = q_image.shape[-2] if has_image else 0
        text = torch.cat(exchanged([t[..., :t.shape[-2] - RANKS * size, :]] * RANKS), dim=1)
        if not has_image:
            return text
        image = torch.cat(exchanged(list(t[..., -RANKS * size:, :].split(size, dim=-2))), dim=1)
        return torch.cat([text, image], dim=-2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if not ends_with(k, k_image):
            return math_attention(q, k, v)
        v_image = v[..., -k_image.shape[-2]:, :]
        z, lse = math_attention(to_heads(q, q_image), to_heads(k, k_image), to_heads(v, v_image))
        has_image = ends_with(q, q_image)
        return to_tokens(z, has_image), to_tokens(lse.unsqueeze(-1), has_image).squeeze(-1)
    return attend


def without_lse(attend: Attend) -> Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]:
    return lambda q, k, v, mask: attend(q, k, v)[0] if mask is None else scaled_dot_product_attention(q, k, v, mask)


def errors(scheme: str, kind: str) -> dict[str, float]:
    """Of this rank, of both forms: how far its rows are from those of one rank that has all."""
    layout = Layout((*TEXT[kind], IMAGE), NEGATIVES[kind])
    shares, rank = SHARES[scheme], dist.get_rank()
    text, start = sum(s.length for s in TEXT[kind]), sum(SHARES[scheme][:rank])
    own = [*range(text), *range(text + start, text + start + shares[rank])]
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(3, BATCH, HEADS, text + sum(shares), DIM, generator=generator, dtype=torch.float64)
    q, k, v = whole[..., own, :]
    attend: Attend = math_attention
    if scheme == "gather":
        k, v = (torch.cat([t[..., :text, :], all_gather(t[..., text:, :].contiguous(), shares)], dim=-2) for t in (k, v))
    elif scheme == "ring":
        attend = ring(k[..., text:, :].clone(), shares)
    else:
        attend = ulysses(q[..., text:, :].clone(), k[..., text:, :].clone())
    found = {"merged": vsf_attention_merged(q, k, v, layout, attend)}
    if kind == "contexts" or scheme == "gather":  # the paper's has a bias for each key, which these two do not take
        found["concatenated"] = vsf_attention_concatenated(q, k, v, layout, without_lse(attend))
    expected = vsf_attention_merged(*whole, layout, math_attention)[..., own, :]
    plain = math_attention(*whole)[0][..., own, :]
    assert (expected - plain).abs().max() > 0.1, "the negatives must matter"
    return {f"{scheme}, {form}, {kind}": (z - expected).abs().max().item() for form, z in found.items()}


def work(rank: int, store: str) -> None:
    """One rank; the first one prints the largest error of all."""
    if sys.platform in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, RANKS), rank=rank, world_size=RANKS)
    own = {name: e for scheme in SHARES for kind in NEGATIVES for name, e in errors(scheme, kind).items()}
    all_ranks: list[dict[str, float]] = [{}] * RANKS
    dist.all_gather_object(all_ranks, own)
    if rank == 0:
        sys.stdout.write(json.dumps({name: max(found[name] for found in all_ranks) for name in own}) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, args=(sys.argv[1],), nprocs=RANKS)
