"""On a CUDA device, where one is at hand: the kernels that tell their log-sum-exp, and both rules on them."""
import pytest
import torch
from torch import Tensor
from vsf_pack.vsf_core import attention
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.forms import vsf_attention_concatenated, vsf_attention_merged
from vsf_pack.vsf_core.layout import Context, Layout, Negative, Segment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
TOLERANCES = {torch.float32: 2e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
DTYPES = list(TOLERANCES)
SEGMENTS = (Segment(0, 7), Segment("P", 33), Segment("B", 5), Segment("I", None))
RULES = {"paper": (Negative(2.0, 0.4),), "context": (Context(1.0, 0.7),)}


def qkv(dtype: torch.dtype, dim: int, kv_heads: int = 4, length: int = 300) -> list[Tensor]:
    g = torch.Generator().manual_seed(dim)
    return [torch.randn(2, heads, length, dim, generator=g).to("cuda", dtype) for heads in (4, kv_heads, kv_heads)]


@pytest.mark.parametrize("kernel", [attention.cuda_flash, attention.cuda_cudnn, attention.cuda_efficient,
                                    attention.math_attention])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [64, 128])
def test_a_kernel_that_runs_is_exact(kernel, dtype, dim):
    q, k, v = qkv(dtype, dim)
    if not attention._is_exact(kernel, q.device, dtype):
        pytest.skip("cannot run here")
    z, lse = kernel(q, k, v, None)
    z_ref, lse_ref = attention.math_attention(q.double(), k.double(), v.double())
    assert lse.shape == q.shape[:3]
    torch.testing.assert_close(lse.double(), lse_ref, atol=1e-4 if dtype == torch.float32 else 1e-3, rtol=1e-4)
    torch.testing.assert_close(z.double(), z_ref, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_half_precision_takes_a_fused_kernel(dtype, kv_heads):
    assert attention.find_lse_kernel(*qkv(dtype, 128, kv_heads)) in (attention.cuda_flash, attention.cuda_cudnn)


def test_single_precision_takes_the_efficient_kernel():
    assert attention.find_lse_kernel(*qkv(torch.float32, 64)) is attention.cuda_efficient


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_both_forms_equal_the_dense_one(rule, dtype, kv_heads):
    """Half precision rounds the output alone: as far as PyTorch's own attention does."""
    q, k, v = qkv(dtype, 64, kv_heads)
    layout = Layout(SEGMENTS, RULES[rule])
    wide = [t.double() if t.shape[1] == 4 else t.double().expand(-1, 4, -1, -1) for t in (q, k, v)]
    expected = vsf_attention_dense(*wide, layout)

    def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return (attention.find_lse_kernel(q, k, v) or attention.math_attention)(q, k, v, None)

    for found in (vsf_attention_merged(q, k, v, layout, attend), vsf_attention_concatenated(q, k, v, layout, plain)):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])
