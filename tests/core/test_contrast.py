"""The context rule: its formula, and both forms of it against two whole branches in double precision."""
import dataclasses
import math
from unittest import mock

import heat_reference
import pytest
import torch
from torch import Tensor
from vsf_pack.vsf_core import contrast, dense, forms
from vsf_pack.vsf_core.attention import cpu_flash, math_attention
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.forms import vsf_attention_concatenated, vsf_attention_merged
from vsf_pack.vsf_core.layout import POSITIVE, Context, Layout, Negative, Segment

IMAGE = (Segment("I", None),)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def merged(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    return vsf_attention_merged(q, k, v, layout, cpu_flash)


def concatenated(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    return vsf_attention_concatenated(q, k, v, layout, sdpa)


FORMS = {"merged": merged, "concatenated": concatenated}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def qkv(queries: int, keys: int | None = None, *, batch=2, heads=2, kv_heads=2, dim=8, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    shapes = (heads, queries), (kv_heads, keys or queries), (kv_heads, keys or queries)
    return [2.0 * torch.randn(batch, h, n, dim, generator=g, dtype=dtype) for h, n in shapes]


def layout_of(*segments: tuple, negatives: tuple, queries=None) -> Layout:
    return Layout(tuple(Segment(*s) for s in segments), negatives, queries)


ONE, TWO = (Context(1.0, 0.7),), (Context(1.0, 0.7), Context(0.3))
MIXED = (Context(0.5, 0.9), Negative(2.0, 0.4), Context(1.0))
JOINT = {
    "front": layout_of((0, 3), ("P", 4), ("B", 2), ("I", None), negatives=ONE),
    "behind": layout_of(("P", 4), (0, 3), ("B", 2), ("I", None), negatives=ONE),
    "end": layout_of(("I", None), ("P", 4), ("B", 2), (0, 3), negatives=ONE),
    "split": layout_of(("B", 1), ("P", 1), (0, 2), ("P", 3), ("I", 5), ("B", 1), (0, 1), ("I", None), negatives=ONE),
    "no B": layout_of((0, 3), ("P", 4), ("I", None), negatives=ONE),
    "no words": layout_of((0, 3), ("B", 4), ("I", None), negatives=ONE),
    "two": layout_of((0, 3), (1, 2), ("P", 4), ("B", 2), ("I", None), negatives=TWO),
    "mixed": layout_of((0, 3), (1, 2), (2, 2), ("P", 4), ("B", 2), ("I", None), negatives=MIXED),
    "mixed, apart": layout_of(("P", 2), (1, 2), ("I", 3), (0, 3), ("P", 2), ("I", None), (2, 2), ("B", 2), negatives=MIXED),
}
CROSS = {
    "padded": layout_of(("P", 4), ("B", 3), (0, 5), negatives=ONE, queries=IMAGE),
    "bare": layout_of(("P", 4), (0, 5), negatives=ONE, queries=IMAGE),
    "no words": layout_of(("B", 4), (0, 5), negatives=ONE, queries=IMAGE),
    "two": layout_of((0, 2), ("P", 4), ("B", 3), (1, 5), negatives=TWO, queries=IMAGE),
    "mixed": layout_of((1, 2), ("P", 4), ("B", 3), (0, 5), (2, 1), negatives=MIXED, queries=IMAGE),
    "mixed and bare": layout_of((1, 2), ("P", 4), (0, 5), (2, 1), negatives=MIXED, queries=IMAGE),
}
REFINER = {
    "padded": layout_of((0, 3), ("P", 4), ("B", 2), (1, 1), negatives=TWO),
    "bare": layout_of(("P", 4), (0, 3), (1, 2), negatives=TWO),
    "mixed": layout_of((0, 3), ("B", 1), ("P", 4), (1, 2), ("B", 2), (2, 2), negatives=MIXED),
}
LAYOUTS = {f"{kind}, {name}": layout for kind, layouts in (("joint", JOINT), ("cross", CROSS), ("refiner", REFINER))
           for name, layout in layouts.items()}


@pytest.fixture(params=LAYOUTS)
def layout(request) -> Layout:
    return LAYOUTS[request.param]


def tensors(layout: Layout, **kwargs) -> list[Tensor]:
    fixed = sum(s.length or 0 for s in layout.segments)
    if layout.queries is not None:
        return qkv(9, fixed, **kwargs)
    return qkv(fixed + 8 if any(s.length is None for s in layout.segments) else fixed, **kwargs)


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_two_whole_branches(form, layout, kv_heads, batch):
    q, k, v = tensors(layout, kv_heads=kv_heads, batch=batch)
    before = [t.clone() for t in (q, k, v)]
    expected = vsf_attention_dense(q, k.expand_as(k.expand(batch, 2, -1, -1)), v.expand(batch, 2, -1, -1), layout)
    torch.testing.assert_close(form(q, k, v, layout), expected, rtol=1e-10, atol=1e-10)
    assert all(map(torch.equal, (q, k, v), before))


PAPER = (Negative(2.0, 0.4), Negative(0.7, 1.5))
HEATED = {name: layout for name, layout in LAYOUTS.items() if layout.has_image_queries} | {
    "paper": layout_of((0, 3), (1, 2), ("P", 4), ("B", 2), ("I", None), negatives=PAPER),
    "paper, apart": layout_of(("P", 1), (0, 2), ("P", 3), ("I", 5), (1, 1), (0, 1), ("I", 2), negatives=PAPER),
    "paper, cross": layout_of((1, 2), ("P", 4), (0, 5), negatives=PAPER, queries=IMAGE),
    "paper, many": layout_of(*((c, 1) for c in range(11)), ("P", 4), ("I", None), negatives=(Negative(1.0, 0.3),) * 11),
}


@pytest.mark.parametrize("name", HEATED)
@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize("form", ["merged", "concatenated"])
def test_what_is_noted(form, name, chunk):
    """Shares and pushes of every image token, and nothing else is another for it."""
    layout = HEATED[name]
    q, k, v = tensors(layout, kv_heads=1, batch=3)
    noted: list[Tensor] = []
    run, base = {"merged": (vsf_attention_merged, cpu_flash), "concatenated": (vsf_attention_concatenated, sdpa)}[form]
    with mock.patch.object(forms, "CHUNK_ON_CPU", chunk):
        out = run(q, k, v, layout, base, note=noted.append)
        assert torch.equal(out, run(q, k, v, layout, base))
    torch.testing.assert_close(torch.cat(noted, dim=-1), heat_reference.heat(q, k, v, layout), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["paper", "joint, mixed", "cross, mixed"])
@pytest.mark.parametrize("chunk", [20, 2**24])
def test_a_region_is_noted(name, chunk):
    q, k, v = tensors(HEATED[name])
    image = sum(s.stop - s.start for role, s in HEATED[name].query_spans(q.shape[2]) if role == "I")
    region = torch.linspace(0, 1, 2 * image, dtype=torch.float64).reshape(2, image)
    layout = dataclasses.replace(HEATED[name], negatives=tuple(dataclasses.replace(n, region=region)
                                                               for n in HEATED[name].negatives))
    for run, base in ((vsf_attention_merged, cpu_flash), (vsf_attention_concatenated, sdpa)):
        noted: list[Tensor] = []
        with mock.patch.multiple(forms, CHUNK=chunk, CHUNK_ON_CPU=chunk):
            run(q, k, v, layout, base, note=noted.append)
        torch.testing.assert_close(torch.cat(noted, dim=-1), heat_reference.heat(q, k, v, layout))


@pytest.mark.parametrize("mask", [None, "keys", "rows"])
def test_negatives_that_rest(form, layout, mask):
    """Each one and all of them: the image does not see them; their own rows are what they are when they act."""
    if not layout.has_image_queries or (mask and form is merged):
        pytest.skip("where nobody acts, nobody rests; the merged form takes no mask")
    q, k, v = tensors(layout)
    kinds = [role for role, s in layout.key_spans(k.shape[2]) for _ in range(s.stop - s.start)]
    rows = [role for role, s in layout.query_spans(q.shape[2]) for _ in range(s.stop - s.start)]
    positive = [i for i, role in enumerate(rows) if not isinstance(role, int)]
    bias = torch.linspace(-2, 0, k.shape[2], dtype=torch.float64).expand(1, 1, 1, -1)
    if mask == "rows":
        bias = bias * torch.linspace(0, 1, q.shape[2], dtype=torch.float64)[:, None]
    options = {} if mask is None else {"mask": bias}
    acting = vsf_attention_concatenated(q, k, v, layout, sdpa, **options)
    count = len(layout.negatives)
    for resting in [*({c} for c in range(count)), set(range(count))]:
        at_rest = dataclasses.replace(layout, resting=frozenset(resting))
        out = form(q, k, v, at_rest) if mask is None else vsf_attention_concatenated(q, k, v, at_rest, sdpa, bias)
        kept = [j for j, role in enumerate(kinds) if role not in resting]
        ours = [i for i, role in enumerate(rows) if role not in resting]
        parts = q[:, :, ours], k[:, :, kept], v[:, :, kept]
        own = {} if mask is None else {"mask": bias[..., kept] if mask == "keys" else bias[..., ours, :][..., kept]}
        if len(resting) < count:
            expected = vsf_attention_concatenated(*parts, layout.without(resting), sdpa, **own)
        else:
            expected = sdpa(*parts, own.get("mask"))
        torch.testing.assert_close(out[:, :, ours], expected, rtol=1e-10, atol=1e-10)
        theirs = [i for i, role in enumerate(rows) if role in resting]
        torch.testing.assert_close(out[:, :, theirs], acting[:, :, theirs], rtol=1e-10, atol=1e-10)
        assert not torch.allclose(out[:, :, positive], acting[:, :, positive], atol=1e-3)
        if mask is None:
            torch.testing.assert_close(out, vsf_attention_dense(q, k, v, at_rest), rtol=1e-10, atol=1e-10)
            noted, alone = [], []
            run, base = (vsf_attention_merged, cpu_flash) if form is merged else (vsf_attention_concatenated, sdpa)
            assert torch.equal(run(q, k, v, at_rest, base, note=noted.append), out)
            told = torch.cat(noted, dim=-1)
            assert not told[[1 + c for c in resting]].any()
            if len(resting) < count:
                run(*parts, layout.without(resting), base, note=alone.append)
                assert torch.equal(told[[0, *(1 + c for c in range(count) if c not in resting)]], torch.cat(alone, dim=-1))
            assert told.shape[-1] == rows.count("I")


@pytest.mark.parametrize("name", ["joint, two", "joint, mixed, apart", "cross, mixed"])
def test_settings_as_tensors(form, name):
    """Strengths and scales that are tensors, as a curve gives them, are the same as numbers."""
    q, k, v = tensors(LAYOUTS[name])
    as_tensors = dataclasses.replace(LAYOUTS[name], negatives=tuple(
        dataclasses.replace(n, strength=torch.tensor(n.strength)) if isinstance(n, Context)
        else dataclasses.replace(n, alpha=torch.tensor(n.alpha)) for n in LAYOUTS[name].negatives))
    torch.testing.assert_close(form(q, k, v, as_tensors), form(q, k, v, LAYOUTS[name]), rtol=1e-6, atol=1e-6)
    for dtype in (torch.float16, torch.bfloat16):
        half = [t.to(dtype) for t in (q, k, v)]
        out = form(*half, as_tensors)
        assert out.dtype == dtype
        torch.testing.assert_close(out, form(*half, LAYOUTS[name]), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize("kernel", [cpu_flash, math_attention])
def test_in_chunks(layout, chunk, kernel):
    q, k, v = tensors(layout)
    with mock.patch.object(forms, "CHUNK_ON_CPU", chunk):
        torch.testing.assert_close(vsf_attention_merged(q, k, v, layout, kernel), vsf_attention_dense(q, k, v, layout))


def test_more_keys_than_queries(form):
    """Cached reference keys stand after the image's and count as image."""
    for where in ("front", "two", "mixed"):
        q, k, v = tensors(JOINT[where])
        q = q[:, :, :-3]
        torch.testing.assert_close(form(q, k, v, JOINT[where]), vsf_attention_dense(q, k, v, JOINT[where]))


def of_every_kind(layout: Layout, **changes) -> Layout:
    """The same with other settings of its contexts."""
    return dataclasses.replace(layout, negatives=tuple(
        dataclasses.replace(n, **changes) if isinstance(n, Context) else n for n in layout.negatives))


@pytest.mark.parametrize("name", ["joint, two", "joint, mixed, apart", "cross, mixed", "cross, bare"])
def test_region_and_fade_of_each_row(form, name):
    q, k, v = tensors(LAYOUTS[name])
    image = sum(s.stop - s.start for role, s in LAYOUTS[name].query_spans(q.shape[2]) if role == "I")
    region = torch.linspace(0, 1, 2 * image, dtype=torch.float64).reshape(2, image)
    plain = form(q, k, v, LAYOUTS[name])
    for changes in ({"region": region}, {"region": region[1:]}, {"fade": torch.tensor([0.2, 0.9])}):
        layout = of_every_kind(LAYOUTS[name], **changes)
        out = form(q, k, v, layout)
        torch.testing.assert_close(out, vsf_attention_dense(q, k, v, layout), rtol=1e-6, atol=1e-6)
        assert not torch.allclose(out, plain, atol=1e-3)


def test_padding_is_prompt_to_the_papers_rule(form):
    """B for P: bit for bit the same."""
    negatives = (Negative(2.0, 0.4), Negative(0.7))
    for segments, queries in (([(0, 3), (1, 2), ("P", 4), ("B", 2), ("I", None)], None),
                              ([("B", 1), ("P", 4), (0, 3), ("I", None), ("B", 2), (1, 2)], None),
                              ([("P", 4), (0, 3), ("B", 2), (1, 2)], None),
                              ([("P", 4), ("B", 2), (0, 3), (1, 2)], IMAGE)):
        with_b = layout_of(*segments, negatives=negatives, queries=queries)
        without = layout_of(*(("P" if role == "B" else role, n) for role, n in segments), negatives=negatives, queries=queries)
        q, k, v = tensors(with_b)
        out = form(q, k, v, with_b)
        assert torch.equal(out, form(q, k, v, without))
        torch.testing.assert_close(out, vsf_attention_dense(q, k, v, with_b))


def strongest_of(layout: Layout) -> Layout:
    return of_every_kind(layout, strength=3.0, fade=1.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["joint", "joint without B", "cross", "bare cross", "refiner"])
def test_the_prompts_own_words_are_off(form, name, dtype):
    """A context with the prompt's words, at every row: as if there were no negative, and its own rows are the prompt's."""
    segments, queries = {"joint": ([(0, 4), ("P", 4), ("B", 2), ("I", None)], None),
                         "joint without B": ([("P", 4), (0, 4), ("I", None)], None),
                         "cross": ([("P", 4), ("B", 2), (0, 4)], IMAGE), "bare cross": ([("P", 4), (0, 4)], IMAGE),
                         "refiner": ([("P", 4), (0, 4), ("B", 2)], None)}[name]
    layout = strongest_of(layout_of(*segments, negatives=ONE, queries=queries))
    q, k, v = (t.to(dtype) for t in tensors(layout, dim=64))
    for t, spans in ((q, layout.query_spans(q.shape[2])), (k, layout.key_spans(k.shape[2])), (v, layout.key_spans(k.shape[2]))):
        words = {role: s for role, s in spans}
        if 0 in words:
            t[:, :, words[0]] = t[:, :, words["P"]]
    out = form(q, k, v, layout)
    rows, cols = ([i for role, s in spans if role in POSITIVE for i in range(s.start, s.stop)]
                  for spans in (layout.query_spans(q.shape[2]), layout.key_spans(k.shape[2])))
    exact = sdpa(q[:, :, rows].double(), k[:, :, cols].double(), v[:, :, cols].double(), None)
    plain = sdpa(q[:, :, rows], k[:, :, cols], v[:, :, cols], None)
    error, own_error = ((x.double() - exact).norm() / exact.norm() for x in (out[:, :, rows], plain))
    assert error <= {torch.float64: 1e-12, torch.float32: 1e-6}.get(dtype, 2 * own_error)
    if queries is None:
        own = {role: s for role, s in layout.query_spans(q.shape[2])}
        assert torch.equal(out[:, :, own[0]], out[:, :, own["P"]])


def test_strength_0_is_the_model_without_a_negative(form, layout):
    """Bit for bit the same as a push of nothing, and to rounding the plain call."""
    if any(isinstance(n, Negative) for n in layout.negatives):
        return
    q, k, v = tensors(layout)
    out = form(q, k, v, of_every_kind(layout, strength=0.0))
    rows, cols = ([i for role, s in spans if role in POSITIVE for i in range(s.start, s.stop)]
                  for spans in (layout.query_spans(q.shape[2]), layout.key_spans(k.shape[2])))
    torch.testing.assert_close(out[:, :, rows], sdpa(q[:, :, rows], k[:, :, cols], v[:, :, cols], None), rtol=1e-13, atol=1e-13)
    for off in ({"fade": 0.0}, {"fade": torch.zeros(2)}):
        assert torch.equal(form(q, k, v, of_every_kind(layout, **off)), out)


def test_the_prompt_does_not_change(form):
    """P's and B's rows are the model's own, whatever the contexts."""
    for layout in JOINT.values():
        q, k, v = tensors(layout)
        rows = [i for role, s in layout.query_spans(q.shape[2]) if role in ("P", "B") for i in range(s.start, s.stop)]
        cols = [i for role, s in layout.key_spans(k.shape[2]) if role in POSITIVE for i in range(s.start, s.stop)]
        plain = sdpa(q[:, :, rows], k[:, :, cols], v[:, :, cols], None)
        torch.testing.assert_close(form(q, k, v, layout)[:, :, rows], plain, rtol=1e-12, atol=1e-12)


def test_concatenated_keeps_the_models_own_call():
    """P, B and I are in one call, with the tensors that the model would give: the same rounding."""
    layout = JOINT["two"]
    q, k, v = (t.float() for t in tensors(layout))
    out = concatenated(q, k, v, layout)
    assert torch.equal(out[:, :, 5:11], sdpa(q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], None)[:, :, :6])


MASKS = {
    "keys": lambda n: torch.linspace(-3, 0, n, dtype=torch.float64)[None],
    "keys of each row": lambda n: torch.linspace(-3, 0, 2 * n, dtype=torch.float64).reshape(2, 1, 1, n),
    "matrix": lambda n: torch.linspace(-3, 0, n * n, dtype=torch.float64).sin().reshape(n, n),
    "heads": lambda n: torch.linspace(-3, 0, 2 * n * n, dtype=torch.float64).sin().reshape(1, 2, n, n),
    "boolean": lambda n: torch.arange(n)[None, None, None] % 3 != 1,
    "boolean matrix": lambda n: (torch.arange(n * n).reshape(n, n) % 5 != 1),
    "rows": lambda n: torch.linspace(-3, 0, n, dtype=torch.float64)[:, None],
    "constant": lambda n: torch.full((1, 1), 0.5, dtype=torch.float64),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("whole", [False, True], ids=["without negatives", "whole sequence"])
@pytest.mark.parametrize("name", ["joint, front", "joint, split", "joint, mixed", "joint, no words", "refiner, padded",
                                  "refiner, mixed"])
def test_the_models_own_mask_is_kept(mask, name, whole):
    """The context's words have the mask of the prompt's that is seen best; B and I theirs."""
    layout = LAYOUTS[name]
    q, k, v = tensors(layout)
    kinds = [role for role, s in layout.key_spans(k.shape[2]) for _ in range(s.stop - s.start)]
    positive = [i for i, kind in enumerate(kinds) if kind in POSITIVE]
    own = mask(len(positive))
    additive = torch.zeros(own.shape, dtype=torch.float64).masked_fill(~own, -math.inf) if own.dtype == torch.bool else own
    while additive.ndim < 4:
        additive = additive.unsqueeze(0 if additive.ndim < 3 else 1)
    additive = additive.expand(2, 2, len(positive), len(positive))
    full = torch.zeros(2, 2, len(kinds), len(kinds), dtype=torch.float64)
    full[:, :, [[i] for i in positive], positive] = additive
    given = torch.full_like(full, -7.0) if whole else own  # of the negatives' tokens it may say anything
    if whole:
        given[:, :, [[i] for i in positive], positive] = additive
    words = [i for i, kind in enumerate(kinds) if kind == "P"]
    speaker = words or [i for i, kind in enumerate(kinds) if kind == "B"]
    for i, kind in enumerate(kinds):  # what the mask is to mean for the contexts' rows and columns, token by token
        if isinstance(kind, int) and isinstance(layout.negatives[kind], Context):
            full[:, :, i] = full[:, :, speaker].amax(2)
    for j, kind in enumerate(kinds):
        if isinstance(kind, int) and isinstance(layout.negatives[kind], Context):
            full[..., j] = full[..., words or positive].amax(-1)
    expected = vsf_attention_dense(q, k, v, layout, mask=full)
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa, given), expected)


@pytest.mark.parametrize("copies", [2, 3])
def test_copies_count_once(form, copies):
    """A lane that stands twice, so that the number of keys is another."""
    once = layout_of(("P", 4), ("B", 3), (0, 2), (1, 2), negatives=TWO, queries=IMAGE)
    q, k, v = tensors(once)
    more = layout_of(("P", 4), ("B", 3), (0, 2 * copies), (1, 2), queries=IMAGE,
                     negatives=(dataclasses.replace(TWO[0], copies=copies), TWO[1]))
    k_more, v_more = (torch.cat([t[:, :, :7], *[t[:, :, 7:9]] * copies, t[:, :, 9:]], 2) for t in (k, v))
    out = form(q, k_more, v_more, more)
    assert torch.equal(out, form(q, k, v, once))
    torch.testing.assert_close(out, vsf_attention_dense(q, k_more, v_more, more))


def test_differences_beyond_half_precision(form):
    """Z+ = 40,000 and D = -80,000, which is beyond it where the result is not: a push of |Z+|, faded to a fifth."""
    layout = layout_of(("P", 4), (0, 4), negatives=(Context(1.0, 0.2),), queries=IMAGE)
    q, k, v = tensors(layout, dtype=torch.float64)
    v[:, :, :4], v[:, :, 4:] = 40000, -40000
    out = form(*(t.half() for t in (q, k, v)), layout)
    torch.testing.assert_close(out, torch.full_like(out, 48000), rtol=2e-3, atol=0)


def test_the_result_is_written_over_the_large_attentions():
    layout = JOINT["front"]
    made: list[int] = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        z, lse = cpu_flash(q, k, v)
        made.append(z.data_ptr())
        return z, lse
    assert vsf_attention_merged(*tensors(layout), layout, attend).data_ptr() == made[0]


def test_the_same_words_make_the_same_call():
    """Bit for bit: the concatenated form asks for a context's keys in the order in which the prompt's stand."""
    layout = layout_of(("B", 1), ("P", 3), ("I", 4), (0, 3), negatives=ONE)
    q, k, v = qkv(11)
    k[:, :, 8:], v[:, :, 8:] = k[:, :, 1:4], v[:, :, 1:4]
    asked: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        asked.append(k)
        return sdpa(q, k, v, mask)
    vsf_attention_concatenated(q, k, v, layout, attend)
    assert len(asked) == 3 and all(torch.equal(keys, k[:, :, :8]) for keys in asked)


def test_copies_of_words_in_pieces(form):
    """The words are the first of all pieces, wherever these end."""
    layout = layout_of((0, 2), ("P", 3), (0, 1), ("B", 1), (0, 3), negatives=(Context(1.0, copies=2),), queries=IMAGE)
    q, k, v = tensors(layout)
    torch.testing.assert_close(form(q, k, v, layout), vsf_attention_dense(q, k, v, layout))


def test_a_mask_where_the_image_alone_speaks():
    """Without a prompt and padding, the context has of each other token the best that the image has."""
    layout = layout_of((0, 2), ("I", None), negatives=ONE)
    q, k, v = qkv(7)
    own = -3 * torch.rand(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    full = torch.zeros(7, 7, dtype=torch.float64)
    full[2:, 2:], full[:2, 2:], full[2:, :2], full[:2, :2] = own, own.amax(0), own.amax(1, keepdim=True), own.max()
    torch.testing.assert_close(vsf_attention_concatenated(q, k, v, layout, sdpa, own),
                               vsf_attention_dense(q, k, v, layout, mask=full))


@pytest.mark.parametrize("form_name", FORMS)
def test_gradients(form_name):
    for name in ("joint, two", "joint, mixed", "cross, mixed", "refiner, padded", "cross, bare"):
        layout = LAYOUTS[name]
        given = [t.requires_grad_() for t in tensors(layout)]
        out = (vsf_attention_merged(*given, layout, math_attention) if form_name == "merged"
               else vsf_attention_concatenated(*given, layout, sdpa))
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
        found = torch.autograd.grad((out * weights).sum(), given)
        expected = torch.autograd.grad((vsf_attention_dense(*given, layout) * weights).sum(), given)
        torch.testing.assert_close(found, expected)


def with_shares(text: float, image: float, dtype: torch.dtype) -> tuple[list[Tensor], Layout]:
    """Tensors in which the prompt's and the context's logits are moved by `text`, the image's and the padding's by `image`."""
    layout = layout_of((0, 8), ("P", 8), ("B", 4), ("I", None), negatives=(Context(1.0),))
    q, k, v = qkv(84, dim=64, batch=1, heads=4, kv_heads=4)
    q[..., 0] = 8.0  # a channel that moves the logits by one for each one in the keys
    k[..., 0] = torch.tensor([text] * 16 + [image] * 68, dtype=torch.float64)
    return [t.to(dtype) for t in (q, k, v)], layout


def error_of(form, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> float:
    """The largest error of an image token, in lengths of its Z+."""
    out = form(q, k, v, layout)
    assert out.isfinite().all()
    error = out - vsf_attention_dense(q, k, v, layout)
    plus = vsf_attention_dense(q, k, v, of_every_kind(layout, strength=0.0))
    image = layout.query_spans(q.shape[2])[-1][1]
    return (error.square().sum((1, 3)).sqrt() / plus.square().sum((1, 3)).sqrt())[:, image].max().item()


SHARES = [(0, 0), (-8, 0), (-20, 0), (-100, 0), (8, 0), (0, -20), (20, 0), (100, 0), (0, -200), (-200, 0)]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1.2e-5), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize(("text", "image"), SHARES)
def test_safe_at_every_share_of_the_text(form, dtype, bound, text, image):
    """The push is 6 D. The concatenated form's D is the difference of two results that were rounded to the tensors' dtype."""
    (q, k, v), layout = with_shares(text, image, dtype)
    if dtype == torch.float32:
        bound *= max(1, text / 40)  # the logits' own rounding
    elif form is concatenated:
        bound *= 3
    assert error_of(form, q, k, v, layout) <= bound


def test_a_push_is_never_longer_than_what_it_pushes(form):
    layout = strongest_of(JOINT["two"])
    q, k, v = tensors(layout)
    plus = form(q, k, v, of_every_kind(layout, strength=0.0))[:, :, 11:]
    push = plus - form(q, k, v, layout)[:, :, 11:]

    def size(x: Tensor) -> Tensor:
        return x.square().sum((1, 3)).sqrt()
    assert (size(push) <= size(plus) * (1 + 1e-9)).all()
    assert (size(push) > 0.5 * size(plus)).any()


def not_told(layout: Layout) -> dict[str, mock._patch]:
    """Ways in which the rule could be wrong."""
    push, sees = contrast.push, dense._sees

    def norm_of(dims: tuple[int, ...]):
        return mock.patch.object(contrast, "length", lambda x: torch.linalg.vector_norm(x, dim=dims, keepdim=True))
    return {
        "sign": mock.patch.object(contrast, "push", lambda pushes: (-push(pushes)[0], *push(pushes)[1:])),
        "cap of each head": norm_of((3,)),
        "cap over the picture": norm_of((1, 2, 3)),
        "cap over the batch": norm_of((0, 1, 3)),
        "no limit on the sum": mock.patch.object(contrast, "push", lambda pushes: (
            sum(d * factor for d, factor, _ in pushes), torch.ones_like(pushes[0][1]), pushes[0][2])),
        "no cap": mock.patch.object(contrast, "capped", lambda d, room, s, weight: (
            torch.full_like(room, s * weight), s * weight * contrast.length(d))),
        "scale": mock.patch.object(contrast, "SCALE", 5.9),
        "contexts see each other": mock.patch.object(dense, "_sees", lambda layout, a, b: sees(layout, a, b)
                                                     or (isinstance(a, int) and isinstance(b, int))),
        "contexts see the prompt": mock.patch.object(dense, "_sees", lambda layout, a, b: sees(layout, a, b)
                                                     or (isinstance(a, int) and b == "P")),
        "contexts do not see the padding": mock.patch.object(dense, "_sees", lambda layout, a, b: sees(layout, a, b)
                                                             and not (isinstance(a, int) and b == "B")),
        "the prompt sees contexts": mock.patch.object(dense, "_sees", lambda layout, a, b: sees(layout, a, b)
                                                      or (a == "P" and isinstance(b, int))),
    }


MUTANT_LAYOUT = of_every_kind(JOINT["two"], fade=0.8)


@pytest.mark.parametrize("mutant", not_told(MUTANT_LAYOUT))
def test_mutants_are_told_apart(form, mutant):
    q, k, v = tensors(MUTANT_LAYOUT)
    q, k = q / 2, k / 2  # so that some pushes are capped, and some are not
    torch.testing.assert_close(form(q, k, v, MUTANT_LAYOUT), vsf_attention_dense(q, k, v, MUTANT_LAYOUT))
    with not_told(MUTANT_LAYOUT)[mutant]:
        assert not torch.allclose(form(q, k, v, MUTANT_LAYOUT), vsf_attention_dense(q, k, v, MUTANT_LAYOUT), atol=1e-4)


def test_a_fade_that_is_forgotten_is_told_apart(form):
    q, k, v = tensors(MUTANT_LAYOUT)
    assert not torch.allclose(form(q, k, v, of_every_kind(MUTANT_LAYOUT, fade=1.0)),
                              vsf_attention_dense(q, k, v, MUTANT_LAYOUT), atol=1e-3)


def test_the_formula_by_hand():
    """One head, one channel, one image token: Z+ = 2, and two pushes along it."""
    room = contrast.length(torch.full((1, 1, 1, 1), 2.0))
    stretch, long = contrast.capped(torch.full((1, 1, 1, 1), 0.1), room, s=6.0)
    torch.testing.assert_close((stretch.item(), long.item()), (6.0, 0.6))
    stretch, long = contrast.capped(torch.full((1, 1, 1, 1), -1.0), room, s=6.0, weight=0.5)
    torch.testing.assert_close((stretch.item(), long.item()), (1.0, 1.0))
    stretch, _ = contrast.capped(torch.full((1, 1, 1, 1), 0.1), room, s=6.0, kappa=0.1)
    torch.testing.assert_close(stretch.item(), 2.0)

    def pushed(*lengths: float) -> tuple[float, float]:
        of = [torch.full((1, 1, 1, 1), x) for x in lengths]
        d, factor, long = contrast.push([(x / 2, torch.full_like(x, 2.0), x.abs()) for x in of])
        return (d * factor).item(), long.item()
    assert pushed(0.6, 1.0) == (pytest.approx(1.0), pytest.approx(1.0))  # no longer than the longest
    assert pushed(0.6, -1.0) == (pytest.approx(-0.4), pytest.approx(0.4))
    assert pushed(-0.6) == (pytest.approx(-0.6), pytest.approx(0.6))


def test_nothing_to_push():
    zero = torch.zeros(1, 2, 3, 4)
    factor, long = contrast.capped(zero, contrast.length(zero), 6.0)
    assert torch.equal(zero * factor, zero)
    assert torch.equal(contrast.push([(zero, factor, long)] * 2)[0], zero)
    huge = torch.full((1, 2, 3, 4), 1e30)  # whose squares single precision does not hold
    factor, long = contrast.capped(huge, contrast.length(huge), 6.0)
    assert (huge * factor).isfinite().all()
    assert all(t.isfinite().all() for t in contrast.push([(huge, factor, long)] * 2))


def test_fade_and_the_noises_share():
    assert contrast.fade(1.0) == contrast.fade(0.75) == 1.0
    assert contrast.fade(0.375) == 0.25
    assert contrast.fade(0.0) == 0.0
    torch.testing.assert_close(contrast.fade(torch.tensor([0.9, 0.375, 0.0])), torch.tensor([1.0, 0.25, 0.0]))
    assert contrast.noise_share(0.3, is_flow=True) == 0.3
    assert contrast.noise_share(1.0, is_flow=False) == 0.5
    x0, eps = torch.randn(2, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sigma in (0.03, 1.0, 14.6):  # the same picture as the flow's at t, but for its size
        t = contrast.noise_share(sigma, is_flow=False)
        torch.testing.assert_close((x0 + sigma * eps) / (1 + sigma), (1 - t) * x0 + t * eps)


def test_out_is_written_over():
    """The difference may be written over an argument, and is the same as elsewhere."""
    generator = torch.Generator().manual_seed(0)
    z, z_text, z_rest = torch.randn(3, 2, 4, 9, 8, generator=generator)
    w, w_text = torch.rand(2, 2, 4, 9, 1, generator=generator)
    own = z.clone()
    found = contrast.difference(own, w, z_text, w_text, z_rest, out=own)
    assert found.data_ptr() == own.data_ptr()
    assert torch.equal(found, contrast.difference(z, w, z_text, w_text, z_rest))
