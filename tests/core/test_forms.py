"""Both forms of VSF attention against the dense form, and the dense form against the table of DESIGN.md."""
import dataclasses
import math
from unittest import mock

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vsf_pack.vsf_core import forms
from vsf_pack.vsf_core.attention import cpu_flash, math_attention
from vsf_pack.vsf_core.dense import mmdit_mask, vsf_attention_dense
from vsf_pack.vsf_core.forms import vsf_attention_concatenated, vsf_attention_merged
from vsf_pack.vsf_core.layout import Layout, Negative, Segment, take


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def qkv(length: int, *, keys: int | None = None, batch=1, heads=2, kv_heads=2, dim=8, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    shapes = (heads, length), (kv_heads, keys or length), (kv_heads, keys or length)
    return [2.0 * torch.randn(batch, h, n, dim, generator=g, dtype=dtype) for h, n in shapes]


FRONT = Layout((Segment(0, 3), Segment("P", 4), Segment("I", None)), (Negative(2.0, 0.4),))
MIDDLE = Layout((Segment("P", 4), Segment(0, 3), Segment("I", None)), (Negative(2.0, 0.4),))
END = Layout((Segment("I", None), Segment("P", 4), Segment(0, 3)), (Negative(2.0, 0.4),))
SPLIT = Layout((Segment("P", 1), Segment(0, 2), Segment("P", 4), Segment("I", 5), Segment(0, 1), Segment("I", 2)),
                    (Negative(2.0, 0.4),))
TWO = Layout((Segment(0, 3), Segment(1, 2), Segment("P", 4), Segment("I", None)), (Negative(2.0), Negative(0.7, 1.5)))
LAYOUTS = {"front": FRONT, "middle": MIDDLE, "end": END, "split": SPLIT, "two": TWO}


@pytest.fixture(params=LAYOUTS)
def layout(request) -> Layout:
    return LAYOUTS[request.param]


@pytest.mark.parametrize("kernel", [cpu_flash, math_attention])
@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_merged_equals_dense(layout, kernel, kv_heads, batch):
    q, k, v = qkv(15, batch=batch, kv_heads=kv_heads)
    if kv_heads == 1:
        expected = vsf_attention_dense(q, k.expand_as(q), v.expand_as(q), layout)
    else:
        expected = vsf_attention_dense(q, k, v, layout)
    torch.testing.assert_close(vsf_attention_merged(q, k, v, layout, kernel), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_concatenated_equals_dense(layout, kv_heads):
    q, k, v = qkv(15, batch=2, kv_heads=kv_heads)
    expected = vsf_attention_dense(q, k.expand_as(q), v.expand_as(q), layout)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa), expected, rtol=1e-10, atol=1e-10)


def test_more_keys_than_queries():
    """Cached reference keys stand after the image's and count as image."""
    q, k, v = qkv(13, keys=17)
    expected = vsf_attention_dense(q, k, v, FRONT)
    assert expected.shape == q.shape
    torch.testing.assert_close(vsf_attention_merged(q, k, v, FRONT, cpu_flash), expected)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, FRONT, sdpa), expected)


def test_region_equals_dense(layout):
    q, k, v = qkv(15, batch=2)
    image = sum(s.stop - s.start for role, s in layout.key_spans(15) if role == "I")
    region = torch.linspace(0, 1, 2 * image, dtype=torch.float64).reshape(2, image)
    layout = dataclasses.replace(layout, negatives=tuple(dataclasses.replace(n, region=region) for n in layout.negatives))
    expected = vsf_attention_dense(q, k, v, layout)
    torch.testing.assert_close(vsf_attention_merged(q, k, v, layout, cpu_flash), expected)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa), expected)


@pytest.mark.parametrize("chunk", [forms.CHUNK, 40])
@pytest.mark.parametrize("batch", [1, 2])
def test_region_beside_the_models_own_mask(layout, chunk, batch, monkeypatch):
    """The model's mask stays, whatever the region of a row; masks are made for some rows at a time, a row's for each head."""
    monkeypatch.setattr(forms, "CHUNK", chunk)
    q, k, v = qkv(15, batch=2)
    image = sum(s.stop - s.start for role, s in layout.key_spans(15) if role == "I")
    g = torch.Generator().manual_seed(3)
    own = torch.randn(1, 1, 15, 15, generator=g, dtype=torch.float64)
    for rows in layout.negatives and [s for role, s in layout.key_spans(15) if isinstance(role, int)]:
        own[..., rows] = own[..., rows, :] = 0.0  # what it says of the negatives means nothing
    layout = with_region(layout, torch.rand(batch, image, generator=g, dtype=torch.float64).round(decimals=1))
    expected = vsf_attention_dense(q, k, v, layout, mask=own)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa, own), expected)
    assert (vsf_attention_dense(q, k, v, layout) - expected).abs().max() > 1e-2, "the mask must matter"


def test_parts_are_as_large_as_the_device_likes_them(monkeypatch):
    """In values: a processor's fit into its cache."""
    monkeypatch.setattr(forms, "CHUNK", 6 * 32)
    monkeypatch.setattr(forms, "CHUNK_ON_CPU", 4 * 32)
    for device, size in (("cpu", 4), ("meta", 6)):
        q = torch.empty(2, 2, 15, 8, device=device)
        parts = list(forms._chunks(q, [slice(0, 5), slice(7, 15)]))
        assert {part.stop - part.start for part, _ in parts} == ({4, 1} if size == 4 else {5, 6, 2})
        assert [i for part, _ in parts for i in range(part.start, part.stop)] == [*range(5), *range(7, 15)]
        assert [i for _, inside in parts for i in range(inside.start, inside.stop)] == [*range(13)]


@pytest.mark.parametrize(("chunk", "rows"), [(70, 2), (1, 1)])
def test_masks_of_regions_are_no_larger_than_a_chunk(monkeypatch, chunk, rows):
    monkeypatch.setattr(forms, "CHUNK", chunk)
    q, k, v = qkv(15, batch=2)
    sizes = []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        sizes.append(None if mask is None else tuple(mask.shape))
        return sdpa(q, k, v, mask)
    vsf_attention_concatenated(q, k, v, with_region(FRONT, torch.rand(2, 8, dtype=torch.float64)), attend)
    assert sizes == [None, None, *[(2, 1, rows, 15)] * (8 // rows)]  # 2 x 2 x 15 are 60 values; a row is the least


def with_region(layout: Layout, region: Tensor) -> Layout:
    return dataclasses.replace(layout, negatives=tuple(dataclasses.replace(n, region=region) for n in layout.negatives))


def test_region_of_ones_is_no_region_and_of_zeros_is_off():
    q, k, v = qkv(15)
    plain = vsf_attention_merged(q, k, v, FRONT, cpu_flash)
    ones = vsf_attention_merged(q, k, v, with_region(FRONT, torch.ones(1, 8, dtype=torch.float64)), cpu_flash)
    zeros = vsf_attention_merged(q, k, v, with_region(FRONT, torch.zeros(1, 8, dtype=torch.float64)), cpu_flash)
    off = sdpa(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], None)
    assert torch.equal(ones, plain)
    torch.testing.assert_close(zeros[:, :, 3:], off, rtol=1e-14, atol=1e-14)
    assert not torch.allclose(plain[:, :, 7:], off[:, :, 4:], atol=1e-2)


def test_a_region_of_any_precision():
    """Its logarithm is taken in single precision, whatever it comes in."""
    q, k, v = qkv(15, dtype=torch.float32)
    half = torch.linspace(0, 1, 8, dtype=torch.float16)[None]
    for run, base in ((vsf_attention_merged, cpu_flash), (vsf_attention_concatenated, sdpa)):
        assert torch.equal(run(q, k, v, with_region(FRONT, half), base), run(q, k, v, with_region(FRONT, half.float()), base))


def test_large_bias_is_off():
    q, k, v = qkv(15)
    off = sdpa(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], None)
    far = dataclasses.replace(FRONT, negatives=(Negative(2.0, 60.0),))
    torch.testing.assert_close(vsf_attention_merged(q, k, v, far, cpu_flash)[:, :, 3:], off)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, far, sdpa)[:, :, 3:], off)


def test_permuting_the_negative_changes_only_its_own_rows():
    q, k, v = qkv(15)
    order = torch.tensor([2, 0, 1, *range(3, 15)])
    out = vsf_attention_merged(q, k, v, FRONT, cpu_flash)
    permuted = vsf_attention_merged(q[:, :, order], k[:, :, order], v[:, :, order], FRONT, cpu_flash)
    torch.testing.assert_close(permuted, out[:, :, order])


MASKS = {
    "keys, positive only": lambda n, p: torch.linspace(-3, 0, p, dtype=torch.float64)[None],
    "matrix, positive only": lambda n, p: torch.linspace(-3, 0, p * p, dtype=torch.float64).reshape(p, p),
    "batch and matrix": lambda n, p: torch.linspace(-3, 0, 2 * p * p, dtype=torch.float64).reshape(2, p, p),
    "heads": lambda n, p: torch.linspace(-3, 0, 2 * p * p, dtype=torch.float64).reshape(1, 2, p, p),
    "keys, whole sequence": lambda n, p: torch.linspace(-3, 0, n, dtype=torch.float64)[None, None, None],
    "boolean": lambda n, p: torch.arange(p)[None, None, None] % 3 != 1,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("where", [FRONT, MIDDLE], ids=["front", "middle"])
def test_the_models_own_mask_is_kept(mask, where):
    """Against a dense sum over the visible keys, query by query."""
    q, k, v = qkv(15, batch=2)
    own = mask(15, 12)
    out = vsf_attention_concatenated(q, k, v, where, sdpa, own)
    kinds = [role for role, s in where.key_spans(15) for _ in range(s.stop - s.start)]
    positive = [j for j, kind in enumerate(kinds) if kind in ("P", "I")]
    additive = torch.zeros(own.shape, dtype=torch.float64).masked_fill(~own, -math.inf) if own.dtype == torch.bool else own
    while additive.ndim < 4:
        additive = additive.unsqueeze(0 if additive.ndim < 3 else 1)
    if additive.shape[-1] == 15:
        additive = additive[..., positive]
    additive = additive.expand(2, 2, 12, 12)
    negative = [j for j, kind in enumerate(kinds) if kind == 0]
    for row, i in enumerate(positive):
        logits = torch.einsum("bhd,bhjd->bhj", q[:, :, i], k) / math.sqrt(8)
        weights, values = (logits[..., positive] + additive[:, :, row]).exp(), v[:, :, positive]
        if kinds[i] == "I":
            weights = torch.cat([weights, (logits[..., negative] - 0.4).exp()], -1)
            values = torch.cat([values, -2.0 * v[:, :, negative]], 2)
        expected = torch.einsum("bhj,bhjd->bhd", weights, values) / weights.sum(-1, keepdim=True)
        torch.testing.assert_close(out[:, :, i], expected)


def test_dense_mask_is_the_table():
    mask = mmdit_mask(TWO, 15, 15)[0]
    kinds = [str(role) for role, s in TWO.key_spans(15) for _ in range(s.stop - s.start)]
    for i, query in enumerate(kinds):
        for j, key in enumerate(kinds):
            assert mask[i, j] == (0.0 if reference.visible(query, key) else -math.inf), (query, key)
        flipped = mask[i, 15:].tolist()
        assert flipped == ([0.0] * 3 + [-1.5] * 2 if query == "I" else [-math.inf] * 5), query


def test_dense_mask_without_a_negative():
    mask = mmdit_mask(FRONT.without({0}), 12, 12)
    assert mask.dtype == torch.float64 and torch.equal(mask, torch.zeros(1, 12, 12, dtype=torch.float64))


def test_a_region_goes_on_from_span_to_span():
    layout = Layout((Segment("I", 2), Segment(0, 2), Segment("I", 3), Segment("P", 1), Segment("I", 1)), (Negative(2.0, 0.4),))
    region = torch.rand(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = mmdit_mask(with_region(layout, region), 9, 9)
    for at, row in enumerate([0, 1, 4, 5, 6, 8]):
        torch.testing.assert_close(mask[:, row, 9:], (region[:, at].log() - 0.4)[:, None].expand(2, 2))


def test_dense_equals_the_independent_reference():
    q, k, v = qkv(15, batch=2)
    kinds = [str(role) for role, s in TWO.key_spans(15) for _ in range(s.stop - s.start)]
    negatives = [reference.RefNegative(torch.zeros(1, 0, 1), n.alpha, n.beta) for n in TWO.negatives]
    expected = reference.dense_attention(q, k, v, kinds, negatives, [True, True])
    torch.testing.assert_close(vsf_attention_dense(q, k, v, TWO), expected)


def test_reference_by_matrices_equals_reference_by_loops():
    q, k, v = qkv(11, batch=3)
    kinds = list("PPPP") + list("0011") + list("III")
    negatives = [reference.RefNegative(torch.zeros(1, 0, 1), 2.0, 0.3), reference.RefNegative(torch.zeros(1, 0, 1), 0.5)]
    rows = [True, False, True]
    torch.testing.assert_close(reference.vectorised_attention(q, k, v, kinds, negatives, rows),
                               reference.dense_attention(q, k, v, kinds, negatives, rows))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**16), batch=st.integers(1, 3), groups=st.sampled_from([1, 2]))
def test_any_layout(data, seed, batch, groups):
    """Roles in any order and number, lengths down to one token, zero scales, large biases, with rows that ride along and
    without, and in chunks of a few rows. Keys and values are as they were."""
    count = data.draw(st.integers(1, 3))
    negatives = tuple(Negative(data.draw(st.floats(0, 8)), data.draw(st.sampled_from([0.0, 0.3, 4.0]))) for _ in range(count))
    roles = data.draw(st.permutations([*range(count), "I", "P", *data.draw(st.lists(st.sampled_from(["I", "P"]), max_size=2))]))
    layout = Layout(tuple(Segment(role, data.draw(st.integers(1, 6))) for role in roles), negatives)
    q, k, v = qkv(sum(s.length for s in layout.segments), batch=batch, heads=2, kv_heads=2 // groups, seed=seed)
    expected = vsf_attention_dense(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), layout)
    before = [t.clone() for t in (q, k, v)]
    few, chunk = data.draw(st.sampled_from([0, 4, 64])), data.draw(st.sampled_from([1, 100, 2**24]))
    with mock.patch.multiple(forms, FEW=few, CHUNK_ON_CPU=chunk):
        torch.testing.assert_close(vsf_attention_merged(q, k, v, layout, cpu_flash), expected)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa), expected)
    assert all(map(torch.equal, (q, k, v), before))


def test_values_that_share_memory():
    """Values expanded over heads or the batch cannot be flipped in their place."""
    q, k, v = qkv(15, batch=2)
    shared = v[:1].expand_as(v)
    expected = vsf_attention_dense(q, k, shared, TWO)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, shared, TWO, sdpa), expected)
    torch.testing.assert_close(vsf_attention_merged(q, k, shared, TWO, cpu_flash), expected)


def test_values_are_put_back_after_an_error():
    q, k, v = qkv(15)
    before = v.clone()

    def broken(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if not torch.equal(v, before[..., -v.shape[-2]:, :]):
            raise RuntimeError("out of memory")
        return sdpa(q, k, v, mask)
    with pytest.raises(RuntimeError, match="out of memory"):
        vsf_attention_concatenated(q, k, v, FRONT, broken)
    assert torch.equal(v, before)


def test_values_that_are_keys_or_queries():
    """Flipping values in their place would flip them too."""
    q, k, v = qkv(15)
    whole = torch.cat([k, v], dim=-1)
    for tensors in ((q, k, k), (v, k, v), (q, whole[..., 4:12], whole[..., 8:])):
        before = [t.clone() for t in tensors]
        expected = vsf_attention_dense(*tensors, TWO)
        torch.testing.assert_close(vsf_attention_concatenated(*tensors, TWO, sdpa), expected)
        torch.testing.assert_close(vsf_attention_merged(*tensors, TWO, cpu_flash), expected)
        assert all(map(torch.equal, tensors, before))


def test_values_in_the_memory_of_queries_of_another_number():
    q, k, v = qkv(9, keys=10)
    q = v[:, :, :9]
    before, expected = v.clone(), vsf_attention_dense(q, k, v, CROSS)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, CROSS, sdpa), expected)
    assert torch.equal(v, before)


@pytest.mark.parametrize("step", [4, 7])
def test_values_that_overlap(step):
    """Each token's begin in the middle of the one before, or at its last."""
    q, k, _ = qkv(15)
    v = qkv(15)[2].flatten(2).unfold(2, 8, step)[:, :, :15]
    expected = vsf_attention_dense(q, k, v, TWO)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, TWO, sdpa), expected)


def test_values_of_a_larger_tensor_stay_in_their_place():
    """A projection's output is flipped where it is, without a copy, and is whole again."""
    q, k, _ = qkv(15)
    whole = torch.randn(1, 20, 2, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v, before, places = whole.transpose(1, 2)[:, :, 2:17, 8:16], whole.clone(), []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        places.append(v.data_ptr())
        return sdpa(q, k, v, mask)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, TWO, attend), vsf_attention_dense(q, k, v, TWO))
    assert places[-1] == v.data_ptr()
    assert torch.equal(whole, before)


def test_inference_tensors_outside_of_inference_mode():
    with torch.inference_mode():
        q, k, v = qkv(15)
    expected = vsf_attention_dense(q, k, v, TWO)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, TWO, sdpa), expected)
    torch.testing.assert_close(vsf_attention_merged(q, k, v, TWO, cpu_flash), expected)


@pytest.mark.parametrize("form", ["merged", "concatenated"])
@pytest.mark.parametrize("queries", [15, 9])
@pytest.mark.parametrize(("alpha", "size"), [(10.0, 7000), (1.5, 45000)])
def test_flipped_values_beyond_half_precision(form, queries, alpha, size):
    """alpha v is, the result is not: in joint attention and in cross-attention."""
    q, k, v = qkv(queries, keys=15 if queries == 15 else 10)
    v = v.sign() * size
    k[..., :3, :] *= 0.01
    layout = (dataclasses.replace(FRONT, negatives=(Negative(alpha, 5.0),)) if queries == 15 else
              dataclasses.replace(CROSS, negatives=(Negative(alpha, 5.0), Negative(alpha - 0.1, 5.0))))
    q, k, v = (t.half() for t in (q, k, v))
    out = (vsf_attention_merged(q, k, v, layout, cpu_flash) if form == "merged"
           else vsf_attention_concatenated(q, k, v, layout, sdpa))
    expected = vsf_attention_dense(q, k, v, layout)
    assert (alpha * v).isinf().all()
    assert expected.abs().max() < 65504
    assert (out - expected).norm() <= 2e-3 * expected.norm()


def test_a_mask_of_lowest_numbers_is_not_of_infinities():
    """A row hidden whole by single precision's lowest number is finite, and by -inf it is not, on backends that do not care."""
    q, k, v = (t.half() for t in qkv(15))
    masks = []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        masks.append(mask)
        return sdpa(q, k, v, mask)
    mask = torch.zeros(12, 12)
    mask[6], mask[7, 3], mask[8, 2] = torch.finfo(torch.float32).min, -torch.inf, torch.finfo(torch.float32).max
    vsf_attention_concatenated(q, k, v, FRONT, attend, mask)
    image = masks[-1][0, 0, :, 3:]
    assert (image[2] == torch.finfo(torch.half).min).all()
    assert image[3].isinf().nonzero().tolist() == [[3]]
    assert image[4, 2] == torch.finfo(torch.half).max


@pytest.mark.parametrize("form", ["merged", "concatenated"])
def test_gradients(form):
    """Some samplers and guiders ask for them."""
    tensors = [t.requires_grad_() for t in qkv(15)]
    weights = torch.linspace(-1, 1, tensors[0].numel(), dtype=torch.float64).view_as(tensors[0])
    out = (vsf_attention_merged(*tensors, TWO, math_attention) if form == "merged"
           else vsf_attention_concatenated(*tensors, TWO, sdpa))
    found = torch.autograd.grad((out * weights).sum(), tensors)
    expected = torch.autograd.grad((vsf_attention_dense(*tensors, TWO) * weights).sum(), tensors)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["merged", "concatenated"])
@pytest.mark.parametrize("few", [0, forms.FEW])
def test_half_precision_is_no_worse_than_the_plain_call(dtype, form, few, monkeypatch):
    """The error of the image rows, against that of plain attention in the same dtype over the same keys; with the negative's
    rows riding along and without."""
    monkeypatch.setattr(forms, "FEW", few)
    q, k, v = (t.to(dtype) for t in qkv(320, dim=64, seed=3))
    layout = Layout((Segment(0, 8), Segment("P", 56), Segment("I", None)), (Negative(2.0, 0.2),))
    out = (vsf_attention_merged(q, k, v, layout, cpu_flash) if form == "merged"
           else vsf_attention_concatenated(q, k, v, layout, sdpa))
    assert out.dtype == dtype
    error = (out.double() - vsf_attention_dense(q, k, v, layout)).norm()
    exact = sdpa(q.double(), k.double(), v.double(), None)
    plain_error = (sdpa(q, k, v, None).double() - exact).norm()
    assert error <= 1.5 * plain_error


def test_layout_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"^segments name negatives \[0\], settings are given for 2$"):
        Layout((Segment(0, 3),), (Negative(1.0), Negative(1.0)))
    with pytest.raises(ValueError, match="^only one segment may have an open length$"):
        Layout((Segment(0, None), Segment("I", None)), (Negative(1.0),))
    with pytest.raises(ValueError, match=r"^a sequence of 7 tokens does not fit \(Segment"):
        FRONT.key_spans(7)
    assert not SPLIT.fits(14, 14)
    assert SPLIT.fits(15, 15)


CROSS = Layout((Segment("P", 4), Segment(0, 3), Segment("P", 1), Segment(1, 2)), (Negative(2.0, 0.4), Negative(0.7)),
               queries=(Segment("I", None),))
REFINER = Layout((Segment(0, 3), Segment("P", 4), Segment(1, 2)), (Negative(2.0, 0.4), Negative(0.7)))


@pytest.mark.parametrize("queries", [1, 9, 15])
@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention(queries, masked):
    """Z of every image query: positive context, and the flipped copies; against a dense sum."""
    q, k, v = qkv(queries, keys=10, batch=2)
    mask = torch.linspace(-2, 0, 10, dtype=torch.float64)[None, None, None] if masked else None
    logits = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(8)
    bias, sign = torch.zeros(10, dtype=torch.float64), torch.ones(10, dtype=torch.float64)
    bias[4:7], sign[4:7], sign[8:] = -0.4, -2.0, -0.7
    if masked:
        bias[[0, 1, 2, 3, 7]] = mask[0, 0, 0, [0, 1, 2, 3, 7]]
    weights = torch.softmax(logits + bias, dim=-1)
    expected = (weights * sign) @ v
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, CROSS, sdpa, mask), expected)
    if not masked:
        torch.testing.assert_close(vsf_attention_merged(q, k, v, CROSS, cpu_flash), expected)
        torch.testing.assert_close(vsf_attention_dense(q, k, v, CROSS), expected)


def test_text_refiner_keeps_prompts_apart():
    """Positive and negatives each as if they were alone."""
    q, k, v = qkv(9, batch=2)
    expected = torch.cat([sdpa(q[:, :, s], k[:, :, s], v[:, :, s], None) for s in (slice(0, 3), slice(3, 7), slice(7, 9))], 2)
    for out in (vsf_attention_merged(q, k, v, REFINER, cpu_flash), vsf_attention_concatenated(q, k, v, REFINER, sdpa),
                vsf_attention_dense(q, k, v, REFINER)):
        torch.testing.assert_close(out, expected)


def test_what_rests_keeps_its_place_among_the_others():
    three = Layout(tuple(Segment(role, 2) for role in (0, "P", 1, "I", 2)), tuple(map(Negative, (1.0, 2.0, 3.0))),
                   resting=frozenset({1, 2}))
    for left_out, resting in ({0}, {0, 1}), ({1}, {1}), ({2}, {1}), ({0, 2}, {0}), ({1, 2}, set()), (set(), {1, 2}):
        others = three.without(left_out)
        assert others.resting == resting
        assert [n.alpha for n in others.negatives] == [c + 1.0 for c in range(3) if c not in left_out]


def test_segments_without_tokens_are_not_there():
    layout = Layout((Segment("B", 0), Segment(0, 3), Segment("P", 4), Segment("B", 0), Segment("I", None)), FRONT.negatives)
    assert layout.key_spans(15) == FRONT.key_spans(15) == [(0, slice(0, 3)), ("P", slice(3, 7)), ("I", slice(7, 15))]
    q, k, v = qkv(15)
    assert torch.equal(vsf_attention_merged(q, k, v, layout, cpu_flash), vsf_attention_merged(q, k, v, FRONT, cpu_flash))
    assert torch.equal(vsf_attention_concatenated(q, k, v, layout, sdpa), vsf_attention_concatenated(q, k, v, FRONT, sdpa))


def test_an_open_segment_has_no_length_of_its_own():
    assert [s.tokens for s in FRONT.segments[:2]] == [3, 4]
    with pytest.raises(AssertionError):
        _ = FRONT.segments[2].tokens


def test_which_calls_a_layout_fits():
    assert CROSS.fits(9, 10)
    assert not CROSS.fits(9, 11)
    assert not CROSS.fits(10, 10)
    assert CROSS.is_ambiguous(10, 10)
    assert not FRONT.is_ambiguous(15, 15)
    assert FRONT.fits(13, 17)
    assert not FRONT.fits(7, 17)
    assert REFINER.fits(9, 9)
    assert not REFINER.fits(10, 10)
    assert (CROSS.has_image_queries, FRONT.has_image_queries, REFINER.has_image_queries) == (True, True, False)


@pytest.mark.parametrize("own", [None, "of P and I", "of all"])
def test_negatives_that_nobody_sees(layout, own):
    """The model's own attention where they stand in the sequence all the same."""
    q, k, v = qkv(15, batch=2)
    positive = [i for role, s in layout.key_spans(15) if role in ("P", "I") for i in range(s.start, s.stop)]
    whole = -3 * torch.rand(15, 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    of_positive = whole[positive][:, positive]
    mask = {None: None, "of P and I": of_positive, "of all": whole}[own]
    found = forms.attention_without_negatives(q, k, v, layout, sdpa, mask)
    expected = torch.zeros_like(q)
    q, k, v = (t[..., positive, :] for t in (q, k, v))
    expected[..., positive, :] = sdpa(q, k, v, None if own is None else of_positive)
    torch.testing.assert_close(found, expected)


def test_each_negative_is_found_by_compiled_code():
    """torch.compile takes the second one's number for any number, where a graph breaks and a function is compiled by itself."""
    torch._dynamo.reset()
    spans, t = [(0, slice(0, 2)), (1, slice(2, 5)), ("P", slice(5, 6)), (2, slice(6, 7))], torch.arange(14.0).view(7, 2)
    of = torch.compile(lambda t, c: take(t, forms._of(spans, c)), backend="eager")
    for c, rows in enumerate((t[:2], t[2:5], t[6:])):
        assert torch.equal(of(t, c), rows)
