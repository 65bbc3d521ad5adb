"""UNets beside what else ComfyUI lets nodes do to them, and prompts of different lengths."""
from __future__ import annotations

import dataclasses
from unittest import mock

import cases
import comfy.ldm.modules.attention as comfy_attention
import comfy.samplers
import folder_paths
import pytest
import reference
import torch
import vsf
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_hypernetwork import HypernetworkLoader
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_tomesd import TomePatchModel
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from vsf_pack.nodes.glue.reading.conditioning import WORDS

CASE = cases.BY_NAME["sd1.5"]  # 40 and 10 tokens of image
SETTINGS = [(2.0, 0.3), (1.1, 0.0)]
BY_LENGTH = dataclasses.replace(CASE, latent=(4, 6, 8), lengthen=reference.append_text, kinds=reference.cross)


def guided(model=None, length: int = 3):
    model = cases.load(CASE.name) if model is None else model
    for c, (scale, bias) in enumerate(SETTINGS):
        model = vsf.guide(model, CASE.conditioning(length + c, 50 + c, **{WORDS: length + c}), scale, bias)
    return model


def refers(length: int = 3, case: cases.Case = CASE):
    return case.reference(*(case.negative(length + c, 50 + c, alpha=a, beta=b) for c, (a, b) in enumerate(SETTINGS)))


def sample(model, positive: list | None = None, case: cases.Case = CASE, **settings) -> torch.Tensor:
    torch.manual_seed(0)  # ToMe draws
    return case.sample(model, case.conditioning(7, 1) if positive is None else positive, batch=2, **settings)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a.double() - b.double()).norm() / b.double().norm()).item() <= 1e-5


def unbatched(model, positive: list, **settings) -> torch.Tensor:
    """Each conditioning in a call of its own: ComfyUI repeats the shorter of two contexts to batch both, and a positive that
    stands twice would halve the negative."""
    with mock.patch.object(comfy.samplers, "can_concat_cond", lambda a, b: a is b):
        return sample(model, positive, **settings)


def test_two_prompts_of_different_lengths():
    positive = CASE.conditioning(6, 1) + CASE.conditioning(12, 2)
    truth = unbatched(refers(), positive, cfg=3.0)
    assert close(sample(guided(), positive, cfg=3.0), truth)
    assert not close(sample(refers(), positive, cfg=3.0), truth), "batched, they would have another balance"
    assert not close(sample(cases.load(CASE.name), positive, cfg=3.0), truth)


def test_two_prompts_of_one_length_share_a_call():
    positive, rows = CASE.conditioning(7, 1) + CASE.conditioning(7, 2), []
    model = guided()
    model.add_wrapper(WrappersMP.APPLY_MODEL, lambda executor, x, *args, **kwargs: (
        rows.append(len(x)), executor(x, *args, **kwargs))[1])
    assert close(sample(model, positive), sample(refers(), positive))
    assert rows == [4, 4]


def test_a_long_uncond():
    positive, long = CASE.conditioning(77, 1), dict(negative=CASE.conditioning(154, 2), cfg=3.0)
    truth = unbatched(refers(), positive, **long)
    assert close(sample(guided(), positive, **long), truth)
    assert not close(sample(refers(), positive, **long), truth), "batched, they would have another balance"
    assert not close(sample(cases.load(CASE.name), positive, **long), truth)


def deep_shrink(model):
    return PatchModelAddDownscale.execute(model, 1, 2.0, 0.0, 1.0, True, "bilinear", "bilinear").args[0]


def tome(model):
    return TomePatchModel.execute(model, 0.3).args[0]


@pytest.mark.parametrize(("node", "length"), [(deep_shrink, 3), (tome, 16)])
@pytest.mark.parametrize("first", [False, True])
def test_other_tokens_in_the_image(node, length, first):
    """Deep Shrink: fewer tokens in a level. ToMe: fewer queries than keys in self-attention, and as many keys as the text."""
    ours = guided(node(cases.load(CASE.name)), length) if first else node(guided(length=length))
    out, truth = sample(ours), sample(node(refers(length)))
    assert close(out, truth)
    assert not close(sample(guided(length=length)), truth)


def ipadapter(model, seen: list | None = None, **passed):
    """As IPAdapter: in two blocks, a picture's keys and values beside the text's. Its attention is hidden from overrides."""
    g = torch.Generator().manual_seed(5)
    dtype = model.model.get_dtype_inference()

    def replace(q, k, v, extra):
        if seen is not None:
            seen.append(k.shape[1])
        options = {"transformer_options": extra} if passed else {}
        text = comfy_attention.optimized_attention(q, k, v, extra["n_heads"], **options)
        picture_k, picture_v = (t.to(dtype).expand(len(q), -1, -1) for t in pictures[q.shape[-1]])
        return text + 0.7 * comfy_attention.optimized_attention(q, picture_k, picture_v, extra["n_heads"])

    pictures = {width: torch.randn(2, 1, 4, width, generator=g) for width in (32, 64)}
    model = model.clone()
    model.set_model_attn2_replace(replace, "input", 1)
    model.set_model_attn2_replace(replace, "middle", 0, 0)
    return model


def test_attention_of_another_node():
    """The node gets the prompt alone, and what it adds stays; the negatives' change of the model's own attention is added."""
    seen: list[int] = []
    truth = sample(ipadapter(refers(case=BY_LENGTH), shown=True), case=BY_LENGTH)
    assert close(sample(ipadapter(guided(), seen), case=BY_LENGTH), truth)
    assert set(seen) == {7}
    assert close(sample(ipadapter(guided(), shown=True), case=BY_LENGTH), truth)
    assert not close(sample(guided(), case=BY_LENGTH), truth)


def more_text(model, behind: int):
    """An attn2_patch with tokens of its own, `behind` which the reference has the negatives' tokens."""
    tokens = cases.tiny.tokens(4, 9, width=CASE.width)

    def patch(n, context, value, extra):
        more = tokens.to(context).expand(len(context), -1, -1)
        place = context.shape[1] - behind
        return n, *(torch.cat([t[:, :place], more, t[:, place:]], dim=1) for t in (context, value))

    model = model.clone()
    model.set_model_attn2_patch(patch)
    return model


def test_text_of_another_node():
    """Tokens that a node puts behind the text count as the prompt's."""
    case = dataclasses.replace(BY_LENGTH, kinds=lambda call, batch, queries, keys: (
        ("I" * queries, "PPPP" + call.text_kinds) if keys == len(call.text_kinds) + 4 else None))
    truth = sample(more_text(refers(case=case), behind=7), case=BY_LENGTH)
    assert close(sample(more_text(guided(), behind=0), case=BY_LENGTH), truth)
    assert not close(sample(guided(), case=BY_LENGTH), truth)


def hypernetwork(model, folder, strength: float = 0.8):
    """ComfyUI's own node with a file of this model's widths: the text's, and the first level's for its self-attention."""
    g = torch.Generator().manual_seed(3)

    def layers(width: int) -> dict[str, torch.Tensor]:
        shapes = {"linear.0": (2 * width, width), "linear.1": (width, 2 * width)}
        weights = {f"{n}.weight": torch.randn(s, generator=g) / s[1] ** 0.5 for n, s in shapes.items()}
        return weights | {f"{n}.bias": 0.3 * torch.randn(s[0], generator=g) for n, s in shapes.items()}

    state = {width: (layers(width), layers(width)) for width in (CASE.width, 32)}
    torch.save({**state, "activation_func": "relu"}, folder / "hypernetwork.pt")
    with mock.patch.dict(folder_paths.folder_names_and_paths, {"hypernetworks": ([str(folder)], {".pt"})}):
        return HypernetworkLoader.execute(model, "hypernetwork.pt", strength).args[0]


def in_double(model):
    """A model's hypernetworks in the reference's precision."""
    for patch in model.model_options["transformer_options"]["patches"]["attn2_patch"]:
        for modules in patch.hypernet.values():
            modules.double()
    return model


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("first", [False, True])
def test_a_hypernetwork_changes_the_negatives_too(tmp_path, first, cfg):
    """Its patch of keys and values maps each token by itself, in the prompt, in the ordinary negative and in ours."""
    ours = guided(hypernetwork(cases.load(CASE.name), tmp_path)) if first else hypernetwork(guided(), tmp_path)
    truth = sample(in_double(hypernetwork(refers(), tmp_path)), cfg=cfg)
    assert close(sample(ours, cfg=cfg), truth)
    assert not close(sample(guided(), cfg=cfg), truth)
    assert not close(sample(in_double(hypernetwork(refers(), tmp_path, 0.4)), cfg=cfg), truth)


def test_text_that_another_node_puts_in_place_of_the_prompt():
    """As prompt injection: the negatives stay as they are, behind what stands there now."""
    other = cases.tiny.tokens(7, 9, width=CASE.width)

    def inject(model, behind: int = 0):
        def patch(n, context, value, extra):
            return n, *(torch.cat([other.to(t).expand(len(t), -1, -1), t[:, t.shape[1] - behind:]], dim=1) if behind else
                        other.to(t).expand(len(t), -1, -1) for t in (context, value))
        model = model.clone()
        model.set_model_attn2_patch(patch)
        return model

    truth = sample(inject(refers(), behind=7))
    assert close(sample(inject(guided())), truth)
    assert not close(sample(guided()), truth)


def test_an_output_patch_sees_what_the_negatives_made():
    seen = []

    def scaled(model):
        def patch(out, extra):
            seen.append(out.double())
            return out * torch.linspace(0.5, 1.5, out.shape[1], dtype=out.dtype)[:, None]
        model = model.clone()
        model.set_model_attn2_output_patch(patch)
        return model

    truth = sample(scaled(refers()))
    expected, seen[:] = list(seen), []
    assert close(sample(scaled(guided())), truth)
    assert len(seen) == len(expected) and all(close(a, b) for a, b in zip(seen, expected, strict=True))


def test_an_override_inside_the_model_is_told():
    """A node that puts its override over ours while the model runs: the negatives would never be seen."""
    def cover(executor, x, t, context, y, control, options, **kwargs):
        options = {**options, "optimized_attention_override": lambda func, *a, **k: func(*a, **k)}
        return executor(x, t, context, y, control, options, **kwargs)

    model = guided()
    model.add_wrapper(WrappersMP.DIFFUSION_MODEL, cover)
    with pytest.raises(RuntimeError, match="VSF: remove .* Expected the attention of BaseModel to pass"):
        sample(model)


@pytest.mark.skipif(not vsf.EVERY, reason="a minute for what tests/glue/test_neighbours.py does with SD 3 (vsf.EVERY)")
def test_torch_compile_does_not_freeze_the_settings():
    base = cases.load(CASE.name).clone()
    torch._dynamo.reset()
    set_torch_compile_wrapper(model=base, backend=lambda graph, inputs, **_: graph.forward,
                              options={"guard_filter_fn": skip_torch_compile_dict})
    plain = cases.load(CASE.name)
    assert close(sample(base, steps=1), sample(plain, steps=1))
    for scale, bias, length in ((2.0, 0.3, 5), (0.5, 0.0, 3)):  # all three change: any that stays behind would be seen
        negative = CASE.conditioning(length, 50, **{WORDS: length})
        out, eager = (sample(vsf.guide(m, negative, scale, bias), steps=1) for m in (base, plain))
        assert close(out, eager), (scale, bias, length)
    assert close(sample(base, steps=1), sample(plain, steps=1))


@pytest.mark.parametrize("config", ["SVD_img2vid", "SV3D_u", "Stable_Zero123"])
def test_models_without_text_are_refused(config):
    projection = {"cc_projection.weight": torch.zeros(24, 28), "cc_projection.bias": torch.zeros(24)}
    model = cases.build(dataclasses.replace(CASE, config=config, state=projection), torch.float32)
    with pytest.raises(ValueError, match="UNetModel, in which VSF cannot work: it .* takes no text"):
        vsf.guide(model, CASE.conditioning(3, 50, **{WORDS: 3}))
