"""Backends and overrides that do not take a mask, that end in PyTorch's attention, or that are sparse.

ComfyUI's own functions (comfy/ldm/modules/attention.py), with stand-ins for kernels that need a GPU; and overrides as nodes put
them in."""
from __future__ import annotations

import functools
import gc
import logging
import weakref
from types import SimpleNamespace

import cases
import comfy.ldm.modules.attention as comfy_attention
import pytest
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from torch.nn.functional import scaled_dot_product_attention
from vsf_pack.nodes.glue.attention import backends
from vsf_pack.nodes.glue.attention.override import OVERRIDE, VSFAttention
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.glue.sampling.patch import CompiledApart
from vsf_pack.vsf_core.dense import vsf_attention_dense
from vsf_pack.vsf_core.layout import Layout, Negative, Segment

JOINT = Layout((Segment(0, 3), Segment("P", 4), Segment("I", None)), (Negative(2.0, 0.8),))
CROSS = Layout((Segment("P", 4), Segment(0, 3)), (Negative(2.0, 0.8),), queries=(Segment("I", None),))
MERGED, CONCATENATED = "log-sum-exp merge (cpu_flash)", "concatenated keys"
H, D = 4, 16


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """ComfyUI's functions outlive a test; what is known of them must not."""
    monkeypatch.setattr(backends, "MEMORY", backends.Memory())


@pytest.fixture(params=[JOINT, CROSS], ids=["joint", "cross"])
def layout(request) -> Layout:
    return request.param


def tensors(layout: Layout, batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """q, k, v of one attention, heads first."""
    g = torch.Generator().manual_seed(seed)
    keys = 7 if layout is CROSS else 15
    return [2.0 * torch.randn(batch, H, n, D, generator=g) for n in (11 if layout is CROSS else keys, keys, keys)]


def attention(layout: Layout, qkv, *, func=comfy_attention.attention_sub_quad, previous=None, mask=None, **kwargs):
    """An attention call as ComfyUI's models make it, and what VSF says of it in the log."""
    options = {OVERRIDE: VSFAttention([layout], previous), **kwargs.pop("options", {})}
    return func(*qkv, H, mask=mask, skip_reshape=True, skip_output_reshape=True, transformer_options=options, **kwargs)


def error(out: torch.Tensor, expected: torch.Tensor) -> float:
    return ((out.double() - expected).norm() / expected.norm()).item()


def said(caplog, what: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "vsf" and what in r.getMessage()]


BIAS = "bias needs a mask"
SPARSE = "an attention that another node put in, works otherwise"


def kernel(q, k, v, bias=None, scale=None) -> torch.Tensor:
    """A fused kernel that is not PyTorch's. Heads first."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (logits if bias is None else logits + bias).softmax(-1) @ v


def ignores_masks(func, q, k, v, heads, mask=None, skip_reshape=False, skip_output_reshape=False, **kwargs):
    """SageAttention as some nodes put it in."""
    if not skip_reshape:
        q, k, v = (t.reshape(len(t), t.shape[1], heads, -1).transpose(1, 2) for t in (q, k, v))
    out = kernel(q, k, v, scale=kwargs.get("scale"))
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


def refuses_masks(func, *args, mask=None, **kwargs):
    if mask is not None:
        raise NotImplementedError("attn_mask")
    return ignores_masks(func, *args, **kwargs)


def thinks_masks_boolean(func, q, k, v, heads, mask=None, **kwargs):
    return kernel(q, k, v, None if mask is None else torch.zeros_like(mask).masked_fill(mask != 0, -torch.inf))


def ignores_masks_of_long_ones(func, q, k, *args, **kwargs):
    return (func if k.shape[2] < 5 else functools.partial(ignores_masks, func))(q, k, *args, **kwargs)


class Callable:
    """An override without a hash."""
    __slots__ = ("__weakref__",)
    __hash__ = None

    def __eq__(self, other):
        return True

    def __call__(self, func, *args, **kwargs):
        return ignores_masks(func, *args, **kwargs)

    method = __call__


class Slotted:
    """An override that cannot be referred to weakly."""
    __slots__ = ()

    def __call__(self, func, *args, **kwargs):
        return ignores_masks(func, *args, **kwargs)


MASKLESS = {"ignores": lambda: functools.wraps(ignores_masks)(lambda *a, **k: ignores_masks(*a, **k)),
            "refuses": lambda: refuses_masks, "boolean": lambda: thinks_masks_boolean,
            "by length": lambda: ignores_masks_of_long_ones, "partial": lambda: functools.partial(ignores_masks),
            "no hash": Callable, "method": lambda: Callable().method, "slots": Slotted}


@pytest.mark.parametrize("make", MASKLESS.values(), ids=MASKLESS)
def test_bias_acts_where_an_override_takes_no_mask(layout, make, caplog):
    previous = make()
    with caplog.at_level(logging.INFO, "vsf"):
        for seed in range(2):
            qkv = tensors(layout, seed=seed)
            assert error(attention(layout, qkv, previous=previous), vsf_attention_dense(*qkv, layout)) <= 1e-5
    assert len(said(caplog, BIAS)) == 1
    assert not said(caplog, SPARSE)


def test_without_a_bias_an_override_that_takes_no_mask_is_kept(layout, caplog):
    calls = []

    def previous(func, *args, **kwargs):
        calls.append(kwargs.get("mask"))
        return ignores_masks(func, *args, **kwargs)

    plain = Layout(layout.segments, (Negative(2.0),), layout.queries)
    qkv = tensors(layout)
    with caplog.at_level(logging.DEBUG, "vsf"):
        assert error(attention(plain, qkv, previous=previous), vsf_attention_dense(*qkv, plain)) <= 1e-5
    assert calls
    assert all(mask is None for mask in calls)
    assert not said(caplog, BIAS)
    assert said(caplog, f"{CONCATENATED} (previous)")


def test_a_mask_of_the_model_stays_the_overrides_affair(layout):
    """One that ignores masks ignores the model's own on P and I, as without us; the bias acts."""
    qkv = tensors(layout)
    own = torch.zeros(1, 1, 1, 4 if layout is CROSS else 12)
    own[..., 2] = -1e4
    out = attention(layout, qkv, previous=lambda func, *a, **k: ignores_masks(func, *a, **k), mask=own)
    assert error(out, vsf_attention_dense(*qkv, layout)) <= 1e-5
    with pytest.raises(NotImplementedError, match="attn_mask"):  # as it would without us
        attention(layout, qkv, previous=lambda func, *a, **k: refuses_masks(func, *a, **k), mask=own)


def flash(q, k, v, **kwargs):
    return kernel(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)


def sage(q, k, v, **kwargs):
    return kernel(q, k, v)


def sage_with_masks(q, k, v, attn_mask=None, **kwargs):
    return kernel(q, k, v, attn_mask)


SAGE_LEAVES_MASKS_TO_PYTORCH = hasattr(comfy_attention, "SAGE_ATTENTION_SUPPORTS_MASK")  # older ComfyUI hands them to it


@pytest.fixture(params=["basic", "sub_quad", "split", "flash", "sage", "sage with masks", "sage 3", "xformers"])
def backend(request, monkeypatch):
    """ComfyUI's own functions. Their kernels for GPUs are stood in for; of SageAttention 3, the choice to go to PyTorch."""
    monkeypatch.setattr(comfy_attention, "flash_attn_wrapper", flash)
    with_masks = request.param == "sage with masks"
    monkeypatch.setattr(comfy_attention, "sageattn", sage_with_masks if with_masks else sage, raising=False)
    monkeypatch.setattr(comfy_attention, "SAGE_ATTENTION_SUPPORTS_MASK", with_masks, raising=False)
    ops = SimpleNamespace(memory_efficient_attention=lambda q, k, v, attn_bias, scale=None: kernel(
        *(t.transpose(1, 2) for t in (q, k, v)), attn_bias, scale).transpose(1, 2))
    monkeypatch.setattr(comfy_attention, "xformers", SimpleNamespace(ops=ops), raising=False)
    name = {"sage with masks": "attention_sage", "sage 3": "attention3_sage"}.get(request.param, f"attention_{request.param}")
    return request.param, getattr(comfy_attention, name)


FORMS = {"flash": MERGED, "sage": MERGED, "sage 3": MERGED}  # the others take a mask themselves


def test_bias_on_every_backend_of_comfyui(layout, backend, caplog):
    name, func = backend
    with caplog.at_level(logging.DEBUG):
        for seed in range(3):
            qkv = tensors(layout, seed=seed)
            assert error(attention(layout, qkv, func=func), vsf_attention_dense(*qkv, layout)) <= 1e-5
    assert len(said(caplog, BIAS)) == (name in ("flash", "sage"))
    assert len(said(caplog, FORMS.get(name, CONCATENATED))) == 3
    fallbacks = [r for r in caplog.records if "using default SDPA" in r.getMessage()]
    assert len(fallbacks) <= 1, "ComfyUI warns whenever its flash attention is given a mask"


def test_a_mask_of_the_model_on_every_backend_of_comfyui(layout, backend):
    """Flash and sage leave masked attention to PyTorch: so it stays, and the bias acts beside the model's mask."""
    name, func = backend
    if name == "sage" and not SAGE_LEAVES_MASKS_TO_PYTORCH:
        pytest.skip("this ComfyUI's ignores masks")
    q, k, v = tensors(layout)
    hidden = 2 if layout is CROSS else 5  # the third word
    mask = torch.zeros(1, 1, q.shape[2] if layout is CROSS else 12, 4 if layout is CROSS else 12)
    mask[..., 2] = -1e4
    out = attention(layout, (q, k, v), func=func, mask=mask)
    left = [t for t in range(k.shape[2]) if t != hidden]
    rows = list(range(q.shape[2])) if layout is CROSS else left
    segments = tuple(Segment("P", 3) if s.role == "P" else s for s in layout.segments)
    without = Layout(segments, layout.negatives, layout.queries)
    assert error(out[:, :, rows], vsf_attention_dense(q[:, :, rows], k[:, :, left], v[:, :, left], without)) <= 1e-5


def core_override(function):
    """ComfyUI's own, by ModelPatcher.set_model_optimized_attention, which ModelAttentionBackend calls; before it had that, the
    same by hand."""
    if hasattr(ModelPatcher, "set_model_optimized_attention"):
        holder = SimpleNamespace(model_options={"transformer_options": {}})
        ModelPatcher.set_model_optimized_attention(holder, function)
        return holder.model_options["transformer_options"][OVERRIDE]

    def optimized_attention_override(_, *args, **kwargs):
        return function(*args, **kwargs)
    optimized_attention_override.container_function = lambda *args, **kwargs: pytest.fail("we hand over plain tensors")
    return optimized_attention_override


PYTORCHS = {"core": lambda: core_override(comfy_attention.attention_pytorch),
            "bare": lambda: core_override(comfy_attention.attention_pytorch.__wrapped__),
            "wrapper": lambda: functools.partial(lambda func, *a, **k: comfy_attention.attention_pytorch.__wrapped__(*a, **k)),
            "torch itself": lambda: lambda func, q, k, v, *a, mask=None, **kw: scaled_dot_product_attention(q, k, v, mask)}


@pytest.mark.parametrize("make", PYTORCHS.values(), ids=PYTORCHS)
@pytest.mark.parametrize("func", [comfy_attention.attention_pytorch, comfy_attention.attention_sub_quad])
def test_an_override_that_is_pytorchs_attention_keeps_the_merge(layout, make, func, caplog):
    qkv = tensors(layout)
    with caplog.at_level(logging.DEBUG, "vsf"):
        out = attention(layout, qkv, func=func, previous=make())
    assert error(out, vsf_attention_dense(*qkv, layout)) <= 1e-5
    assert said(caplog, MERGED)
    assert not said(caplog, BIAS)


def test_an_override_that_is_not_always_pytorchs_attention(layout):
    """It is watched in every call: what it does in some block, or makes of queries and results, stays."""
    def skips(func, q, *args, **kwargs):
        return torch.zeros_like(q) if kwargs["transformer_options"].get("block_index") == 1 else func(q, *args, **kwargs)

    qkv = tensors(layout)
    for block, right in ((0, vsf_attention_dense(*qkv, layout)), (1, None), (0, vsf_attention_dense(*qkv, layout))):
        out = attention(layout, qkv, func=comfy_attention.attention_pytorch, previous=skips, options={"block_index": block})
        assert out.eq(0).all() if right is None else error(out, right) <= 1e-5

    q, k, v = qkv
    sharpened = vsf_attention_dense(1.3 * q, k, v, layout)
    out = attention(layout, qkv, func=comfy_attention.attention_pytorch,
                    previous=lambda func, q, *a, **kw: func(1.3 * q, *a, **kw))
    assert error(out, sharpened) <= 1e-5
    out = attention(layout, qkv, func=comfy_attention.attention_pytorch,
                    previous=lambda func, *a, **kw: 0.5 * func(*a, **kw))
    assert error(out, 0.5 * vsf_attention_dense(*qkv, layout)) <= 1e-5


def test_an_override_that_adds_keys():
    """An attention sink, or a picture's keys: it must not count once for every part that the merge is made of."""
    qkv = tensors(CROSS)
    sinks = [2.0 * torch.randn(2, H, 1, D, generator=torch.Generator().manual_seed(5)) for _ in range(2)]

    def previous(func, q, k, v, heads, mask=None, **kwargs):
        if mask is not None:
            mask = torch.nn.functional.pad(mask, (0, 1))
        k, v = (torch.cat([t, sink[:len(t), :t.shape[1]]], dim=2) for t, sink in zip((k, v), sinks, strict=True))
        return func(q, k, v, heads, mask=mask, **kwargs)

    segments = (*CROSS.segments, Segment("P", 1))
    for bias in (0.0, 0.8):
        expected = Layout(segments, (Negative(2.0, bias),), CROSS.queries)
        q, k, v = qkv[0], *(torch.cat(pair, dim=2) for pair in zip(qkv[1:], sinks, strict=True))
        out = attention(Layout(CROSS.segments, expected.negatives, CROSS.queries), qkv,
                        func=comfy_attention.attention_pytorch, previous=previous)
        assert error(out, vsf_attention_dense(q, k, v, expected)) <= 1e-5


class Sparse:
    """Of the build of ComfyUI's BlockSparseAttention: sparse without a mask and with as many queries as keys, else dense."""

    def __init__(self) -> None:
        self.sparse = self.dense = 0

    def __call__(self, func, q, k, v, heads, mask=None, **kwargs):
        if mask is None and q.shape == k.shape:
            self.sparse += 1
            at = torch.arange(q.shape[2 if kwargs.get("skip_reshape") else 1])
            mask = torch.where((at[:, None] - at).abs() <= 2, 0.0, -torch.inf).to(q)
        else:
            self.dense += 1
        return func(q, k, v, heads, mask=mask, **kwargs)


@pytest.mark.parametrize("func", [comfy_attention.attention_pytorch, comfy_attention.attention_sub_quad])
def test_a_sparse_override_goes_dense_with_a_word(func, caplog):
    qkv, previous = tensors(JOINT), Sparse()
    with caplog.at_level(logging.INFO, "vsf"):
        for _ in range(3):
            assert error(attention(JOINT, qkv, func=func, previous=previous), vsf_attention_dense(*qkv, JOINT)) <= 1e-5
    assert len(said(caplog, SPARSE)) == 1
    assert previous.dense


def test_a_sparse_override_keeps_attention_that_the_text_takes_no_part_in(caplog):
    """Self-attention beside a cross-attention with a negative."""
    previous, (q, k, v) = Sparse(), tensors(JOINT)
    with caplog.at_level(logging.INFO, "vsf"):
        attention(CROSS, (q, k, v), previous=previous)
        assert (previous.sparse, previous.dense) == (1, 0)
        qkv = tensors(CROSS)
        assert error(attention(CROSS, qkv, previous=previous), vsf_attention_dense(*qkv, CROSS)) <= 1e-5
    assert not said(caplog, SPARSE)


def test_each_is_asked_once_for_a_length(layout):
    calls = []

    def previous(func, *args, **kwargs):
        calls.append(1)
        return ignores_masks(func, *args, **kwargs)

    def made(**more) -> int:
        calls.clear()
        attention(layout, tensors(layout), previous=previous, **more)
        return len(calls)

    parts = 0 if layout is CROSS else 2  # whether it differs in parts, which is asked in each step until it does
    assert made() == 3 + parts  # one call of its own, that is not PyTorch's; one without and one with a mask
    assert made() == parts
    assert made(func=comfy_attention.attention_split) == 3 + parts


def test_what_is_known_keeps_nothing_alive():
    owner = Callable()
    those = [lambda func, *a, **k: ignores_masks(func, *a, **k), functools.partial(ignores_masks), owner, owner.method]
    for previous in those:
        attention(JOINT, tensors(JOINT), previous=previous)
    assert len(backends.MEMORY._of) == 3, "a bound method is known by its object"
    gone = [weakref.ref(o) for o in those[:3]]
    del previous, owner, those
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert not backends.MEMORY._of


@pytest.mark.parametrize("make", [*MASKLESS.values(), PYTORCHS["core"], lambda: None], ids=[*MASKLESS, "core", "none"])
def test_asking_breaks_no_compiled_graph(make):
    torch._dynamo.reset()
    qkv = tensors(JOINT)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    with CompiledApart(), torch.no_grad():
        for seed in range(2):
            qkv = tensors(JOINT, seed=seed)
            options = {OVERRIDE: VSFAttention([JOINT], make())}
            out = compiled(JOINT, qkv, func=comfy_attention.attention_basic, options=options)
            assert error(out, vsf_attention_dense(*qkv, JOINT)) <= 1e-5


def overridden(model: ModelPatcher, previous) -> ModelPatcher:
    """As a node puts an override in: on a clone's options."""
    patched = model.clone()
    patched.model_options["transformer_options"][OVERRIDE] = previous
    return patched


BIASES = (0.9, 0.0)
# override, and whether it must be told that bias is not left to it
BESIDE = {"ignores": (ignores_masks, True), "refuses": (functools.partial(refuses_masks), True),
          "pytorch": (core_override(comfy_attention.attention_pytorch), False)}


def guided(case: cases.Case, previous) -> ModelPatcher:
    model = overridden(cases.load(case.name), previous)
    for c, bias in enumerate(BIASES):
        model = vsf.guide(model, case.conditioning(5 + c, 2 + c, **{WORDS: 5 + c}), bias=bias)
    return model


@functools.cache
def right(name: str) -> torch.Tensor:
    case = cases.BY_NAME[name]
    negatives = [case.negative(5 + c, 2 + c, alpha=2.0, beta=bias) for c, bias in enumerate(BIASES)]
    return case.sample(case.reference(*negatives), case.conditioning(7, 1), case.conditioning(4, 9))


@pytest.mark.parametrize(("previous", "told"), BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("name", ["sd3", "sd1.5", "z-image", "pixart-alpha", "wan2.1-t2v", "hunyuan-video"])
def test_models_beside_such_overrides(name, previous, told, caplog):
    """Joint, cross, object-patched, and one whose attention no override sees by itself."""
    case = cases.BY_NAME[name]
    with caplog.at_level(logging.INFO, "vsf"):
        out = case.sample(guided(case, previous), case.conditioning(7, 1), case.conditioning(4, 9))
    assert error(out, right(name)) <= 1e-5
    assert len(said(caplog, BIAS)) == told


@pytest.mark.parametrize("name", ["sd3", "flux1"])
def test_models_beside_a_sparse_override(name, caplog):
    case, previous = cases.BY_NAME[name], Sparse()
    positive, uncond = case.conditioning(7, 1), case.conditioning(4, 9)
    dense = case.sample(cases.load(name), positive, uncond)
    assert error(case.sample(overridden(cases.load(name), previous), positive, uncond), dense.double()) >= 1e-2
    assert previous.sparse
    assert not previous.dense
    with caplog.at_level(logging.INFO, "vsf"):
        assert error(case.sample(guided(case, previous), positive, uncond), right(name)) <= 1e-5
    assert len(said(caplog, SPARSE)) == 1
