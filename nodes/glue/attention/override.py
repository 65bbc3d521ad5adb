"""The attention override of one call of the model."""
from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import torch
from torch import Tensor

from ....vsf_core.attention import find_lse_kernel, math_attention
from ....vsf_core.forms import (
    Attention,
    LSEAttention,
    Note,
    attention_without_negatives,
    vsf_attention_concatenated,
    vsf_attention_merged,
)
from ....vsf_core.layout import Layout, Negative
from . import backends
from .backends import IGNORES, REFUSES, NotPyTorchs, attend_with_lse, name_of
from .compiling import not_compiled
from .lanes import LaneLayout, split_heads
from .notes import note
from .regions import CallRegions, of_rows

log = logging.getLogger("vsf")

OVERRIDE = "optimized_attention_override"
COMPILED_TOKENS = 64  # torch.compile may not know how many there are


class VSFAttention:
    """`transformer_options["optimized_attention_override"]` for one call of a model with negatives in its text.

    Called by ComfyUI as override(func, q, k, v, heads, mask=None, ..., **kwargs) (comfy/ldm/modules/attention.py,
    wrap_attn). An override that was there before stays the base of every call made here, so that the order of the nodes
    does not matter.
    """

    def __init__(self, layouts: Sequence[Layout], previous: Callable[..., Tensor] | None, batch: int | None = None,
                 acting: Sequence[bool] | None = None) -> None:
        """layouts: of every kind of attention in the model that the text takes part in; the first that fits a call is its. An
        adapter may change its list until then. batch: rows of the model call, None for any; acting: of each row, whether
        negatives act on it, None for all."""
        # Settings live in attributes of this object, never in transformer_options: TorchCompileModel drops the guards of
        # everything kept there, and a changed scale would not be seen.
        self.layouts = layouts
        self.batch = batch
        self.acting = acting
        self.previous = previous
        self.expected: Layout | None = None
        self.calls = 0
        self.blocks: Sequence[frozenset[int] | None] = ()  # of each negative, those in which it acts, None for all
        self.block_of: Callable[[int], int] = int  # from the number of an attention of the image with the text
        self.left_out = 0  # blocks before this attention that another node has skipped
        self.regions: CallRegions | None = None
        self.memory = backends.Memory()  # for what backends.MEMORY cannot hold
        self.ticket: Tensor | None = None  # where what the negatives do is to be noted (seen.py)

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
        if self.regions is not None and layout.has_image_queries:
            spans = layout.query_spans(q.shape[2 if skip_reshape else 1])
            layout = self.regions.of(layout, sum(s.stop - s.start for role, s in spans if role == "I"),
                                     kwargs.get("transformer_options") or {})
        if not skip_reshape:
            q = q.view(*q.shape[:2], heads, -1).transpose(1, 2)
            k, v = (split_heads(t, q.shape[-1]) for t in (k, v))
        if isinstance(layout, LaneLayout):
            k, v = layout.with_lanes(k, v, kwargs["transformer_options"])
        if layout.has_image_queries and any(blocks is not None for blocks in self.blocks):
            layout = self._in_this_block(layout)

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            return self._base(func, q, k, v, heads, mask=mask, attn_precision=attn_precision, skip_reshape=True,
                              skip_output_reshape=True, **kwargs)
        def joined(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, layout: Layout) -> Tensor:
            noted: list[Tensor] = []
            join = self.join if self.ticket is None else functools.partial(self.join, note=noted.append)
            attend_lse = self._with_lse(layout, func, q, k, v, mask, attend, kwargs)
            try:
                out = join(layout, q, k, v, mask, attend, attend_lse)
            except NotPyTorchs:
                self._known(func)["not PyTorch's", _shape(q, k)] = True
                noted.clear()
                attend_lse = self._with_lse(layout, func, q, k, v, mask, attend, kwargs)
                out = join(layout, q, k, v, mask, attend, attend_lse)
            if noted and self.ticket is not None:
                note(torch.cat(noted, dim=-1), self.ticket)
            if self.calls == 1 and not torch.compiler.is_compiling():
                self._tell(layout, func, q, attend_lse, kwargs)
            return out
        out = (joined(q, k, v, mask, layout) if self.acting is None
               else self._by_rows(self.acting, layout, q, k, v, mask, attend, joined))
        return out if skip_output_reshape else out.transpose(1, 2).flatten(2)

    @not_compiled  # a block's number would be a constant
    def _in_this_block(self, layout: Layout) -> Layout:
        """The layout with the negatives at rest that do not act in this block."""
        block = self.block_of(self.calls - 1) + self.left_out
        return replace(layout, resting=frozenset(c for c, blocks in enumerate(self.blocks)
                                                 if blocks is not None and block not in blocks))

    def counting_skipped(self, options: dict[str, Any]) -> dict[str, Any]:
        """transformer_options in which those blocks are counted that another node's replacement leaves out (skip-layer
        guidance). In all that ComfyUI lets be replaced the image reads the prompt: one in which it did not was not run."""
        replaced = options.get("patches_replace") or {}
        if not replaced.get("dit"):
            return options
        dit = {key: functools.partial(self._noting_skipped, own) for key, own in replaced["dit"].items()}
        return {**options, "patches_replace": {**replaced, "dit": dit}}

    @torch.compiler.disable(recursive=False)  # as _in_this_block
    def _noting_skipped(self, replacement: Callable[..., Any], args: dict[str, Any], extra: dict[str, Any]) -> Any:
        """A block that another node has replaced."""
        calls = self.calls
        out = replacement(args, extra)
        self.left_out += self.calls == calls
        return out

    def _by_rows(self, acting: Sequence[bool], layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
                 attend: Attention, joined: Callable[..., Tensor]) -> Tensor:
        """Attention of a batch in which negatives act on some rows alone; the others are as without us."""
        z, without = torch.empty_like(q), functools.partial(attention_without_negatives, attend=attend)
        for acts, attention in ((True, joined), (False, without)):
            rows = [i for i, row in enumerate(acting) if row is acts]
            own = mask if mask is None or mask.ndim < 3 or len(mask) == 1 else mask[rows]
            z[rows] = attention(q[rows], k[rows], v[rows], mask=own, layout=of_rows(layout, rows))
        return z

    def join(self, layout: Layout, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: Attention,
             attend_lse: LSEAttention | None, note: Note | None = None) -> Tensor:
        """What becomes of one attention (vsf_core/forms.py). Other methods stand in its place in benchmarks/rivals.py.

        attend: the model's own attention; attend_lse: the same with its log-sum-exp, None where nothing tells it; note: for
        what the negatives do, where that is recorded.
        """
        if attend_lse is not None:
            return vsf_attention_merged(q, k, v, layout, attend_lse, note)
        return vsf_attention_concatenated(q, k, v, layout, attend, mask, note)

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
            raise RuntimeError("VSF: make the picture a step larger or smaller. Expected text and picture of different "
                               "lengths, since this model's attention does not tell which is which, found "
                               f"{keys} tokens in both.")
        return None

    def _with_lse(self, layout: Layout, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
                  attend: Attention, options: dict[str, Any]) -> functools.partial[tuple[Tensor, Tensor]] | None:
        """The attention of the merged form, or None for the concatenated one.

        A backend or an override that the user chose is kept. It tells no log-sum-exp through ComfyUI, but where it comes down
        to PyTorch's attention of our very tensors, that one's kernel does. Elsewhere the concatenated form asks no more of it
        than one attention after the other, and for beta a mask on keys. Two things it may be unable to do, and then a kernel of
        PyTorch's takes the whole call, with the model's attention over P and I: without the log-sum-exp of that one there is
        nothing to merge with. They are a region, for which each query would need a mask row of its own, and that mask.
        """
        # ComfyUI's decorator, functools.wraps, has put it there
        unwrapped = comfy_attention.attention_pytorch.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
        is_pytorch = func is unwrapped and self.previous is None
        if mask is None and (is_pytorch or self._may_be_pytorch(func, q, k)):
            kernel = find_lse_kernel(q, k, v)
            if kernel is not None:
                return (functools.partial(kernel, scale=options.get("scale")) if is_pytorch
                        else functools.partial(attend_with_lse, attend=attend, kernel=kernel))
        if (mask is None and _has_regions(layout)) or (_needs_mask(layout) and not is_pytorch
                                    and self._needs_kernel(func, q, k, mask, options)):
            return functools.partial(find_lse_kernel(q, k, v) or math_attention, scale=options.get("scale"))
        return None

    def _known(self, func: Callable[..., Tensor]) -> dict[Any, Any]:
        """What is known of the attention that is the base of the calls made here."""
        try:
            return backends.MEMORY.about(*(o for o in (self.previous, func) if o is not None))
        except TypeError:  # one that cannot be remembered is asked in every call of the model
            return self.memory.about(func)

    def _first(self, fact: str, func: Callable[..., Tensor]) -> bool:
        """Whether this is new of the base, or of all its kind where it cannot be remembered."""
        known = self._known(func)
        if known is self.memory.about(func):
            known = backends.MEMORY.about(type(self.previous), func)
        if fact in known:
            return False
        known[fact] = True
        return True

    def _may_be_pytorch(self, func: Callable[..., Tensor], q: Tensor, k: Tensor) -> bool:
        return not torch.compiler.is_compiling() and ("not PyTorch's", _shape(q, k)) not in self._known(func)

    def _needs_kernel(self, func: Callable[..., Tensor], q: Tensor, k: Tensor, mask: Tensor | None,
                      options: dict[str, Any]) -> bool:
        """Whether beta, as a mask on keys, would be lost.

        What becomes of a mask that the model itself has is the affair of its attention: on P and I it stays as without us.
        """
        compiling = torch.compiler.is_compiling()
        tokens = (COMPILED_TOKENS, COMPILED_TOKENS) if compiling else (q.shape[2], k.shape[2])
        answer = self._answer(func, *tokens, q.shape[-1], q.dtype, q.device, mask is not None,
                              **(_constants(options) if compiling else options))
        return answer == IGNORES or (answer == REFUSES and mask is None)

    @torch.compiler.assume_constant_result  # torch.compile asks while it traces, instead of breaking its graph
    def _answer(self, func: Callable[..., Tensor], queries: int, keys: int, head_dim: int, dtype: torch.dtype,
                device: torch.device, masked: bool, **options: Any) -> str:
        """What the base does with a mask (backends.ask_for_mask): asked once for each length and setting, and told once."""
        known = self._known(func)
        question = ("mask", queries, keys, head_dim, dtype, device, *_constants(options).items())
        if question not in known:
            known[question] = backends.ask_for_mask(self._of_one_head(func, options), queries, keys, head_dim=head_dim,
                                                    dtype=dtype, device=device)
        if (known[question] == IGNORES or (known[question] == REFUSES and not masked)) and self._first("told of mask", func):
            log.info("VSF: bias needs a mask, which the attention in use, %s, does not take as PyTorch's does. Where the "
                     "negative takes part, attention runs on a kernel of PyTorch's. To keep %s there, set bias to 0.",
                     *[name_of(self.previous or func)] * 2)
        return known[question]

    def _of_one_head(self, func: Callable[..., Tensor], options: dict[str, Any]) -> Attention:
        """The base, to be asked: without a block's number, which some overrides act on."""
        options = dict(options)
        if "transformer_options" in options:
            options["transformer_options"] = {name: o for name, o in (options["transformer_options"] or {}).items()
                                              if name != "block_index"}
        return lambda q, k, v, mask: self._base(func, q, k, v, 1, mask=mask, attn_precision=None, skip_reshape=True,
                                                skip_output_reshape=True, **options)

    def _tell(self, layout: Layout, func: Callable[..., Tensor], q: Tensor,
              attend_lse: functools.partial[tuple[Tensor, Tensor]] | None, options: dict[str, Any]) -> None:
        """In the log: the form, at each call of the model; and once, that a sparse attention of another node runs densely."""
        name = name_of(self.previous or func)
        kernel = None if attend_lse is None else attend_lse.keywords.get("kernel", attend_lse.func)
        log.debug("VSF: attention of %s by %s", tuple(q.shape), f"concatenated keys ({name})" if kernel is None
                  else f"log-sum-exp merge ({kernel.__name__})")
        if self.previous is None or layout.queries is not None:
            return
        if "told of parts" not in self._known(func) and backends.differs_in_parts(
                self._of_one_head(func, options), q.shape[2], head_dim=q.shape[-1], dtype=q.dtype,
                device=q.device) and self._first("told of parts", func):
            log.warning("VSF: %s, an attention that another node put in, works otherwise where queries and keys are not the "
                        "same tokens, as the negative needs it in this model. If it is a sparse one, its speed is lost where "
                        "the negative acts.", name)


def _has_regions(layout: Layout) -> bool:
    """Whether the concatenated form of this layout has a mask row for each query: a region of the paper's rule."""
    return any(isinstance(n, Negative) and n.region is not None for n in layout.negatives)


def _needs_mask(layout: Layout) -> bool:
    """Whether the concatenated form of this layout has a mask of its own: a bias on the negatives' keys."""
    return layout.has_image_queries and (_has_regions(layout)
                                         or any(isinstance(n, Negative) and n.beta for n in layout.negatives))


def _constants(options: dict[str, Any]) -> dict[str, Any]:
    return {name: o for name, o in options.items() if isinstance(o, bool | int | float | str)}


def _shape(q: Tensor, k: Tensor) -> tuple[Any, ...]:
    return (*q.shape[1:], *k.shape[1:], q.dtype, q.device)
