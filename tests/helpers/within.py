"""For references of cross-attention: text attention is known by the module that makes it, not by counting keys."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import reference
import torch
from comfy.patcher_extension import WrappersMP


class Within:
    """Hooks on the modules of a model whose names fit, while it runs. attentions: made so far by the one that is running."""

    def __init__(self, fits: Callable[[str], bool]) -> None:
        self.fits = fits
        self.running: str | None = None
        self.attentions = 0

    def forward(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as hooks:
            for name, module in executor.class_obj.named_modules():
                if self.fits(name):
                    hooks.callback(module.register_forward_pre_hook(functools.partial(self.enter, name)).remove)
                    hooks.callback(module.register_forward_hook(self.leave).remove)
            return executor(*args, **kwargs)

    def enter(self, name: str, module: torch.nn.Module, args: tuple) -> None:
        self.running, self.attentions = name, 0

    def leave(self, module: torch.nn.Module, args: tuple, out: Any) -> None:
        self.running = None


def text_attention(fits: Callable[[str], bool], before: Callable[[reference.RefCall], int] = lambda call: 0,
                   append: Callable[[reference.RefCall], None] = reference.append_text) -> dict[str, Callable]:
    """lengthen and kinds of a Case. fits: names of the modules; before: attentions that each of them makes to something else
    before that to the text; append: puts the negatives into the call."""
    def lengthen(call: reference.RefCall) -> None:
        append(call)
        within = Within(fits)
        wrappers = call.options.get("wrappers", {})
        level = {**wrappers.get(WrappersMP.DIFFUSION_MODEL, {}), "reference": [within.forward]}
        call.options.update(within=within, wrappers={**wrappers, WrappersMP.DIFFUSION_MODEL: level})

    def kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
        within: Within = call.options["within"]
        if within.running is None:
            return None
        within.attentions += 1
        if within.attentions <= before(call):
            return None
        assert keys == len(call.text_kinds), "the module sees something else than the text"
        return "I" * queries, call.text_kinds

    return {"lengthen": lengthen, "kinds": kinds}


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + math.prod(shape)))
