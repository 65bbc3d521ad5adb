"""Where a negative acts, in every family: a mask's white cells are the image tokens that are made of these cells, and under it
the model gives what the formula says with m of each token, by dense references in double precision."""
from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import cases
import comfy.sample
import context_reference
import contexts_of as contexts
import pytest
import tiny
import torch
from cases import Case
from cases.hidream import E1
from comfy.nested_tensor import NestedTensor
from contexts_of import relative_error
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.families import ModelCall, find_family
from vsf_pack.nodes.glue.families.pictures import PICTURES, level
from vsf_pack.nodes.glue.reading.conditioning import NegativePrompt
from vsf_pack.nodes.glue.reading.masks import EVERYWHERE, Region
from vsf_pack.nodes.glue.sampling.patch import attach


@pytest.fixture(scope="module", params=cases.ALL, ids=lambda case: case.name)
def case(request) -> Case:
    if not request.param.exists:
        pytest.skip("not in this ComfyUI")
    return request.param


def picture_shape(case: Case) -> tuple[int, ...]:
    """(C, [frames,] height, width) of what a mask lies on; of several latents, the first."""
    return case.latent[0] if isinstance(case.latent[0], tuple) else case.latent


def negative(case: Case, region: Region, seed: int = 50, length: int = 5, scale: float = 2.0,
             bias: float = 0.3) -> NegativePrompt:
    return NegativePrompt(tiny.tokens(length, seed, width=case.width), scale, bias, 0.0, 1.0, case.options(length, seed),
                          region=region)


class Cells(Region):
    """White in cells of the latent: in place of a mask, which has no depth."""

    def __init__(self, m: torch.Tensor) -> None:
        object.__setattr__(self, "m", m)
        super().__init__(masks=(m,))

    def over(self, sizes: tuple[int, ...], batch: int) -> torch.Tensor:
        assert self.m.shape[1:] == sizes
        return self.m


class Noted(VSFAttention):
    """Notes, of the first attention with image tokens of the picture, what these ask, and m of them. All other attention gives
    nothing, so that a token is made of its own cells alone."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _base(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super()._base(*args, **kwargs) * 0

    def join(self, layout: Any, q: torch.Tensor, *args: Any) -> torch.Tensor:
        m = layout.negatives[0].region
        if m is not None and m.amin() < m.amax() and not Noted.found:
            rows = [i for role, s in layout.query_spans(q.shape[-2]) if role == "I" for i in range(s.start, s.stop)]
            Noted.found.append((q[0][:, rows].double().clone(), m[0].clone()))
        return super().join(layout, q, *args)


def asked(case: Case, model: Any, cell: tuple[int, ...], change: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What the image tokens ask in the first attention, (H, L, D), and m, (L,), of a mask that is white in one cell; with the
    noise in that cell changed."""
    shapes = case.latent if isinstance(case.latent[0], tuple) else (case.latent,)
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, *shape, generator=g) for shape in shapes]
    parts[0][(0, slice(None), *cell)] += change * torch.randn(parts[0].shape[1], generator=torch.Generator().manual_seed(9))
    noise = parts[0] if len(parts) == 1 else NestedTensor(parts)
    white = torch.zeros(1, *picture_shape(case)[1:])
    white[(0, *cell)] = 1.0
    Noted.found.clear()
    with torch.inference_mode():
        comfy.sample.sample(attach(model, [negative(case, Cells(white))], Noted), noise, 1, 1.0, "euler", "simple",
                            case.conditioning(7, 1), case.conditioning(3, 999), noise * 0, disable_pbar=True, seed=0)
    return Noted.found[0]


def without_neighbours(model: Any) -> Any:
    """Let each pixel of a convolution see itself alone."""
    for module in model.model.diffusion_model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            with torch.no_grad():
                centre = module.weight[..., 1, 1].clone()
                module.weight.zero_()[..., 1, 1] = centre
    return model


def test_tokens_are_those_of_the_cells(case):
    """The model itself tells: of all image tokens, the one that is made of the white cell changes most when the noise there
    does."""
    if case.name.startswith(("ace-step", "stable-audio")):
        pytest.skip("makes sound")
    is_unet = PICTURES.get(cases_family(case)) is level
    model = without_neighbours(cases.build(case, torch.float32)) if is_unet else cases.load(case.name)
    sizes, g = picture_shape(case)[1:], torch.Generator().manual_seed(3)
    before = None
    for _ in range(2):
        cell = tuple(int(torch.randint(0, n, (1,), generator=g)) for n in sizes)
        if is_unet:  # of each patch, a level takes the first cell
            cell = tuple(n // 8 * 8 for n in cell)
        else:  # models fill up patches with cells of the other side
            cell = tuple(max(n, int(size % 2 and size > 1)) for n, size in zip(cell, sizes, strict=True))
        if case.name == "kandinsky5-i2v":  # the first frame is the picture that is given
            cell = (1, *cell[1:])
        before = asked(case, model, cell, 0.0)[0] if before is None else before
        after, m = asked(case, model, cell, 0.5)
        most = int((after - before).square().sum((0, 2)).argmax())
        white = (m == m.amax()).nonzero().flatten().tolist()
        assert white == [most], f"cell {cell} is in token {most}, the mask in {white}"
        assert len(m[m < m.amax()].unique()) <= 2, "of the others, some are black, and those without a place are alike"


def cases_family(case: Case) -> str:
    """The name of its adapter's module."""
    return find_family(cases.load(case.name).model).__name__.rpartition(".")[2]


OWN = {**cases.BY_NAME, "hidream-e1": E1}

# what is known of each model's image tokens from its forward: cells of a patch, and the tokens before the picture's
TOKENS = {
    "sd3": ((2, 2), 0),
    "flux1-kontext": ((2, 2), 0),  # two references behind the picture
    "flux2-klein-edit": ((1, 1), 0),  # one reference behind it
    "qwen-image-edit-index": ((1, 2, 2), 0),  # two
    "z-image": ((2, 2), 0),  # filled up to 32
    "z-image-omni": ((2, 2), 32),  # a reference of 2 x 3 tokens before the picture, filled up to 32
    "omnigen2-edit": ((2, 2), None),  # references before the picture
    "hunyuan-video-1.5": ((1, 1, 1), 0),
    "wan2.1-t2v": ((1, 2, 2), 0),
    "wan2.1-fun-control": ((1, 2, 2), 5),  # a reference of 1 x 5 tokens before the video
    "ltxv": ((1, 1, 1), 0),
    "pixart-sigma": ((2, 2), 0),
    "sdxl": (None, 0),  # levels
    "krea2": ((1, 2, 2), 0),
    "ltxv-guide": ((1, 1, 1), 0),  # the last of five frames is a guide, with a token left out
    "ltx-2": ((1, 1, 1), 0),  # attention of 10 tokens is the sound's
    "hidream-e1": ((2, 2), 0),  # the picture to edit is on the right of each row
    "minimax-h3-references": ((1, 2, 2), None),  # keyframes, references and sound before the video
}
ONCE = ("ltxv-guide", "ltx-2", "hidream-e1", "minimax-h3-references")
"""A batch is nothing new to their tokens."""
NO_PLACE = ("z-image", "flux1-kontext", "ltx-2", "hidream-e1", "flux2-klein-edit", "qwen-image-edit-index", "z-image-omni",
            "omnigen2-edit", "wan2.1-fun-control", "ltxv-guide", "minimax-h3-references", "krea2-edit-index", "joyimage-edit",
            "hidream-o1-edit", "boogu-edit")
"""Of each way in which image tokens may be none of the picture's."""
SETTINGS = {"one": (1, 1, 3.0), "two": (2, 2, 1.0)}  # negatives, batch, CFG
EXACT = [(name, setting) for name in TOKENS for setting in SETTINGS if setting == "one" or name not in ONCE]


def masks_of(case: Case, setting: str) -> list[torch.Tensor]:
    """(1 or B, *sizes) of each negative: black, white and grey cells, the first one's of each picture of the batch its own."""
    count, batch, _ = SETTINGS[setting]
    values = torch.tensor([0.0, 0.3, 1.0])
    return [values[torch.randint(0, 3, (min(batch, case.most or batch) if c == 0 else 1, *picture_shape(case)[1:]),
                                 generator=torch.Generator().manual_seed(20 + c))] for c in range(count)]


def share_of(name: str, mask: torch.Tensor) -> Any:
    """m of so many image tokens, (rows, tokens), by loops over cells; the mask's mean for those that show none of them."""
    patch, before = TOKENS[name]
    mask = mask[:, :-1] if name == "ltxv-guide" else mask
    mean = mask.double().flatten(1).mean(1, keepdim=True)
    mask = torch.cat([mask, mean[..., None].expand(mask.shape)], dim=-1) if name == "hidream-e1" else mask
    rows, *sizes = mask.shape

    def share(count: int) -> torch.Tensor:
        own = patch
        if name == "ltx-2" and count == 10:
            return mean.expand(-1, count)
        if own is None:
            own = next((2**i, 2**i) for i in range(8) if -(-sizes[0] // 2**i) * -(-sizes[1] // 2**i) == count)
        grid = [-(-n // p) for n, p in zip(sizes, own, strict=True)]
        start = count - math.prod(grid) if before is None else before
        total, cells = torch.zeros(rows, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        for cell in itertools.product(*map(range, sizes)):
            token = 0
            for n, p, length in zip(cell, own, grid, strict=True):
                token = token * length + n // p
            total[:, start + token] += mask[(slice(None), *cell)].double()
            cells[start + token] += 1
        return torch.where(cells > 0, total / cells.clamp(min=1), mean)
    return share


@pytest.mark.parametrize(("name", "setting"), EXACT)
def test_the_papers_rule_equals_the_reference(name, setting):
    case, (count, batch, cfg) = OWN[name], SETTINGS[setting]
    masks = masks_of(case, setting)
    model, dense = cases.load(case.name), []
    for c, mask in enumerate(masks):
        model = attach(model, [negative(case, Cells(mask), 50 + c, 3 + c)])
        dense.append(dataclasses.replace(case.negative(3 + c, 50 + c, alpha=2.0, beta=0.3), share=share_of(name, mask)))
    want = case.sample(case.reference(*dense), case.conditioning(7, 1), case.conditioning(4, 2), cfg=cfg, batch=batch)
    out = case.sample(model, case.conditioning(7, 1), case.conditioning(4, 2), cfg=cfg, batch=batch)
    assert relative_error(out, want) <= 1e-5
    whole = attach(cases.load(case.name), [negative(case, EVERYWHERE, 50 + c, 3 + c) for c in range(count)])
    whole = case.sample(whole, case.conditioning(7, 1), case.conditioning(4, 2), cfg=cfg, batch=batch)
    assert relative_error(whole, want) >= 1e-3, "the mask must matter, or the comparison proves nothing"


@pytest.mark.parametrize(("name", "setting"), EXACT)
def test_the_context_rule_equals_the_reference(name, setting):
    case, (count, batch, cfg) = contexts.in_branches(OWN[name]), SETTINGS[setting]
    masks, words = masks_of(case, setting), contexts.words_of(case, "whole rows")
    texts, strengths = [contexts.context_of(case, 50 + c, words) for c in range(count)], [1.0, 0.5][:count]
    given = [contexts.given(case, words, *text, strength) for text, strength in zip(texts, strengths, strict=True)]
    masked = [dataclasses.replace(one, region=Cells(mask)) for one, mask in zip(given, masks, strict=True)]
    guider = context_reference.Branches(context_reference.patch(
        case, cases.load(case.name, torch.float64), words, strengths, shares=[share_of(name, mask) for mask in masks]))
    guider.set_branches(case.conditioning(7, 1), [[list(text)] for text in texts], case.conditioning(4, 2), cfg)
    want = contexts.sample(case, guider, batch)
    assert relative_error(contexts.sample_pack(case, masked, batch, cfg), want) <= 1e-5
    assert relative_error(contexts.sample_pack(case, given, batch, cfg), want) >= 1e-3, "the mask must matter"


@pytest.mark.parametrize(("name", "rule"), [*((name, "paper's") for name in NO_PLACE),
                                            *((name, "context") for name in NO_PLACE[:4])])
def test_an_almost_white_mask_is_almost_none_and_an_almost_black_one_almost_off(name, rule):
    """What shows no place of the picture has no jump at white or black either."""
    case, sizes = OWN[name], picture_shape(OWN[name])[1:]
    prompt = (negative(case, EVERYWHERE) if rule == "paper's" else
              contexts.given(case, words := contexts.words_of(case, "whole rows"), *contexts.context_of(case, 50, words)))

    def sampled(*regions: Region) -> torch.Tensor:
        negatives = [dataclasses.replace(prompt, region=region) for region in regions]
        model = cases.load(case.name)
        return case.sample(attach(model, negatives) if negatives else model, case.conditioning(7, 1), steps=1)

    corner = torch.zeros(1, *sizes)
    corner[(0, *[0] * len(sizes))] = 1e-3
    off, whole, white = sampled(), sampled(EVERYWHERE), sampled(Cells(torch.ones(1, *sizes)))
    assert relative_error(white, whole) <= 1e-5
    assert relative_error(sampled(Cells(1 - corner)), whole) <= 1e-3
    assert relative_error(sampled(Cells(corner)), off) <= 1.5e-3
    assert relative_error(whole, off) >= 5e-3


def test_sound_of_as_many_tokens_as_the_video_is_refused():
    case = dataclasses.replace(cases.BY_NAME["ltx-2-connected"], latent=((16, 3, 1, 4), (8, 12, 16)))
    mask = torch.linspace(0, 1, 12).reshape(1, 3, 1, 4)
    with pytest.raises(RuntimeError, match=r"^VSF: make the video a step larger or smaller, .* found \[12\] tokens of sound"):
        case.sample(attach(cases.load(case.name), [negative(case, Cells(mask))]), case.conditioning(7, 1))


def test_a_size_that_is_no_half_of_the_picture_is_refused():
    call = ModelCall(None, torch.zeros(1, 4, 8, 6), {})
    with pytest.raises(RuntimeError, match="^VSF: leave `mask` empty, .* Expected halves of 8 x 6, found 13 image tokens"):
        level(call, 13, {})
