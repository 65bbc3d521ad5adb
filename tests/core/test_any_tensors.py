"""Both forms of both rules against the dense form, over layouts, dtypes, masks, regions and tensors that are odd and legal.

    VSF_EXAMPLES=10000 pytest tests/core/test_any_tensors.py        # 500 without
"""
import dataclasses
import functools
import os
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from vsf_pack.vsf_core import forms
from vsf_pack.vsf_core.attention import cpu_flash, find_lse_kernel, math_attention
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.forms import vsf_attention_concatenated, vsf_attention_merged
from vsf_pack.vsf_core.layout import POSITIVE, Context, Layout, Negative, Segment

EXAMPLES = int(os.environ.get("VSF_EXAMPLES", "500"))
HEADS = 2
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


@st.composite
def layouts(draw) -> Layout:
    """Joint attention, cross-attention or a text refiner; roles in any order, some of them in several pieces."""
    kind = draw(st.sampled_from(["joint", "joint", "cross", "refiner"]))
    negatives = tuple(draw(st.one_of(
        st.builds(Negative, st.sampled_from([0.0, 0.7, 2.0, 10.0]), st.sampled_from([0.0, 0.3, 5.0, 1e5])),
        st.builds(Context, st.sampled_from([0.0, 0.4, 1.0, 3.0]), st.sampled_from([0.0, 0.3, 1.0]))))
        for _ in range(draw(st.integers(1, 3))))
    words = draw(st.lists(st.sampled_from(["P", "B", "P", "B", *range(len(negatives))]), max_size=3))
    roles = draw(st.permutations([*range(len(negatives)), draw(st.sampled_from(["P", "P", "B"])), *words,
                                  *["I"] * (draw(st.integers(1, 2)) if kind == "joint" else 0)]))
    return Layout(tuple(Segment(role, draw(st.integers(1, 5))) for role in roles), negatives,
                  (Segment("I", None),) if kind == "cross" else None)


# Queries, keys and values of three shapes. randn makes tensors; values makes larger or smaller ones, for values alone: logits
# of such size leave one key to each query, and rounding chooses which.

def plain(shapes, randn, values) -> list[Tensor]:
    return [randn(*shapes[0]), randn(*shapes[1]), values(*shapes[2])]


def tokens_first(shapes, randn, values) -> list[Tensor]:
    """As models have them: (B, L, H, D), transposed."""
    return [make(b, n, h, d).transpose(1, 2) for make, (b, h, n, d) in zip((randn, randn, values), shapes, strict=True)]


def in_one_tensor(shapes, randn, values) -> list[Tensor]:
    """Of one projection."""
    (b, h, n, d), (_, h_kv, n_kv, _), _ = shapes
    whole = randn(b, max(n, n_kv), h + 2 * h_kv, d).transpose(1, 2)
    return [whole[:, :h, :n], whole[:, h:h + h_kv, :n_kv], whole[:, h + h_kv:, :n_kv]]


def channels_apart(shapes, randn, values) -> list[Tensor]:
    """The same, laid out (..., D, 3): the last dimension is strided."""
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    return [t[:, :shape[1], :shape[2]] for t, shape in zip(randn(*largest, 3).unbind(-1), shapes, strict=True)]


def expanded(shapes, randn, values) -> list[Tensor]:
    """One row for the whole batch, one head of values for all."""
    q, k = (randn(1, *shape[1:]).expand(shape) for shape in shapes[:2])
    return [q, k, values(1, 1, *shapes[2][2:]).expand(shapes[2])]


def one_token(shapes, randn, values) -> list[Tensor]:
    """The same value for every token."""
    q, k, v = plain(shapes, randn, values)
    return [q, k, v[:, :, :1].expand_as(v)]


def windows(shapes, randn, values) -> list[Tensor]:
    """Each token begins in the middle of the one before."""
    return [make(b, h, (n + 1) * d).unfold(2, d, d // 2)[:, :, :n]
            for make, (b, h, n, d) in zip((randn, randn, values), shapes, strict=True)]


def keys_are_values(shapes, randn, values) -> list[Tensor]:
    q, k = (randn(*shape) for shape in shapes[:2])
    return [q, k, k]


def keys_see_values(shapes, randn, values) -> list[Tensor]:
    """Keys that are the values moved by a token."""
    b, h, n, d = shapes[1]
    whole = randn(b, h, n + 1, d)
    return [randn(*shapes[0]), whole[:, :, 1:], whole[:, :, :-1]]


def all_are_one(shapes, randn, values) -> list[Tensor]:
    whole = randn(*[max(sizes) for sizes in zip(*shapes, strict=True)])
    return [whole[:, :shape[1], :shape[2]] for shape in shapes]


def backwards(shapes, randn, values) -> list[Tensor]:
    """Dimensions in another order in memory."""
    return [make(n, d, h, b).permute(3, 2, 0, 1) for make, (b, h, n, d) in zip((randn, randn, values), shapes, strict=True)]


ODD = [plain, tokens_first, in_one_tensor, channels_apart, expanded, one_token, windows, keys_are_values, keys_see_values,
       all_are_one, backwards]


def as_the_model_has_it(mask: Tensor, layout: Layout, queries: int, keys: int) -> Tensor:
    """What a mask of P, B and I (bool or additive, 2-d) means for all rows and columns, token by token, (queries, keys): a
    context's tokens have of each other token the best that the prompt's words have (without one, padding's); the paper's
    negatives none."""
    rows, cols = ([role for role, s in spans for _ in range(s.stop - s.start)]
                  for spans in (layout.query_spans(queries), layout.key_spans(keys)))
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    own_rows, own_cols = ([i for i, kind in enumerate(kinds) if kind in POSITIVE] for kinds in (rows, cols))
    full = torch.zeros(queries, keys, dtype=torch.float64)
    full[[[i] for i in own_rows], own_cols] = mask.double().expand(len(own_rows), len(own_cols))
    for i, kind in enumerate(rows):
        if isinstance(kind, int) and isinstance(layout.negatives[kind], Context):
            full[i] = full[[r for r, other in enumerate(rows) if other == ("P" if "P" in rows else "B")]].amax(0)
    for j, kind in enumerate(cols):
        if isinstance(kind, int) and isinstance(layout.negatives[kind], Context):
            full[:, j] = full[:, [c for c in own_cols if cols[c] == "P"] or own_cols].amax(1)
    for i, row in enumerate(rows):
        if isinstance(row, int) and isinstance(layout.negatives[row], Negative):
            full[i] = 0.0
    return full


def with_regions(layout: Layout, image: int, batch: int, of_papers: bool, generator: torch.Generator) -> Layout:
    def region(n: Negative | Context) -> Tensor | None:
        if not of_papers and isinstance(n, Negative):
            return None
        m = torch.rand(batch, image, generator=generator)
        return torch.where(m < 0.3, 0.0, torch.where(m > 0.7, 1.0, m))
    return dataclasses.replace(layout, negatives=tuple(dataclasses.replace(n, region=region(n)) for n in layout.negatives))


def check(found: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, mask: Tensor | None = None) -> None:
    """Error against the dense form, in the largest value: half precision rounds each of two results whose difference is
    pushed by 6 strength times, and a flip by alpha."""
    groups = q.shape[1] // k.shape[1]
    expected = vsf_attention_dense(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), layout, mask=mask)
    assert found.dtype == q.dtype
    assert found.shape == expected.shape
    gain = 1 + max((n.alpha if isinstance(n, Negative) else 12 * n.strength) for n in layout.negatives)
    size = v.double().abs().amax()
    fits = expected.abs() + TOLERANCE[q.dtype] * gain * size <= torch.finfo(q.dtype).max
    found, expected = found.double()[fits], expected[fits]
    assert found.isfinite().all()
    error = (found - expected).abs().max() / size if fits.any() else 0.0
    assert error <= TOLERANCE[q.dtype] * gain, f"{error / gain:.1e}"


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data(), layout=layouts(), seed=st.integers(0, 2**16), batch=st.integers(1, 3), kv_heads=st.sampled_from([1, 2]),
       odd=st.sampled_from(ODD), dtype=st.sampled_from(list(TOLERANCE)), dim=st.sampled_from([4, 8, 16]),
       size=st.sampled_from([1.0, 1e-3, 7000.0]), region=st.sampled_from([None, "contexts", "all"]),
       kind=st.sampled_from(["ordinary", "inference", "gradient"]))
def test_any(data, layout, seed, batch, kv_heads, odd, dtype, dim, size, region, kind):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int, size: float = 1.0) -> Tensor:
        t = (size * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)
        return t.requires_grad_() if kind == "gradient" else t
    keys = sum(s.length for s in layout.segments)
    queries = keys if layout.queries is None else data.draw(st.sampled_from([n for n in (1, 3, 9) if n != keys]))
    image = sum(s.stop - s.start for role, s in layout.query_spans(queries) if role == "I")
    if region is not None and image:
        layout = with_regions(layout, image, data.draw(st.sampled_from([1, batch])), region == "all", generator)
    shapes = [(batch, HEADS, queries, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)]
    with torch.inference_mode(kind == "inference"):
        q, k, v = odd(shapes, randn, functools.partial(randn, size=size))
    before = [t.detach().clone() for t in (q, k, v)]
    own = data.draw(st.sampled_from([None, "keys", "bool", "matrix"]))
    positive = [sum(s.stop - s.start for role, s in spans if role in POSITIVE)
                for spans in (layout.query_spans(queries), layout.key_spans(keys))]
    mask = {None: lambda: None, "keys": lambda: -3 * torch.rand(1, positive[1], generator=generator),
            "bool": lambda: torch.rand(1, positive[1], generator=generator) < 0.7,
            "matrix": lambda: -3 * torch.rand(*positive, generator=generator)}[own]()
    if own == "bool":
        mask[:, data.draw(st.integers(0, positive[1] - 1))] = True
    meant = None if mask is None else as_the_model_has_it(mask.to(dtype) if own != "bool" else mask, layout, queries, keys)
    detached = [t.detach() for t in (q, k, v)]

    few, chunk = data.draw(st.sampled_from([0, 64])), data.draw(st.sampled_from([1, 100, 2**20]))
    with mock.patch.multiple(forms, FEW=few, CHUNK=chunk, CHUNK_ON_CPU=chunk):
        for kernel in (cpu_flash, math_attention):
            check(vsf_attention_merged(q, k, v, layout, kernel).detach(), *detached, layout)
        check(vsf_attention_concatenated(q, k, v, layout, sdpa, mask).detach(), *detached, layout, meant)
    assert all(torch.equal(t.detach(), was) for t, was in zip((q, k, v), before, strict=True))


@pytest.mark.parametrize("odd", ODD)
def test_every_kernel_reads_odd_tensors(odd):
    shapes = [(2, HEADS, 9, 16), (2, HEADS, 7, 16), (2, HEADS, 7, 16)]
    randn = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    q, k, v = odd(shapes, randn, randn)
    expected, lse = math_attention(q.double(), k.double(), v.double())
    for kernel in (cpu_flash, math_attention, find_lse_kernel(q, k, v)):
        z, found = kernel(q, k, v, None)
        torch.testing.assert_close((z.double(), found.double()), (expected, lse), atol=1e-5, rtol=1e-5)
