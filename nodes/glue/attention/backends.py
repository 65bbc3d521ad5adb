"""What an attention that is not ours can do: a backend of ComfyUI's, or the override that another node put in.

Nothing tells whether it heeds a mask or which kernel it ends in (comfy/ldm/modules/attention.py has eight backends, packs have
more). So it is asked, by calls of one head whose results are known, as long as the real ones because some choose by length;
or watched while it does its own call. What was found is kept with the objects that it was found of, and goes with them.
"""
from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ....vsf_core.attention import LSEKernel
from ....vsf_core.forms import Attention

log = logging.getLogger("vsf")

HEEDS, IGNORES, REFUSES = "heeds", "ignores", "refuses"  # what an attention does with a mask


class NotPyTorchs(Exception):
    """An attention did not hand its tensors to PyTorch's own, or did not give back just what that gave."""


class Watch(TorchFunctionMode):
    """Sees the calls of PyTorch's own attention that are made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention:
            self.calls += 1
            return self.attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attention(self, *args: Any, **kwargs: Any) -> Tensor:
        return scaled_dot_product_attention(*args, **kwargs)


class LSEWatch(Watch):
    """Has a kernel compute PyTorch's attention of these very tensors, and keeps its log-sum-exp."""

    def __init__(self, tensors: tuple[Tensor, Tensor, Tensor], kernel: LSEKernel) -> None:
        super().__init__()
        self.tensors, self.kernel = tensors, kernel
        self.found: tuple[Tensor, Tensor] | None = None

    def attention(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                  is_causal: bool = False, scale: float | None = None, **kwargs: Any) -> Tensor:
        same = all(a is b for a, b in zip((query, key, value), self.tensors, strict=True))
        if not same or attn_mask is not None or dropout_p or is_causal or self.found is not None:
            return super().attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs)
        self.found = self.kernel(query, key, value, scale)
        return self.found[0]


def attend_with_lse(q: Tensor, k: Tensor, v: Tensor, attend: Attention, kernel: LSEKernel) -> tuple[Tensor, Tensor]:
    """An attention's own call, and its log-sum-exp where it is nothing but PyTorch's attention of these tensors.

    That is seen in each call, so that an override which does something else in some block or step keeps it. Raises NotPyTorchs.
    """
    watch = LSEWatch((q, k, v), kernel)
    with watch:
        z = attend(q, k, v, None)
    if watch.found is None or z is not watch.found[0]:
        raise NotPyTorchs
    return watch.found


def ask_for_mask(attend: Attention, queries: int, keys: int, **like: Any) -> str:
    """Whether a bias on keys has its effect: HEEDS, IGNORES, or REFUSES where it fails, has another one, or only leaves the
    call to PyTorch's attention then (ComfyUI's flash and sage), some with a warning each time. like: dtype, device, head_dim.

    All logits are alike, every second key has a bias of -1 and the value 1, the others 0: the result is the biased keys' share,
    times whatever an override makes of its results.
    """
    keys, head_dim = max(keys, 2), like.pop("head_dim")
    q, k = (torch.ones(1, 1, n, head_dim, **like) for n in (queries, keys))
    biased = (torch.arange(keys, device=q.device) % 2 == 0).to(q.dtype)
    v, count = biased[:, None].repeat(1, 1, 1, head_dim), (keys + 1) // 2
    try:
        with Watch() as plain:
            without = attend(q, k, v, None).float()
        with Watch() as masked:
            found = attend(q, k, v, -biased[None, None, None]).float()
        if found.shape != q.shape or not bool((without > 0).all()):
            return REFUSES
        found = found / without
        if bool(((found - keys / (count + math.e * (keys - count))).abs() < 0.05).all()):
            return REFUSES if masked.calls and not plain.calls else HEEDS
        return IGNORES if bool(((found - 1.0).abs() < 0.05).all()) else REFUSES
    except Exception as e:  # whatever another node's code raises when it is given a mask
        log.debug("VSF: an attention fails with a mask: %s: %s", type(e).__name__, e)
        return REFUSES


def differs_in_parts(attend: Attention, tokens: int, **like: Any) -> bool:
    """Whether queries get something else where not all of them are there, as from a sparse kernel that wants as many queries as
    keys and leaves the rest to a dense one (ComfyUI's BlockSparseAttention)."""
    head_dim = like.pop("head_dim")
    at = torch.arange(tokens * head_dim, device=like["device"], dtype=torch.float32).view(1, 1, tokens, head_dim)
    q, k, v = ((size * (rate * at).sin()).to(like["dtype"]) for size, rate in ((3.0, 1.7), (1.0, 2.3), (1.0, 3.1)))
    half = slice(tokens // 2, None)
    try:
        whole, part = attend(q, k, v, None)[..., half, :], attend(q[..., half, :], k, v, None)
        return bool((whole.float() - part.float()).norm() > 0.25 * whole.float().norm())  # quantized kernels differ by less
    except Exception as e:  # as above
        log.debug("VSF: an attention fails on its own: %s: %s", type(e).__name__, e)
        return False


class Memory:
    """What is known of objects, by their identity: they need no hash, are not kept alive, and are forgotten when they go."""

    def __init__(self) -> None:
        self.facts: dict[Any, Any] = {}
        self._of: dict[int, tuple[weakref.ref[Any], Memory]] = {}

    def about(self, *objects: Any) -> dict[Any, Any]:
        """The facts about these together. Raises TypeError if one of them cannot be referred to weakly."""
        memory = self
        for o in objects:
            for part in (o.__self__, o.__func__) if isinstance(o, MethodType) else (o,):  # a bound method lives for a moment
                memory = memory._about(part)
        if len(memory.facts) > 1024:  # of every length that was ever seen
            memory.facts.clear()
        return memory.facts

    def _about(self, o: Any) -> Memory:
        known = self._of.get(id(o))
        if known is None or known[0]() is not o:
            forget = partial(self._of.pop, id(o), None)
            known = self._of[id(o)] = weakref.ref(o, lambda _: forget()), Memory()
        return known[1]


MEMORY = Memory()


def name_of(attention: Any) -> str:
    """What to call an attention in a message."""
    return getattr(attention, "__name__", type(attention).__name__)
