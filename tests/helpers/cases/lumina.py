"""Lumina 2, NewBie and Z-Image in all its forms (comfy/ldm/lumina/model.py).

The reference refines prompt and negatives in ONE call, kept apart by its dense mask, and puts the negatives at the END of the
sequence: hooks on the refiner and on the blocks do so while the model runs, and count its tokens as they pass.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import reference
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from within import text_attention

from cases import Case


class Tail:
    """The negatives of one call, behind the model's own tokens. kinds: of the attention that is about to come."""

    def __init__(self, tokens: list[torch.Tensor]) -> None:
        self.tokens = tokens
        self.own = "".join(str(c) * t.shape[1] for c, t in enumerate(tokens))
        self.text = 0
        self.kinds: str | None = None

    def forward(self, executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """A DIFFUSION_MODEL wrapper."""
        model = executor.class_obj
        positions = torch.zeros(1, len(self.own), 3)
        positions[0, :, 0] = torch.cat([torch.arange(t.shape[1]) for t in self.tokens]) + 1
        self.freqs = model.rope_embedder(positions).movedim(1, 2)
        with contextlib.ExitStack() as hooks:
            def before(layer: torch.nn.Module, hook: Callable) -> None:
                hooks.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
            for layer in (model.siglip_refiner or [])[:1]:
                before(layer, self.count_siglip)
            for i, layer in enumerate(model.context_refiner):
                before(layer, self.lengthened(i == 0, lambda: model.cap_embedder(torch.cat(self.tokens, 1)), in_refiner=True))
            hooks.callback(model.context_refiner[-1].register_forward_hook(self.cut).remove)
            for i, layer in enumerate(model.layers):
                before(layer, self.lengthened(i == 0, lambda: self.refined, in_refiner=False))
            for layer in (*model.context_refiner, *model.layers):
                hooks.callback(layer.register_forward_hook(self.over).remove)
            return executor(*args, **kwargs)

    def lengthened(self, first: bool, tail: Callable[[], torch.Tensor], in_refiner: bool) -> Callable:
        def hook(layer: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple:
            x, mask, freqs, *rest = args
            if first:
                self.text += x.shape[1] if in_refiner else 0
                x = torch.cat([x, tail()], dim=1)
            end = x.shape[1] - len(self.own)
            self.kinds = ("P" * self.text + "I" * (end - self.text) if not in_refiner else "P" * end) + self.own
            if kwargs.get("timestep_zero_index") is not None:
                kwargs["timestep_zero_index"] = [*kwargs["timestep_zero_index"], (end, x.shape[1])]
            return (x, mask, torch.cat([freqs, self.freqs.to(freqs)], dim=1), *rest), kwargs
        return hook

    def count_siglip(self, layer: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.text += args[0].shape[1]

    def cut(self, layer: torch.nn.Module, args: tuple, out: torch.Tensor) -> torch.Tensor:
        self.refined = out[:, -len(self.own):]
        return out[:, :-len(self.own)]

    def over(self, *args: Any) -> None:
        self.kinds = None


def _lengthen(call: reference.RefCall) -> None:
    if not call.negatives:
        return
    tail = Tail([n.tokens.to(torch.float64).expand(len(call.x), -1, -1) for n in call.negatives])
    wrappers = call.options.get("wrappers", {})
    level = {**wrappers.get(WrappersMP.DIFFUSION_MODEL, {}), "reference": [tail.forward]}
    call.options.update(tail=tail, wrappers={**wrappers, WrappersMP.DIFFUSION_MODEL: level})


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    tail = call.options.get("tail")
    return (tail.kinds, tail.kinds) if tail is not None and tail.kinds else None


_LAYERS = text_attention(lambda name: re.fullmatch(r"layers\.\d+", name) is not None)["lengthen"]


def _in_branches(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    """[captions][P][padding][all else][references and image], padded each, in the blocks; the refiners are each branch's."""
    if call.options["within"].running is None:
        return None
    model = call.model.diffusion_model
    references, captions = (call.conds.get(name) or [] for name in ("ref_latents", "ref_contexts"))

    def padded(length: int) -> int:
        multiple = model.pad_tokens_multiple or 1
        return -(-length // multiple) * multiple
    sizes = [[-(-n // model.patch_size) for n in t.shape[-2:]] for t in (*references, call.x)]
    image = sum(padded(height * width) for height, width in sizes)
    first = [padded(c.shape[1]) for c in captions[:len(references)]]
    first += [padded(1)] * (len(references) - len(first))
    letters = "B" * sum(first) + call.prompt(call.text[0])
    letters += "B" * (keys - image - len(letters)) + "I" * image
    return letters, letters


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": tiny.tokens(1, seed + 7, width=20)[0]}


def omni(references: int, captions: int, siglip: int) -> Callable[[int, int], dict[str, Any]]:
    def options(length: int, seed: int) -> dict[str, Any]:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))
        vision = SimpleNamespace(image_sizes=[(3, 32, 48)], last_hidden_state=random(1, 6, 20))
        return {"reference_latents": [random(1, 16, 4, 6 + 2 * i) for i in range(references)],
                "reference_latents_text_embeds": [random(1, 5 + i, 24) for i in range(captions)],
                "clip_vision_outputs": [vision] * siglip}
    return options


_LUMINA = dict(image_model="lumina2", patch_size=2, in_channels=16, dim=64, n_layers=2, n_refiner_layers=2, n_heads=2,
               n_kv_heads=1, multiple_of=16, qk_norm=True, cap_feat_dim=24, axes_dims=[8, 12, 12], axes_lens=[64, 64, 64])
_ZIMAGE = _LUMINA | dict(dim=256, n_heads=8, n_kv_heads=8, z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32,
                         rope_theta=256.0)
_PIXEL = _ZIMAGE | dict(image_model="zimage_pixel", patch_size=4, in_channels=3, decoder_in_channels=48, decoder_hidden_size=32,
                        decoder_num_res_blocks=1, decoder_max_freqs=2)
_COMMON = dict(lengthen=_lengthen, kinds=_kinds, positions=True, no_mutants=frozenset(),
               refines_apart=True, branches=(_LAYERS, _in_branches))

CASES = [
    Case("lumina2", "Lumina2", _LUMINA, (16, 8, 6), 24, **_COMMON),
    Case("newbie", "Lumina2", _LUMINA | dict(clip_text_dim=20), (16, 8, 6), 24, options=_pooled, **_COMMON),
    Case("z-image", "ZImage", _ZIMAGE, (16, 7, 5), 24, **_COMMON),
    Case("z-image-omni", "ZImage", _ZIMAGE | dict(siglip_feat_dim=20), (16, 8, 6), 24, options=omni(1, 1, 1), **_COMMON),
    Case("z-image-omni-bare", "ZImage", _ZIMAGE, (16, 8, 6), 24, options=omni(2, 1, 0), **_COMMON),
    Case("z-image-pixel", "ZImagePixelSpace", _PIXEL, (3, 16, 12), 24, **_COMMON),
]
