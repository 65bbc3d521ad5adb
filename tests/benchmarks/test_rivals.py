"""The rivals are what their papers say, and go through the same glue."""
from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import vsf
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from vsf_pack.nodes.glue.reading.conditioning import NegativePrompt
from vsf_pack.nodes.glue.sampling.patch import attach
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.layout import Layout, Negative, Segment

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "testbed")]

import mass  # noqa: E402
import rivals  # noqa: E402
import scenes  # noqa: E402

N, P, I = slice(0, 3), slice(3, 7), slice(7, 15)  # noqa: E741  the paper's letters
JOINT = Layout((Segment(0, 3), Segment("P", 4), Segment("I", None)), (Negative(2.0, 0.4),))
CROSS = Layout((Segment("P", 4), Segment(0, 3)), (Negative(2.0, 0.4),), (Segment("I", None),))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One softmax, by loops over batch and heads."""
    out = torch.empty_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            out[b, h] = torch.softmax(q[b, h] @ k[b, h].T / math.sqrt(q.shape[-1]), dim=-1) @ v[b, h]
    return out


@pytest.fixture
def qkv() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [2.0 * torch.randn(2, 2, 15, 8, generator=g, dtype=torch.float64) for _ in range(3)]


def branches(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Z+ and Z- of the image, each from a joint attention without the other text."""
    negative = torch.cat([k[:, :, N], k[:, :, I]], 2), torch.cat([v[:, :, N], v[:, :, I]], 2)
    return plain(q[:, :, I], k[:, :, 3:], v[:, :, 3:]), plain(q[:, :, I], *negative)


def test_nasa(qkv):
    out = rivals.NASA(0.25).join(JOINT, *qkv, None, sdpa, None)
    z, z_negative = branches(*qkv)
    torch.testing.assert_close(out[:, :, I], z - 0.25 * z_negative)


@pytest.mark.parametrize("tau", [1.1, 100.0])
def test_nag(qkv, tau):
    """Token by token, as the paper writes it: extrapolate, normalise, refine."""
    out = rivals.NAG(scale=4.0, tau=tau, alpha=0.25).join(JOINT, *qkv, None, sdpa, None)
    z, z_negative = branches(*qkv)
    limited = 0
    for b in range(2):
        for token in range(8):
            positive, negative = z[b, :, token].flatten(), z_negative[b, :, token].flatten()
            far = positive + 3.0 * (positive - negative)
            ratio = far.abs().sum() / positive.abs().sum()
            limited += bool(ratio > tau)
            expected = 0.25 * far * min(ratio, tau) / ratio + 0.75 * positive
            torch.testing.assert_close(out[b, :, 7 + token].flatten(), expected)
    assert (limited > 0) == (tau == 1.1)


@pytest.mark.parametrize("rival", [rivals.NASA(), rivals.NAG()])
def test_texts_follow_their_own_branch(qkv, rival):
    q, k, v = qkv
    out = rival.join(JOINT, *qkv, None, sdpa, None)
    torch.testing.assert_close(out[:, :, P], plain(q[:, :, P], k[:, :, 3:], v[:, :, 3:]))
    seen = [torch.cat([t[:, :, N], t[:, :, I]], 2) for t in (k, v)]
    torch.testing.assert_close(out[:, :, N], plain(q[:, :, N], *seen))


def test_cross_attention(qkv):
    q, k, v = qkv[0], qkv[1][:, :, :7], qkv[2][:, :, :7]
    z, z_negative = plain(q, k[:, :, :4], v[:, :, :4]), plain(q, k[:, :, 4:], v[:, :, 4:])
    torch.testing.assert_close(rivals.NASA(0.3).join(CROSS, q, k, v, None, sdpa, None), z - 0.3 * z_negative)


@pytest.mark.parametrize("rival", [rivals.DenseVSF(), rivals.ConcatenatedVSF()])
def test_other_forms_of_vsf(qkv, rival):
    torch.testing.assert_close(rival.join(JOINT, *qkv, None, sdpa, None), vsf_attention_dense(*qkv, JOINT))


@pytest.mark.parametrize("about_mean", [False, True])
def test_flip(qkv, about_mean):
    """Every row reads the flipped values."""
    q, k, v = qkv
    flipped = v.clone()
    for b in range(2):
        for h in range(2):
            mean = v[b, h, P].mean(0) if about_mean else torch.zeros(8, dtype=torch.float64)
            flipped[b, h, N] = mean - 2.0 * (v[b, h, N] - mean)
    torch.testing.assert_close(rivals.Flip(about_mean).join(JOINT, *qkv, None, sdpa, None), plain(q, k, flipped))


def test_positions_of_its_own(qkv):
    """The image reads the negative's keys turned by one step; all other rows keep them."""
    q, k, v = (t.float() for t in qkv)  # ComfyUI's rotations are in fp32
    turned = k.clone()
    for pair in range(2):  # the first axis has 4 of the 8 channels here: two planes, turned by 1 and by 1 / sqrt(10000)
        angle = 10000.0 ** -(pair / 2)
        x, y = k[:, :, N, 2 * pair], k[:, :, N, 2 * pair + 1]
        turned[:, :, N, 2 * pair] = math.cos(angle) * x - math.sin(angle) * y
        turned[:, :, N, 2 * pair + 1] = math.sin(angle) * x + math.cos(angle) * y
    expected = vsf_attention_dense(q, k, v, JOINT)
    expected[:, :, I] = vsf_attention_dense(q, turned, v, JOINT)[:, :, I]
    found = rivals.OwnPositions(axes_dim=(4, 2, 2)).join(JOINT, q, k, v, None, sdpa, None)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)


def test_single_blocks_left_out():
    """In a single block the image's rows are the positive's; in a double block they are VSF's."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (2.0 * torch.randn(2, 2, 15, 8, generator=g) for _ in range(3))
    attention = rivals.WithoutSingleBlocks([JOINT], None)
    found = {kind: attention(optimized_attention.__wrapped__, q, k, v, 2, skip_reshape=True, skip_output_reshape=True,
                             transformer_options={"block_type": kind}) for kind in ("double", "single")}
    torch.testing.assert_close(found["double"], vsf_attention_dense(q, k, v, JOINT).float())
    torch.testing.assert_close(found["single"][:, :, I], plain(q[:, :, I], k[:, :, 3:], v[:, :, 3:]))


@pytest.mark.parametrize("layout", [JOINT, CROSS], ids=["joint", "cross"])
def test_mass(qkv, layout):
    """1 - W, by its definition: the flipped keys' share of an image token's softmax over all keys that it sees."""
    q, k, v = qkv if layout is JOINT else (qkv[0], qkv[1][:, :, :7], qkv[2][:, :, :7])
    seen = mass.MassSeen()
    seen.forwards.append([])
    out = seen.join(layout, q, k, v, None, sdpa, None)
    torch.testing.assert_close(out, vsf_attention_dense(q, k, v, layout))
    negative, image = (N, I) if layout is JOINT else (slice(4, 7), slice(0, 15))
    logits = q @ k.mT / math.sqrt(8)
    logits[..., negative] -= 0.4
    torch.testing.assert_close(seen.forwards[0][0], logits.softmax(-1)[:, :, image, negative].sum(-1).mean(1))


def test_mass_on_the_part():
    """An even map lies on the part as elsewhere, the part's own area lies there alone but for tokens that it half covers."""
    pairs = scenes.prompt_pairs(8)
    areas = np.stack([mass.part_area(pair) for pair in pairs])
    assert (areas.max((1, 2)) > 0.3).all() and (areas.min((1, 2)) == 0).all()
    even = mass.summary(np.full((8, 2, 3, 8, 8), 0.2), pairs)
    np.testing.assert_allclose(even["mass"], np.full((2, 3), 0.2))
    np.testing.assert_allclose(even["on_part_over_elsewhere"], np.ones((2, 3)))
    own = mass.summary(areas[:, None, None], pairs)
    assert own["mass"][0][0] == pytest.approx(areas.mean())
    assert own["on_part_over_elsewhere"][0][0] > 5


RIVALS = [rivals.NASA(), rivals.NAG(), rivals.DenseVSF(), rivals.ConcatenatedVSF(), rivals.Flip(), rivals.Flip(about_mean=True)]


@pytest.mark.parametrize("rival", RIVALS, ids=str)
@pytest.mark.parametrize("family", ["sd3", "flux1"])
def test_through_the_sampler(family, rival):
    """Each changes what the model makes; the other forms of VSF make what VSF makes, all others something else."""
    model, positive = tiny.cached(family), tiny.conditioning(7, 1)
    prompt = NegativePrompt(tiny.tokens(5, 2), 2.0, 0.0, 0.0, 1.0, {})
    ours = tiny.sample(vsf.guide(model, vsf.negative()), positive)
    out = tiny.sample(attach(model, [prompt], rival), positive)
    distance = ((out - ours).norm() / ours.norm()).item()
    assert distance <= 1e-5 if isinstance(rival, rivals.DenseVSF | rivals.ConcatenatedVSF) else distance >= 1e-3
    assert not torch.allclose(out, tiny.sample(model, positive), atol=1e-3)


def test_posterior_of_dng():
    """Against the densities of the two Gaussian steps: Bayes' rule at temperature 1."""
    g = torch.Generator().manual_seed(0)
    x_s, x_t, a, b = torch.randn(4, 2, 3, 4, generator=g, dtype=torch.float64)
    s, t, p = 0.4, 0.7, torch.tensor([0.01, 0.3], dtype=torch.float64)
    var = (t**2 - ((1 - t) / (1 - s)) ** 2 * s**2) * s**2 / t**2
    ratios = []
    for row in range(2):
        log = []
        for x_0 in (a, b):
            # q(x_s | x_t, x_0) by completing the square of q(x_t | x_s) q(x_s | x_0)
            forward = (1 - t) / (1 - s)
            precision = forward**2 / (t**2 - forward**2 * s**2) + 1 / s**2
            mean = (forward * x_t[row] / (t**2 - forward**2 * s**2) + (1 - s) * x_0[row] / s**2) / precision
            assert math.isclose(1 / precision, var)
            log.append(torch.distributions.Normal(mean, precision**-0.5).log_prob(x_s[row]).sum())
        ratios.append(torch.exp(log[1] - log[0]))
    found = rivals.posterior_step(p, x_s, x_t, s, t, a, b, temperature=1.0, offset=0.0)
    torch.testing.assert_close(found, p * torch.stack(ratios))
    assert torch.equal(rivals.posterior_step(p, x_s, x_t, 0.0, t, a, b, 1.0, 0.0), p)


@pytest.mark.parametrize("family", ["sd3", "flux1"])
def test_dng_through_the_sampler(family):
    """With temperature 0 it is CFG of a fixed strength; with one above, no longer; and each run begins anew."""
    model, positive, negative = tiny.cached(family), tiny.conditioning(7, 1), tiny.conditioning(5, 2)
    fixed = rivals.DNG(scale=2.0, prior=0.5, temperature=0.0, p_max=0.9).attach(model)
    out = tiny.sample(fixed, positive, negative, cfg=2.0, steps=4)
    assert torch.allclose(out, tiny.sample(model, positive, negative, cfg=3.0, steps=4), atol=1e-4)
    moving = rivals.DNG(scale=2.0, prior=0.5, temperature=0.01, p_max=0.9).attach(model)
    first = tiny.sample(moving, positive, negative, cfg=2.0, steps=4)
    assert not torch.allclose(first, out, atol=1e-3)
    assert torch.equal(tiny.sample(moving, positive, negative, cfg=2.0, steps=4), first)
