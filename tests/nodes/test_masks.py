"""The `mask` of all four nodes: white is nothing new and black is off, bit for bit; frames, areas and windows of it against
the dense double-precision reference."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import cases
import encoders
import pytest
import torch
from vsf_pack.nodes.glue.reading.masks import Region
from vsf_pack.nodes.glue.sampling.patch import attach
from vsf_pack.nodes.glue.sampling.seen import recorded
from vsf_pack.nodes.vsf_conditioning import VSFConditioning
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance
from vsf_pack.nodes.vsf_prompt import VSFPrompt
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode

from nodes import CLIPTextEncode, ConditioningSetArea

PROMPT, NEGATIVE = "a red apple on a table", "bad hands"
WIDTHS = dict(adm_in_channels=768 + 1280, context_embedder_config={
    "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}})  # of SD 3's text


@functools.cache
def loaded() -> tuple[cases.Case, Any, Any]:
    """SD 3 at toy size: the case, the model, and its text encoder."""
    case = cases.BY_NAME["sd3"]
    case = dataclasses.replace(case, unet_config={**case.unet_config, **WIDTHS})
    return case, cases.build(case, torch.float32), encoders.build(encoders.ENCODERS["SD 3"])


def encode(text: str) -> list:
    return CLIPTextEncode().encode(loaded()[2], text)[0]


def prompt(**mask: torch.Tensor) -> tuple[Any, list]:
    return VSFPrompt.execute(*loaded()[1:], PROMPT, NEGATIVE, 1.0, **mask).args


def contrast(**mask: torch.Tensor) -> tuple[Any, list]:
    context = encode(f"{PROMPT}, {NEGATIVE}")
    return VSFContrast.execute(loaded()[1], context, 1.0, 0.0, 1.0, **mask).args[0], encode(PROMPT)


def guidance(**mask: torch.Tensor) -> tuple[Any, list]:
    negative = VSFTextEncode.execute(loaded()[2], NEGATIVE).args[0]
    return VSFGuidance.execute(loaded()[1], negative, 2.0, 0.2, 0.0, 1.0, **mask).args[0], encode(PROMPT)


def conditioned(**mask: torch.Tensor) -> tuple[Any, list]:
    return loaded()[1], VSFConditioning.execute(loaded()[2], PROMPT, NEGATIVE, 1.0, **mask).args[0]


def sample(model: Any, positive: list, cfg: float) -> torch.Tensor:
    return loaded()[0].sample(model, positive, encode(""), cfg=cfg, batch=2)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("node", [prompt, contrast, guidance, conditioned])
def test_white_is_no_mask_and_black_is_no_negative(node: Callable[..., tuple[Any, list]], cfg: float) -> None:
    without, plain = sample(*node(), cfg), sample(loaded()[1], encode(PROMPT), cfg)
    assert torch.equal(sample(*node(mask=torch.ones(2, 37, 50)), cfg), without)
    assert torch.equal(sample(*node(mask=torch.zeros(1, 37, 50)), cfg), plain)
    half = torch.zeros(64, 48)
    half[:, :16] = 1
    some = sample(*node(mask=half), cfg)
    assert not torch.equal(some, without) and not torch.equal(some, plain)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def by_guidance(case: cases.Case, mask: torch.Tensor | None) -> Any:
    return guided(case, mask)


def by_contrast(case: cases.Case, mask: torch.Tensor | None) -> Any:
    return VSFContrast.execute(cases.load(case.name), case.conditioning(9, 3), 1.0, 0.0, 1.0, mask=mask).args[0]


@pytest.mark.parametrize("name", ["sd3", "flux1-kontext", "flux2-klein-edit", "qwen-image-edit-index", "z-image", "kandinsky5",
                                  "ltx-2", "sd1.5"])
@pytest.mark.parametrize("rule", [by_guidance, by_contrast])
def test_white_and_black_in_other_layouts(rule: Callable[..., Any], name: str) -> None:
    """Bit for bit at the node; and to rounding where they are computed as any other mask is, also where image tokens are none
    of the picture's (filler, references, sound)."""
    case = cases.BY_NAME[name]
    model, without = cases.load(name), rule(case, None)
    out, off = (case.sample(m, case.conditioning(7, 1)) for m in (without, model))
    assert rule(case, torch.zeros(1, 8, 8)) is model
    assert torch.equal(case.sample(rule(case, torch.ones(1, 8, 8)), case.conditioning(7, 1)), out)
    for mask, want in ((torch.ones(1, 8, 8), out), (torch.zeros(1, 8, 8), off)):
        computed = [dataclasses.replace(n, region=Region((mask,))) for n in without.get_attachment("vsf").negatives]
        assert relative_error(case.sample(attach(model, computed), case.conditioning(7, 1)), want) <= 1e-5
    assert relative_error(out, off) >= 1e-4


def shares(mask: torch.Tensor) -> torch.Tensor:
    """A mask of a latent's cells, (frames, height, width), as m of image tokens of 2 x 2 of them, (1, tokens)."""
    frames, height, width = mask.shape
    return torch.stack([mask[t, y:y + 2, x:x + 2].mean() for t in range(frames) for y in range(0, height, 2)
                        for x in range(0, width, 2)])[None].double()


def random_mask(*sizes: int) -> torch.Tensor:
    return torch.rand(*sizes, generator=torch.Generator().manual_seed(8)).round(decimals=1)


def guided(case: cases.Case, mask: torch.Tensor | None) -> Any:
    negative = case.conditioning(5, 2, vsf_words=5)
    return VSFGuidance.execute(cases.load(case.name), negative, 2.0, 0.3, 0.0, 1.0, mask=mask).args[0]


def dense(case: cases.Case, share: Callable[[int], torch.Tensor]) -> Any:
    return case.reference(dataclasses.replace(case.negative(5, 2, alpha=2.0, beta=0.3), share=share))


@pytest.mark.parametrize("count", [5, 17], ids=["of the latent", "of the video"])
def test_a_mask_for_each_frame_of_a_video(count: int) -> None:
    """Five frames of Wan's latent; of the video's, the first is one of them, and each four that follow are another."""
    case = dataclasses.replace(cases.BY_NAME["wan2.1-t2v"], latent=(16, 5, 4, 6))
    mask = random_mask(count, 4, 6)
    of_latent = mask if count == 5 else torch.stack([mask[0], *(mask[1 + 4 * i:5 + 4 * i].mean(0) for i in range(4))])
    positive = case.conditioning(7, 1)
    want = case.sample(dense(case, lambda tokens: shares(of_latent)), positive)
    assert relative_error(case.sample(guided(case, mask), positive), want) <= 1e-5
    for other in (mask.flip(0), mask[:1], None):
        assert relative_error(case.sample(guided(case, other), positive), want) >= 1e-3


def test_an_area_of_the_prompt_has_its_part_of_the_mask() -> None:
    """Two prompts, each in an area of its own."""
    case = cases.BY_NAME["sd3"]
    mask = random_mask(1, 8, 6)
    left, right = (slice(0, 4), 8), (slice(2, 6), 4)  # columns and rows in cells: 8 and 4 tokens
    positive = [entry for seed, (columns, height) in enumerate((left, right)) for entry in ConditioningSetArea().append(
        case.conditioning(7, 1 + seed), 8 * (columns.stop - columns.start), 8 * height, 8 * columns.start, 0, 1.0)[0]]
    parts = {own.shape[1]: own for own in (shares(mask[:, :height, columns]) for columns, height in (left, right))}
    want = case.sample(dense(case, parts.__getitem__), positive, batch=2)
    assert relative_error(case.sample(guided(case, mask), positive, batch=2), want) <= 1e-5
    assert relative_error(case.sample(guided(case, None), positive, batch=2), want) >= 1e-3


def test_a_context_window_has_its_frames_of_the_mask() -> None:
    windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    import comfy.context_windows as cw
    case = dataclasses.replace(cases.BY_NAME["wan2.1-t2v"], latent=(16, 12, 4, 6))
    mask, current = random_mask(12, 4, 6), []

    def windowed(model: Any) -> Any:
        return windows.ContextWindowsManualNode.execute(
            model, context_length=6, context_overlap=2, context_schedule=cw.ContextSchedules.STATIC_STANDARD, context_stride=1,
            closed_loop=False, fuse_method=cw.ContextFuseMethods.PYRAMID, dim=2, freenoise=False).args[0]

    def note(apply: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        window = args["c"]["transformer_options"]["context_window"]
        before = getattr(window, "causal_anchor_index", None)  # a frame put before those of a window that is not the first
        current[:] = ([] if before is None else [before]) + window.index_list
        return apply(args["input"], args["timestep"], **args["c"])

    model = windowed(dense(case, lambda tokens: shares(mask[current])))
    model.set_model_unet_function_wrapper(note)
    positive = case.conditioning(7, 1)
    want = case.sample(model, positive)
    assert relative_error(case.sample(windowed(guided(case, mask)), positive), want) <= 1e-5
    assert relative_error(case.sample(windowed(guided(case, mask.flip(0))), positive), want) >= 1e-3


@pytest.mark.parametrize("dim", [2, 3], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["sd3", "flux1"])
def test_a_tile_has_its_part_of_the_mask(name: str, dim: int) -> None:
    """Core samples a picture in tiles by context windows along its height or width."""
    windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    import comfy.context_windows as cw
    case = cases.BY_NAME[name]
    case = dataclasses.replace(case, latent=(case.latent[0], 12, 12))
    mask, current = random_mask(1, 12, 12), []
    mask.narrow(dim - 1, 0, 7).zero_()

    def tiled(model: Any) -> Any:
        return windows.ContextWindowsManualNode.execute(
            model, context_length=6, context_overlap=2, context_schedule=cw.ContextSchedules.STATIC_STANDARD, context_stride=1,
            closed_loop=False, fuse_method=cw.ContextFuseMethods.PYRAMID, dim=dim, freenoise=False).args[0]

    def note(apply: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        window = args["c"]["transformer_options"]["context_window"]
        before = getattr(window, "causal_anchor_index", None)
        current[:] = ([] if before is None or before < 0 else [before]) + window.index_list
        assert args["input"].shape[dim] == len(current) < 12
        return apply(args["input"], args["timestep"], **args["c"])

    model = tiled(dense(case, lambda tokens: shares(mask.index_select(dim - 1, torch.tensor(current)))))
    model.set_model_unet_function_wrapper(note)
    positive = case.conditioning(7, 1)
    want = case.sample(model, positive)
    with recorded() as heats:
        assert relative_error(case.sample(tiled(guided(case, mask)), positive), want) <= 1e-5
    assert relative_error(case.sample(tiled(guided(case, mask.flip(dim - 1))), positive), want) >= 1e-3
    assert heats[0].unplaced == 0
    acted = heats[0].maps[0, 0, 0]
    assert acted.shape == mask.shape and not acted.narrow(dim - 1, 0, 6).any(), "a heat map has each tile in its place"
    assert acted.narrow(dim - 1, 8, 4).mean() > 0.01


def test_tiles_of_other_nodes() -> None:
    """They call the model with parts of which nobody knows where they are: said, with a mask; without one the negative acts."""
    case, positive = cases.BY_NAME["sd3"], cases.BY_NAME["sd3"].conditioning(7, 1)

    def halves(apply: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        return torch.cat([apply(x, args["timestep"], **args["c"]) for x in args["input"].chunk(2, dim=2)], dim=2)

    outs = []
    for model in (guided(case, None), cases.load("sd3").clone()):
        model.set_model_unet_function_wrapper(halves)
        outs.append(case.sample(model, positive))
    assert relative_error(*outs) >= 1e-3
    model = guided(case, random_mask(1, 8, 6))
    model.set_model_unet_function_wrapper(halves)
    with pytest.raises(RuntimeError, match=r"VSF: leave `mask` empty, or bypass the node that calls the model with parts of "
                                           r"the picture. Expected the whole, \(8, 6\), .* found \(4, 6\)"):
        case.sample(model, positive)

