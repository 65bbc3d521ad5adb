"""The attention override of one call of the model."""
from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import torch
from torch import Tensor

from ...vsf_core.attention import LSEKernel, find_lse_kernel, math_attention
from ...vsf_core.forms import Attention, LSEAttention, vsf_attention_concatenated, vsf_attention_merged
from ...vsf_core.layout import Layout
from .lanes import LaneLayout, split_heads

log = logging.getLogger("vsf")

OVERRIDE = "optimized_attention_override"


class VSFAttention:
    """`transformer_options["optimized_attention_override"]` for one call of a model with negatives in its text.

    Called by ComfyUI as override(func, q, k, v, heads, mask=None, ..., **kwargs) (comfy/ldm/modules/attention.py,
    wrap_attn). An override that was there before stays the base of every call made here, so that the order of the nodes
    does not matter.
    """

    def __init__(self, layouts: Sequence[Layout], previous: Callable[..., Tensor] | None, batch: int | None = None) -> None:
        """layouts: of every kind of attention in the model that the text takes part in; the first that fits a call is its. An
        adapter may change its list until then. batch: rows of the model call, None for any."""
        # Settings live in attributes of this object, never in transformer_options: TorchCompileModel drops the guards of
        # everything kept there, and a changed scale would not be seen.
        self.layouts = layouts
        self.batch = batch
        self.previous = previous
        self.expected: Layout | None = None
        self.calls = 0

    def expect(self, layout: Layout) -> None:
        """The next call is an attention of this layout, whatever its number of tokens: for models that can tell."""
        self.expected = layout

    def __call__(self, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int,
                 mask: Tensor | None = None, attn_precision: Any = None, skip_reshape: bool = False,
                 skip_output_reshape: bool = False, **kwargs: Any) -> Tensor:
        layout = self._layout(len(q), *(t.shape[2 if skip_reshape else 1] for t in (q, k)))
        if layout is None:  # attention that the text takes no part in, such as SD3.5 Medium's second one
            return self._base(func, q, k, v, heads, mask=mask, attn_precision=attn_precision, skip_reshape=skip_reshape,
                              skip_output_reshape=skip_output_reshape, **kwargs)
        self.calls += layout.has_image_queries
        if not skip_reshape:
            q = q.view(*q.shape[:2], heads, -1).transpose(1, 2)
            k, v = (split_heads(t, q.shape[-1]) for t in (k, v))
        if isinstance(layout, LaneLayout):
            k, v = layout.with_lanes(k, v, kwargs["transformer_options"])

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            return self._base(func, q, k, v, heads, mask=mask, attn_precision=attn_precision, skip_reshape=True,
                              skip_output_reshape=True, **kwargs)
        kernel = self._lse_kernel(layout, func, q, k, v, mask)
        attend_lse = None if kernel is None else functools.partial(kernel, scale=kwargs.get("scale"))
        out = self.join(layout, q, k, v, mask, attend, attend_lse)
        return out if skip_output_reshape else out.transpose(1, 2).flatten(2)

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attention,
             attend_lse: LSEAttention | None) -> Tensor:
        """What becomes of one attention (vsf_core/forms.py). Other methods stand in its place in benchmarks/rivals.py.

        attend: the model's own attention; attend_lse: the same with its log-sum-exp, None where nothing tells it.
        """
        if attend_lse is not None:
            return vsf_attention_merged(q, k, v, layout, attend_lse)
        return vsf_attention_concatenated(q, k, v, layout, attend, mask)

    def _base(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return func(*args, **kwargs) if self.previous is None else self.previous(func, *args, **kwargs)

    def _layout(self, batch: int, queries: int, keys: int) -> Layout | None:
        """The layout of a call, or None for attention without text."""
        if self.expected is not None:
            layout, self.expected = self.expected, None
            return layout
        for layout in self.layouts:
            if layout.fits(queries, keys) and (layout.has_image_queries or self.batch in (None, batch)):
                return layout  # a text refiner has one row a prompt: Krea 2 also attends over layers, one row a token
        if any(layout.is_ambiguous(queries, keys) for layout in self.layouts):
            raise RuntimeError(f"VSF: prompt and negative have {keys} tokens together, just as many as the picture, and this "
                               "model's attention does not tell which is which. Make the picture a step larger or smaller.")
        return None

    def _lse_kernel(self, layout: Layout, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor,
                    mask: Tensor | None) -> LSEKernel | None:
        """The kernel of the merged form, or None for the concatenated one.

        Only where ComfyUI itself would call PyTorch's SDPA: a backend or an override that the user chose (sage, xformers,
        sub-quadratic, ...) is kept, and gives no log-sum-exp through ComfyUI. A region decides for the merged form,
        because without it each query would need a mask row of its own.
        """
        pytorch = func is comfy_attention.attention_pytorch.__wrapped__ and self.previous is None
        kernel = find_lse_kernel(q, k, v) if pytorch and mask is None else None
        if kernel is None and any(n.region is not None for n in layout.negatives):
            kernel = find_lse_kernel(q, k, v) or math_attention
        if self.calls == 1 and not torch.compiler.is_compiling():
            log.debug("VSF: attention of %s by %s", tuple(q.shape),
                      f"log-sum-exp merge ({kernel.__name__})" if kernel is not None
                      else f"concatenated keys ({getattr(self.previous or func, '__name__', 'override')})")
        return kernel
