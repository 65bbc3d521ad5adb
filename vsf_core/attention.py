"""Attention that also returns its log-sum-exp, from the kernels PyTorch's own SDPA would pick.

q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D) with Hkv dividing H (grouped-query attention). Every function here returns
z: (B, H, Lq, D) in q's dtype, and lse: (B, H, Lq), natural logarithm, fp32 (fp64 for fp64 input).
"""
from __future__ import annotations

import logging
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.backends import cuda

log = logging.getLogger("vsf")
aten = torch.ops.aten


class LSEKernel(Protocol):
    """A function of this module that attends."""
    __name__: str

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]: ...


def _dense_rows(*tensors: Tensor) -> list[Tensor]:
    """The tensors with each token's channels side by side in memory: the kernels read them so, without a check of their own."""
    return [t if t.stride(-1) == 1 else t.contiguous() for t in tensors]


def _repeat_kv(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    groups = q.shape[1] // k.shape[1]
    return (k, v) if groups == 1 else (k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1))


def cpu_flash(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """PyTorch's CPU flash kernel."""
    q, k, v = _dense_rows(q, *_repeat_kv(q, k, v))
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)


def cuda_flash(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """FlashAttention 2 (CUDA, ROCm); reads grouped keys and values as they are."""
    return aten._scaled_dot_product_flash_attention(*_dense_rows(q, k, v), scale=scale)[:2]


def cuda_cudnn(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """cuDNN's fused attention; its log-sum-exp comes as (B, H, Lq, 1)."""
    q, k, v = _dense_rows(q, *_repeat_kv(q, k, v))
    z, lse = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, scale=scale)[:2]
    return z, lse.reshape(*q.shape[:2], -1)[..., :q.shape[2]]


def cuda_efficient(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """The memory-efficient kernel (any dtype); its log-sum-exp is padded to a multiple of 32 queries."""
    q, k, v = _dense_rows(q, *_repeat_kv(q, k, v))
    z, lse = aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)[:2]
    return z, lse[..., :q.shape[2]]


def math_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
                   chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Plain matrix products, `chunk` queries at a time: for devices without a kernel that tells its log-sum-exp."""
    k, v = _repeat_kv(q, k, v)
    wide = torch.promote_types(q.dtype, torch.float32)
    outs: list[Tensor] = []
    sums: list[Tensor] = []
    for part in torch.split(q, chunk, dim=2):
        logits = part.to(wide) @ k.to(wide).mT * (scale or q.shape[-1] ** -0.5)
        sums.append(logits.logsumexp(dim=-1))
        outs.append((torch.exp(logits - sums[-1].unsqueeze(-1)) @ v.to(wide)).to(q.dtype))
    return torch.cat(outs, dim=2), torch.cat(sums, dim=2)


# torch.compile asks while it traces, instead of breaking its graph
@torch.compiler.assume_constant_result  # pyright: ignore[reportUnknownMemberType]  torch gives it no types
def _is_exact(kernel: LSEKernel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this PyTorch build's kernel gives the right log-sum-exp; asked once per process."""
    return _examined(kernel, device, dtype)


@cache
def _examined(kernel: LSEKernel, device: torch.device, dtype: torch.dtype) -> bool:
    """These operators are PyTorch's own but not documented: a build that lacks one, or gives another unit, must not be
    believed.
    """
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 40, 64, generator=generator).to(device, dtype)
    try:
        z, lse = kernel(q, k, v, None)
    except (RuntimeError, TypeError, AttributeError) as e:
        log.debug("VSF: %s cannot run here: %s", kernel.__name__, e)
        return False
    z_ref, lse_ref = math_attention(q.double().cpu(), k.double().cpu(), v.double().cpu())
    tolerance = 1e-5 if dtype in (torch.float32, torch.float64) else 3e-2
    same = torch.allclose(z.double().cpu(), z_ref, atol=tolerance) and torch.allclose(lse.double().cpu(), lse_ref,
                                                                                     atol=tolerance)
    if not same:
        log.debug("VSF: %s gives another log-sum-exp than expected", kernel.__name__)
    return same


def find_lse_kernel(q: Tensor, k: Tensor, v: Tensor) -> LSEKernel | None:
    """The kernel SDPA would use for these tensors without a mask, if it tells its log-sum-exp; else None.

    On CUDA the order is ComfyUI's (comfy/ops.py): flash, cuDNN, memory-efficient. None of them has a gradient of its
    log-sum-exp.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        return None
    if q.shape[-1] != v.shape[-1] or 0 in (*q.shape, *k.shape) or not q.is_floating_point():
        return None
    candidates: list[LSEKernel] = []
    if q.device.type == "cpu":
        candidates = [cpu_flash]
    elif q.device.type == "cuda":
        grouped = q.shape[1] != k.shape[1]
        params = cuda.SDPAParams(q, k, v, None, 0.0, False, grouped)
        if cuda.can_use_flash_attention(params) and q.shape[-1] % 8 == 0:
            candidates.append(cuda_flash)
        if cuda.can_use_cudnn_attention(params):
            candidates.append(cuda_cudnn)
        k, v = _repeat_kv(q, k, v) if grouped else (k, v)
        if cuda.can_use_efficient_attention(cuda.SDPAParams(q, k, v, None, 0.0, False, False)):
            candidates.append(cuda_efficient)
    return next((kernel for kernel in candidates if _is_exact(kernel, q.device, q.dtype)), None)
