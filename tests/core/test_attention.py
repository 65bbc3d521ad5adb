"""Kernels that tell their log-sum-exp, and the choice among them."""
import pytest
import torch
from vsf_pack.vsf_core import attention
from vsf_pack.vsf_core.merge import flipped_lse, merge, merge_
from vsf_pack.vsf_core.schedule import SigmaWindow


@pytest.mark.parametrize("kernel", [attention.cpu_flash, attention.math_attention])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2),
                                                 (torch.float16, 3e-3)])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_kernels(kernel, dtype, tolerance, kv_heads, scale):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 37, 16, generator=g).to(dtype)
    k, v = torch.randn(2, 2, kv_heads, 5, 16, generator=g).to(dtype)
    z, lse = kernel(q, k, v, scale)
    logits = q.double() @ k.double().repeat_interleave(4 // kv_heads, 1).mT * (scale or 0.25)
    assert z.dtype == dtype
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(lse.double(), logits.logsumexp(-1), atol=1e-5, rtol=1e-5)
    expected = logits.softmax(-1) @ v.double().repeat_interleave(4 // kv_heads, 1)
    torch.testing.assert_close(z.double(), expected, atol=tolerance, rtol=tolerance)


def test_only_rows_that_are_not_dense_are_copied():
    whole = torch.randn(2, 9, 4, 16, generator=torch.Generator().manual_seed(0))
    q, apart, backwards = whole.transpose(1, 2), whole[..., ::2], whole.mT
    same, *copies = attention._dense_rows(q, apart, backwards)
    assert same is q
    for copy, t in zip(copies, (apart, backwards), strict=True):
        assert copy.stride(-1) == 1 and torch.equal(copy, t)


def test_math_attention_in_chunks():
    q, k, v = torch.randn(3, 1, 2, 50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for whole, parts in zip(attention.math_attention(q, k, v), attention.math_attention(q, k, v, chunk=7), strict=True):
        torch.testing.assert_close(whole, parts)


def test_cpu_finds_its_flash_kernel():
    q = torch.randn(1, 2, 9, 16)
    assert attention.find_lse_kernel(q, q, q) is attention.cpu_flash


def test_no_kernel_where_none_can_run():
    q = torch.randn(1, 2, 9, 16)
    assert attention.find_lse_kernel(q, q, q[..., :8]) is None  # values of another width
    assert attention.find_lse_kernel(q, q[:, :, :0], q[:, :, :0]) is None  # no keys
    assert attention.find_lse_kernel(*[torch.empty(1, 2, 9, 16, device="meta")] * 3) is None  # another device


def test_no_kernel_where_a_gradient_is_wanted():
    """Of their log-sum-exp they have none, and W would be a constant."""
    q = torch.randn(1, 2, 9, 16)
    v = torch.randn(1, 2, 9, 16, requires_grad=True)
    assert not attention.cpu_flash(q, q, v)[1].requires_grad
    assert attention.find_lse_kernel(q, q, v) is None
    with torch.no_grad():
        assert attention.find_lse_kernel(q, q, v) is attention.cpu_flash


def fake_cuda(monkeypatch, flash: bool, cudnn: bool, efficient: bool, exact=lambda kernel, *_: True) -> None:
    monkeypatch.setattr(attention.cuda, "SDPAParams", lambda *args: args)
    for name, can in (("flash", flash), ("cudnn", cudnn), ("efficient", efficient)):
        monkeypatch.setattr(attention.cuda, f"can_use_{name}_attention", lambda params, can=can: can)
    monkeypatch.setattr(attention, "_is_exact", exact)


class OnCuda(torch.Tensor):
    """An ordinary tensor that says it is on a GPU: the choice of a kernel reads no data."""
    device = torch.device("cuda")


@pytest.mark.parametrize(("can", "dim", "chosen"), [
    ((True, True, True), 64, "cuda_flash"),
    ((True, True, True), 60, "cuda_cudnn"),  # the operator itself pads no head: 60 is not a multiple of 8
    ((False, True, True), 64, "cuda_cudnn"),
    ((False, False, True), 64, "cuda_efficient"),
    ((False, False, False), 64, None),
])
def test_choice_on_cuda_is_comfyuis_order(monkeypatch, can, dim, chosen):
    fake_cuda(monkeypatch, *can)
    q = torch.randn(1, 4, 9, dim).as_subclass(OnCuda)
    kernel = attention.find_lse_kernel(q, q[:, :2], q[:, :2])
    assert (kernel and kernel.__name__) == chosen


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_pytorch_is_asked_for_the_call_that_will_be_made(monkeypatch, kv_heads):
    """Without a mask, dropout or causality; the memory-efficient kernel reads no grouped keys: it is asked for whole ones."""
    fake_cuda(monkeypatch, False, False, False)
    asked = []
    for name in ("flash", "cudnn", "efficient"):
        monkeypatch.setattr(attention.cuda, f"can_use_{name}_attention", lambda params, name=name: asked.append((name, params)))
    q = torch.randn(1, 4, 9, 64).as_subclass(OnCuda)
    assert attention.find_lse_kernel(q, q[:, :kv_heads], q[:, :kv_heads]) is None
    assert [name for name, _ in asked] == ["flash", "cudnn", "efficient"]
    for name, (_, k, v, *settings) in asked:
        heads = 4 if name == "efficient" else kv_heads
        assert (k.shape[1], v.shape[1], settings) == (heads, heads, [None, 0.0, False, heads == 2]), name


def test_a_kernel_that_fails_its_examination_is_passed_over(monkeypatch):
    examined = []

    def exact(kernel, device, dtype):
        examined.append((kernel.__name__, device.type, dtype))
        return kernel is attention.cuda_efficient
    fake_cuda(monkeypatch, True, True, True, exact)
    q = torch.randn(1, 4, 9, 64, dtype=torch.bfloat16).as_subclass(OnCuda)
    assert attention.find_lse_kernel(q, q, q) is attention.cuda_efficient
    assert examined == [(f"cuda_{name}", "cuda", torch.bfloat16) for name in ("flash", "cudnn", "efficient")]


def test_examination():
    def wrong_unit(q, k, v, scale):
        z, lse = attention.math_attention(q, k, v, scale)
        return z, lse / 0.6931  # log2, as some kernels count

    def broken(q, k, v, scale):
        raise RuntimeError("no kernel image")

    device = torch.device("cpu")
    assert attention._is_exact(attention.cpu_flash, device, torch.bfloat16)
    assert not attention._is_exact(wrong_unit, device, torch.float32)
    assert not attention._is_exact(broken, device, torch.float32)


def test_merge_is_attention_over_the_union():
    q, k, v = torch.randn(3, 2, 2, 20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole, lse = attention.math_attention(q, k, v)
    a, b = (attention.math_attention(q, k[:, :, s], v[:, :, s]) for s in (slice(0, 13), slice(13, 20)))
    torch.testing.assert_close(merge(*a, *b)[0], whole)
    torch.testing.assert_close(merge(*a, *b)[1], lse)
    merge_(*a, *b)
    torch.testing.assert_close(a, (whole, lse))


def test_merge_survives_extreme_logits():
    z = torch.ones(1, 1, 3, 2)
    lse = torch.tensor([[[1e4, 0.0, -1e4]]])
    out, _ = merge(z, lse, -2.0 * z, flipped_lse(torch.zeros(1, 1, 3), 0.0))
    torch.testing.assert_close(out[0, 0, :, 0], torch.tensor([1.0, -0.5, -2.0]))


def test_window_is_closed():
    window = SigmaWindow(start=0.8, end=0.2)
    assert 0.8 in window
    assert 0.2 in window
    assert 0.81 not in window
    assert 0.19 not in window


@pytest.mark.parametrize("kernel", [attention.cuda_flash, attention.cuda_cudnn, attention.cuda_efficient])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_shapes_of_the_kernels_of_cuda(kernel, kv_heads):
    """By PyTorch's own rules of shape for them, where no such device is; 37 queries are no multiple of any padding. On a GPU
    test_cuda.py has their numbers."""
    q = torch.empty(2, 4, 37, 64, dtype=torch.float16, device="meta")
    k, v = (torch.empty(2, kv_heads, 21, 64, dtype=torch.float16, device="meta") for _ in range(2))
    z, lse = kernel(q, k, v, 0.3)
    assert (z.shape, z.dtype) == (q.shape, q.dtype)
    assert (lse.shape, lse.dtype) == (q.shape[:3], torch.float32)
