"""Where the picture is among the image tokens of a family's attention: for masks, which go to the tokens, and for heat maps,
which come of them.

A new family has its line in PICTURES; one that makes sound has it in SOUNDS, and takes no mask.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..attention.grid import Grid, cells_of, size_of
from . import Family, ModelCall

Picture = Callable[[ModelCall, int, dict[str, Any]], Grid | None]
"""(call, image tokens of an attention, its transformer_options) -> Grid; None for an attention whose image tokens are none of
the picture's (sound)."""


def first(patch: str | int = "patch_size") -> Picture:
    """Image tokens that begin with the picture's, before references. patch: cells of the latent along each side of a token, or
    where the model has them, by its name."""
    def picture(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
        return Grid((patch, patch) if isinstance(patch, int) else patch_of(call, patch))
    return picture


def behind(references: str) -> Picture:
    """[references][picture]. references: a latent or several, by their name among the call's inputs."""
    def picture(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
        patch, found = patch_of(call), call.conds.get(references)
        multiple = getattr(call.base_model.diffusion_model, "pad_tokens_multiple", None) or 1  # Z-Image pads each of them
        counts = [cells(latent, patch) for latent in (found if isinstance(found, list | tuple) else [found])]
        return Grid(patch, before=sum(n + -n % multiple for n in counts))
    return picture


def last(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    """Image tokens that end with the picture's."""
    patch = patch_of(call)
    return Grid(patch, before=tokens - counted(call.sizes, patch))


def ace_step15(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    return Grid((call.base_model.diffusion_model.decoder.patch_size,))


def cogvideo(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    return Grid((call.base_model.diffusion_model.patch_size_t or 1, *patch_of(call)))


def cosmos(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    model = call.base_model.diffusion_model
    return Grid((model.patch_temporal, model.patch_spatial, model.patch_spatial))


def hidream(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    """The picture to edit (HiDream-E1) is set on the right of the image, before both become tokens."""
    source = call.conds.get("image_cond")
    return Grid(patch_of(call), beside=0 if source is None else source.shape[-1])


def lens(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    """Lens' latent comes in patches; JoyImage makes them."""
    return Grid((1, 1) if hasattr(call.base_model.diffusion_model, "pos_embed") else patch_of(call))


def ltx(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid | None:
    """Guides (keyframes) are the video's last frames, of which the model may leave out tokens. LTX-2's sound reads text too,
    and has no place in the picture."""
    guides, frame = call.conds.get("keyframe_idxs"), math.prod(call.sizes[1:])
    frames = call.sizes[0] - (0 if guides is None else guides.shape[2] // frame)
    shapes, reference = call.conds.get("latent_shapes") or (), call.conds.get("ref_audio")
    sound = [(0 if reference is None else reference["tokens"].shape[1]) + shape[2] for shape in shapes[1:]]
    if any(frames * frame <= n <= math.prod(call.sizes) for n in sound):
        raise RuntimeError("VSF: make the video a step larger or smaller, or leave `mask` empty. Expected video and sound of "
                           f"different lengths, since attention does not tell which is which, found {sound} tokens of sound, "
                           f"and of video {frames * frame} to {math.prod(call.sizes)}.")
    return None if tokens in sound else Grid((1, 1, 1), frames=frames)


def wan(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    """References stand before the video in models with a layer of their own for them and in SCAIL, else behind it."""
    model, patch = call.base_model.diffusion_model, patch_of(call)
    is_before = getattr(model, "ref_conv", None) is not None or hasattr(model, "patch_embedding_pose")
    return Grid(patch, before=cells(call.conds.get("reference_latent"), patch) if is_before else 0)


def patch_of(call: ModelCall, name: str = "patch_size") -> tuple[int, ...]:
    size = getattr(call.base_model.diffusion_model, name)
    return (size, size) if isinstance(size, int) else tuple(size)


def cells(latent: Tensor | None, patch: tuple[int, ...]) -> int:
    """How many tokens a latent becomes; None for none."""
    return 0 if latent is None else counted(latent.shape[2:], patch)


def counted(sizes: tuple[int, ...], patch: tuple[int, ...]) -> int:
    """How many patches there are in it, those at its ends whole."""
    return math.prod(cells_of(size_of(sizes), size_of(patch)))


def level(call: ModelCall, tokens: int, options: dict[str, Any]) -> Grid:
    """Of a model that works on the picture at several sizes, each half of the one before; nodes may change them (Deep Shrink),
    so that the size that the model itself tells goes first."""
    told = tuple(options.get("activations_shape") or ())[-2:]
    halves = [tuple(-(-n // 2**i) for n in call.sizes[-2:]) for i in range(16)]
    if len(told) == 2 and math.prod(told) == tokens and told not in halves:
        return Grid(sizes=told)
    found = next((i for i, sizes in enumerate(halves) if math.prod(sizes) == tokens), None)
    if found is None:
        raise RuntimeError("VSF: leave `mask` empty, or bypass the node that changes the size of the picture within the model. "
                           f"Expected halves of {halves[0][0]} x {halves[0][1]}, found {tokens} image tokens in attention.")
    return Grid((2**found, 2**found))


# adapter module -> where its models have the picture
PICTURES: dict[str, Picture] = {
    "auraflow": first(),
    "cascade": level,
    "chroma": first(),
    "cogvideo": cogvideo,
    "cosmos": cosmos,
    "ernie": first(),
    "flux": first(),
    "hidream": hidream,
    "hidream_o1": first(32),
    "hunyuan_dit": first(),
    "hunyuan_video": behind("ref_latent"),
    "ideogram4": first(1),
    "kandinsky5": first(),
    "krea2": first("patch"),
    "lens": lens,
    "ltx": ltx,
    "lumina": behind("ref_latents"),
    "minimax": last,
    "mochi": first(),
    "omnigen2": behind("ref_latents"),
    "pixart": first(),
    "pixeldit": first(),
    "qwen_image": first(),
    "qwen_image21": first(1),
    "sd3": first(),
    "unet": level,
    "wan": wan,
}

SOUNDS: dict[str, Picture] = {
    "ace_step": first(),
    "ace_step15": ace_step15,
    "stable_audio": last,  # behind the model's own tokens
}


def picture_of(family: Family) -> Picture | None:
    """None for models that make sound."""
    return PICTURES.get(_name(family))


def grid_of(call: ModelCall, family: Family, tokens: int) -> Grid | None:
    """Where the picture, or the sound, is among so many image tokens; None for tokens of which none is its, and where that
    cannot be known."""
    try:
        grid = (PICTURES | SOUNDS)[_name(family)](call, tokens, {})
    except RuntimeError:
        return None
    return grid if grid is not None and grid.fits(size_of(call.sizes), tokens) else None


def _name(family: Family) -> str:
    return family.__name__.rpartition(".")[2]
