"""Other ways to a negative prompt, as their papers define them, in the place of VSF's attention.

Each stands on the pack's own glue: the same tokens, in the same models, through the same sampler; what becomes of an
attention is the only difference. `attach(model, negatives, attention=NAG(scale=4.0))` makes a model that samples with it.

The symbols are those of vsf_core. q: (B, H, Lq, D), k, v: (B, Hkv, Lk, D); the result is (B, H, Lq, D).
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from comfy.ldm.flux.layers import EmbedND
from comfy.ldm.flux.math import apply_rope1
from torch import Tensor
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.vsf_core.dense import mmdit_mask
from vsf_pack.vsf_core.forms import vsf_attention_concatenated
from vsf_pack.vsf_core.layout import Layout, Role, Spans, take

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def of(spans: Spans, *roles: Role) -> list[slice]:
    """Where these stand. "P" is all of the prompt's rows: its padding (B) is no other method's concern."""
    return [s for role, s in spans if role in roles or (role == "B" and "P" in roles)]


def _put(z: Tensor, spans: list[slice], values: Tensor) -> None:
    for part, s in zip(values.split([s.stop - s.start for s in spans], dim=-2), spans, strict=True):
        z[..., s, :] = part


@dataclasses.dataclass(frozen=True)
class Rival:
    """A method: called by the glue where it would make a VSFAttention."""

    def __call__(self, *args: Any) -> VSFAttention:
        attention = VSFAttention(*args)
        attention.join = self.join
        return attention

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class TwoBranches(Rival):
    """Methods that attend twice, to prompt and to negative, and combine what the image gets from both.

    The text streams are apart, the image is one stream: the positive text sees itself and the image, the negative's text
    itself and the image, as in NAG's and NASA's code for MMDiT. Several negatives are one.
    """

    def combine(self, z: Tensor, z_negative: Tensor) -> Tensor:
        """z, z_negative: (B, H, L, D), of the image's queries."""
        raise NotImplementedError

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
        negatives = range(len(layout.negatives))
        z = torch.empty_like(q)
        branches = []
        for text in (("P",), negatives):
            queries, seen = of(rows, *text, "I"), of(cols, *text, "I")
            out = torch.empty_like(q)
            if queries:
                _put(out, queries, attend(take(q, queries), take(k, seen), take(v, seen), mask if text == ("P",) else None))
            _put(z, of(rows, *text), take(out, of(rows, *text)))
            branches.append(take(out, of(rows, "I")))
        _put(z, of(rows, "I"), self.combine(*branches))
        return z


@dataclasses.dataclass(frozen=True)
class NASA(TwoBranches):
    """Z = Z+ - s Z- (arXiv 2412.02687). scale: s, the VSF paper's 0.22 to 0.25."""
    scale: float = 0.25

    def combine(self, z: Tensor, z_negative: Tensor) -> Tensor:
        return z - self.scale * z_negative


@dataclasses.dataclass(frozen=True)
class NAG(TwoBranches):
    """Normalized attention guidance (arXiv 2505.21179): Zt = Z+ + phi (Z+ - Z-), brought back to tau times Z+'s L1 norm where
    it is longer, and blended with Z+ by alpha. scale = phi + 1, as in the authors' code. Norms are over a token's heads.

    Defaults: the authors' for SD3.5 Large. Theirs for others (scale, tau, alpha): Flux, Wan 4, 2.5, 0.25; SDXL 2, 2.5, 0.5.
    """
    scale: float = 4.0
    tau: float = 2.5
    alpha: float = 0.125

    def combine(self, z: Tensor, z_negative: Tensor) -> Tensor:
        far = self.scale * z - (self.scale - 1) * z_negative
        length, ratio = far.abs().sum(dim=(1, 3), keepdim=True), z.abs().sum(dim=(1, 3), keepdim=True)
        ratio = length / ratio
        far = torch.where(ratio > self.tau, far * (self.tau / ratio), far)
        return self.alpha * far + (1 - self.alpha) * z


@dataclasses.dataclass(frozen=True)
class DenseVSF(Rival):
    """VSF as its authors' code computes it: N1 beside all keys, under a mask of Lq x Lk."""

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        cols = layout.key_spans(k.shape[-2])
        keys, values = [k], [v]
        for c, n in enumerate(layout.negatives):
            keys.append(take(k, of(cols, c)))
            values.append(-n.alpha * take(v, of(cols, c)))
        whole = mmdit_mask(layout, q.shape[-2], k.shape[-2]).to(q)[:, None]
        return attend(q, torch.cat(keys, dim=-2), torch.cat(values, dim=-2), whole)


@dataclasses.dataclass(frozen=True)
class ConcatenatedVSF(Rival):
    """VSF's form for backends that tell no log-sum-exp."""

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        return vsf_attention_concatenated(q, k, v, layout, attend, mask)


@dataclasses.dataclass(frozen=True)
class Flip(Rival):
    """NegPip's plain flip: the negative's values times -alpha, for every query that reads them; no copy, no mask, no bias.

    about_mean: flip about the mean of the positive text's values, and not about zero (aoleg/neo-krea2-negpip).
    """
    about_mean: bool = False

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        cols = layout.key_spans(k.shape[-2])
        v = v.clone()
        mean = take(v, of(cols, "P")).mean(dim=-2, keepdim=True) if self.about_mean else 0.0
        for c, n in enumerate(layout.negatives):
            for s in of(cols, c):
                v[..., s, :] = mean - n.alpha * (v[..., s, :] - mean)
        return attend(q, k, v, None)


@dataclasses.dataclass(frozen=True)
class NoMask(Rival):
    """VSF with its copies and without its mask: every query sees every key, N0 and the flipped N1 included."""

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        cols = layout.key_spans(k.shape[-2])
        keys, values = [k], [v]
        for c, n in enumerate(layout.negatives):
            keys.append(take(k, of(cols, c)))
            values.append(-n.alpha * take(v, of(cols, c)))
        return attend(q, torch.cat(keys, dim=-2), torch.cat(values, dim=-2), None)


class WithoutSingleBlocks(VSFAttention):
    """VSF in Flux.1's double blocks alone: in the single ones the image does not see the negative."""
    single = False

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        self.single = kwargs["transformer_options"]["block_type"] == "single"
        return super().__call__(*args, **kwargs)

    def join(self, layout: Layout, *args: Any) -> Tensor:
        if self.single:
            unseen = tuple(dataclasses.replace(n, beta=math.inf) for n in layout.negatives)
            layout = dataclasses.replace(layout, negatives=unseen)
        return super().join(layout, *args)


@dataclasses.dataclass(frozen=True)
class OwnPositions(Rival):
    """VSF whose copy N1 does not stay where its original is: one step away on Flux.1's first rotary axis, where text and
    image are all at 0. axes_dim: channels of each axis."""
    axes_dim: tuple[int, ...] = (16, 56, 56)

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attend,
             attend_lse: Any) -> Tensor:
        rows, cols = layout.query_spans(q.shape[-2]), layout.key_spans(k.shape[-2])
        position = torch.zeros(1, 1, len(self.axes_dim), device=k.device)
        position[..., 0] = 1
        turn = EmbedND(sum(self.axes_dim), 10000, list(self.axes_dim))(position)
        moved = k.clone()
        for s in of(cols, *range(len(layout.negatives))):
            moved[..., s, :] = apply_rope1(k[..., s, :], turn)
        z = vsf_attention_concatenated(q, k, v, layout, attend, mask)
        image = of(rows, "I")
        _put(z, image, take(vsf_attention_concatenated(q, moved, v, layout, attend, mask), image))
        return z


def posterior_step(p: Tensor, x_s: Tensor, x_t: Tensor, s: float, t: float, denoised: Tensor, denoised_negative: Tensor,
                   temperature: float, offset: float) -> Tensor:
    """p(c|x_s) from p(c|x_t): by how much better the negative's Gaussian step from t to s explains where the sample went.

    p: (B,); x, denoised: (B, ...); s < t: noise levels of a flow, x_t = (1 - t) x_0 + t noise. The step's mean and variance
    are those of the flow's own ancestral step (Kingma et al. 2021, equations 25 to 33). s = 0 has no variance: p stays.
    """
    if s == 0.0:
        return p
    ratio = (1 - t) / (1 - s)
    noise = t**2 - ratio**2 * s**2
    variance = noise * s**2 / t**2

    def distance(x_0: Tensor) -> Tensor:
        mean = ratio * s**2 / t**2 * x_t + (1 - s) * noise / t**2 * x_0
        return (x_s - mean).square().flatten(1).sum(1)
    better = distance(denoised) - distance(denoised_negative)
    return p * torch.exp((temperature * better + offset) / (2 * variance))


@dataclasses.dataclass
class DNG:
    """Dynamic negative guidance (arXiv 2410.14398, algorithm 1): x+ - lambda p/(1-p) (x- - x+), where x+ and x- are the
    denoised pictures of prompt and negative and p, the posterior of the negative, is tracked from step to step.

    scale: lambda. prior: p before the first step. temperature, offset: the authors' two knobs on the posterior. The negative
    is the sampler's ordinary one, whatever its CFG: each step has two passes, as CFG's.
    """
    scale: float = 5.0
    prior: float = 0.01
    temperature: float = 0.2
    offset: float = 0.0
    p_min: float = 1e-6
    p_max: float = 0.8
    last: tuple[Tensor, float, Tensor, Tensor, Tensor] | None = dataclasses.field(default=None, repr=False)

    def attach(self, model: Any) -> Any:
        """A clone of a ModelPatcher that is guided so."""
        patched = model.clone()
        patched.set_model_sampler_cfg_function(dataclasses.replace(self, last=None), disable_cfg1_optimization=True)
        return patched

    def __call__(self, args: dict[str, Any]) -> Tensor:
        """ComfyUI's sampler_cfg_function: the guided noise, x - denoised (comfy/samplers.py, cfg_function)."""
        x, sigma = args["input"], float(args["sigma"][0])
        positive, negative = args["cond_denoised"], args["uncond_denoised"]
        if self.last is None or sigma >= self.last[1]:  # a new run
            p = x.new_full((len(x),), self.prior)
        else:
            x_t, t, *denoised, p = self.last
            p = posterior_step(p, x, x_t, sigma, t, *denoised, self.temperature, self.offset).clamp(self.p_min, self.p_max)
        self.last = (x, sigma, positive, negative, p)
        strength = (self.scale * p / (1 - p)).view(-1, *[1] * (x.ndim - 1))
        return x - (positive - strength * (negative - positive))
