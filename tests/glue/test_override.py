"""The override on its own: every shape in which ComfyUI's models call attention (comfy/ldm/modules/attention.py)."""
from __future__ import annotations

import logging

import comfy.ldm.modules.attention as comfy_attention
import pytest
import torch
from cases import VERSION
from vsf_pack.nodes.glue.attention.override import OVERRIDE, VSFAttention
from vsf_pack.nodes.glue.sampling.patch import CompiledApart
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.layout import Layout, Negative, Segment

LAYOUT = Layout((Segment(0, 3), Segment("P", 4), Segment("I", 8)), (Negative(2.0, 0.4),))
BACKENDS = ["pytorch", "sub_quad", "split", "basic"]
B, H, L, D = 2, 4, 15, 16


@pytest.fixture(params=BACKENDS)
def attention(request):
    return getattr(comfy_attention, f"attention_{request.param}")


def heads_first(kv_heads: int = H) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [2.0 * torch.randn(B, h, L, D, generator=g) for h in (H, kv_heads, kv_heads)]


def flat(t: torch.Tensor) -> torch.Tensor:
    return t.transpose(1, 2).flatten(2)


def options(layout: Layout = LAYOUT, previous=None) -> dict:
    return {OVERRIDE: VSFAttention([layout], previous)}


def check(out: torch.Tensor, q, k, v, scale: float | None = None, layout: Layout = LAYOUT) -> None:
    torch.testing.assert_close(out.double(), flat(vsf_attention_dense(q, k, v, layout, scale)), atol=2e-5, rtol=1e-5)


def test_heads_first(attention):
    q, k, v = heads_first()
    check(attention(q, k, v, H, skip_reshape=True, transformer_options=options()), q, k, v)
    out = attention(q, k, v, heads=H, mask=None, skip_reshape=True, skip_output_reshape=True, transformer_options=options())
    check(flat(out), q, k, v)


def test_tokens_first_and_sd3s_values(attention):
    q, k, v = heads_first()
    check(attention(flat(q), flat(k), flat(v), H, transformer_options=options()), q, k, v)
    check(attention(flat(q), flat(k), v.transpose(1, 2), heads=H, transformer_options=options()), q, k, v)


@pytest.mark.parametrize("attention", ["pytorch", "sub_quad", "split"], indirect=True)
def test_grouped_queries(attention):
    q, k, v = heads_first(kv_heads=2)
    if VERSION < (0, 27, 0) and attention is not comfy_attention.attention_pytorch:
        pytest.skip("this ComfyUI's own has no enable_gqa")
    out = attention(q, k, v, H, skip_reshape=True, enable_gqa=True, transformer_options=options())
    check(out, q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))


@pytest.mark.parametrize("attention", ["pytorch"], indirect=True)
def test_scale_is_kept(attention):
    q, k, v = heads_first()
    check(attention(q, k, v, H, skip_reshape=True, scale=0.4, transformer_options=options()), q, k, v, scale=0.4)
    if VERSION < (0, 24, 0):
        pytest.skip("this ComfyUI's own, which calls with a mask go to, has no scale")
    out = attention(q, k, v, H, torch.zeros(L, L), skip_reshape=True, scale=0.4, transformer_options=options())
    check(out, q, k, v, scale=0.4)


def test_a_mask_of_the_model(attention):
    """Positional or by name: it hides the same keys as without a negative."""
    q, k, v = heads_first()
    mask = torch.zeros(1, 1, 1, 12)
    mask[..., 2] = -1e4  # the third positive key, which is token 5
    kept = [t for t in range(L) if t != 5]
    without = Layout((Segment(0, 3), Segment("P", 3), Segment("I", 8)), LAYOUT.negatives)
    expected = flat(vsf_attention_dense(*(t[:, :, kept] for t in (q, k, v)), without))
    for out in (attention(q, k, v, H, mask, skip_reshape=True, transformer_options=options()),
                attention(q, k, v, H, mask=mask, skip_reshape=True, transformer_options=options())):
        torch.testing.assert_close(out.double()[:, kept], expected, atol=2e-5, rtol=1e-5)


def test_a_region_needs_no_kernel_of_the_backend(attention):
    q, k, v = heads_first()
    region = torch.linspace(0, 1, 8)[None]
    layout = Layout(LAYOUT.segments, (Negative(2.0, 0.4, region),))
    check(attention(q, k, v, H, skip_reshape=True, transformer_options=options(layout)), q, k, v, layout=layout)


@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_a_region_beside_a_mask_of_the_model(attention, beta):
    """The model's mask stays what it is, and the region too: neither is dropped for the other."""
    q, k, v = heads_first()
    mask = torch.zeros(1, 1, 1, L)
    mask[..., 5] = -1e4
    layout = Layout(LAYOUT.segments, (Negative(2.0, beta, torch.linspace(0, 1, 8)[None]),))
    out = attention(q, k, v, H, mask, skip_reshape=True, transformer_options=options(layout))
    torch.testing.assert_close(out.double(), flat(vsf_attention_dense(q, k, v, layout, mask=mask)), atol=2e-5, rtol=1e-5)


def test_attention_of_another_length_is_left_alone(attention):
    q, k, v = (t[:, :, :8] for t in heads_first())
    opts = options()
    plain = attention(flat(q), flat(k), flat(v), H)
    assert torch.equal(attention(flat(q), flat(k), flat(v), H, transformer_options=opts), plain)
    assert opts[OVERRIDE].calls == 0


def test_every_call_goes_to_the_previous_override(attention):
    q, k, v = heads_first()
    seen = []

    def previous(func, *args, **kwargs):
        seen.append(kwargs["_inside_attn_wrapper"])  # without it, a decorated backend would call us again
        return comfy_attention.attention_pytorch(*args, **kwargs)

    check(attention(q, k, v, H, skip_reshape=True, transformer_options=options(previous=previous)), q, k, v)
    assert all(seen)
    assert len(seen) >= 3  # at the least: image, text, the negative's own rows
    seen.clear()
    attention(q[:, :, :8], k[:, :, :8], v[:, :, :8], H, skip_reshape=True, transformer_options=options(previous=previous))
    assert seen == [True]


@pytest.mark.parametrize(("attention", "form"), [("pytorch", "log-sum-exp merge (cpu_flash)"),
                                                ("sub_quad", "concatenated keys (attention_sub_quad)")], indirect=["attention"])
def test_the_choice_is_logged_once_a_call(attention, form, caplog):
    q, k, v = heads_first()
    opts = options()
    with caplog.at_level(logging.DEBUG, "vsf"):
        for _ in range(3):
            attention(q, k, v, H, skip_reshape=True, transformer_options=opts)
    assert [r.message for r in caplog.records if r.name == "vsf"] == [f"VSF: attention of (2, 4, 15, 16) by {form}"]


@pytest.mark.skipif(not hasattr(comfy_attention, "AttentionTensorContainer"), reason="not in this ComfyUI")
def test_tensors_in_containers():
    """MiniMax H3 hands its tensors over in containers: an override that asks for none gets them as they are."""
    q, k, v = heads_first()
    boxes = [comfy_attention.AttentionTensorContainer(t) for t in (q, k, v)]
    check(comfy_attention.attention_pytorch(*boxes, H, skip_reshape=True, transformer_options=options()), q, k, v)


@pytest.mark.parametrize("region", [None, torch.linspace(0, 1, 8)[None]], ids=["whole", "region"])
@pytest.mark.parametrize("merged", [True, False])
def test_compiles_as_one_graph(merged, region):
    """No graph breaks of ours: TorchCompileModel's frames stay whole around ComfyUI's PyTorch attention."""
    torch._dynamo.reset()
    q, k, v = heads_first()
    layout = Layout(LAYOUT.segments, (Negative(2.0, 0.4, region),))

    def previous(func, *args, **kwargs):
        return func(*args, **kwargs)

    def call(q, k, v, own):
        return comfy_attention.attention_pytorch(flat(q), flat(k), v.transpose(1, 2), H, transformer_options=own)

    with CompiledApart():
        own = options(layout, previous=None if merged else previous)
        out = torch.compile(call, fullgraph=True, backend="aot_eager")(q, k, v, own)
    check(out, q, k, v, layout=layout)
