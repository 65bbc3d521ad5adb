"""What a user is told whose model has no adapter."""
from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from types import CodeType
from typing import Any

from torch import nn

log = logging.getLogger("vsf")

NEAREST = 3


def message(base_model: Any, model: nn.Module, families: Mapping[str, tuple[str, str]], reason: str | None) -> str:
    """For the user: what to do, which models are nearest, what was found. All models go to the log.

    families: as FAMILIES; reason: why VSF cannot work in this model, where that is known.
    """
    log.info("VSF: supported models: %s", "; ".join(dict.fromkeys(label for _, label in families.values())))
    near = "; ".join(nearest(f"{type(model).__module__}.{type(model).__qualname__}", families))
    said = f", in which VSF cannot work: {reason}" if reason else ""
    text = ("VSF: bypass or remove the VSF node for this model. Expected a supported one (nearest by name: "
            f"{near}; the log has all), found {type(base_model).__name__}, {type(model).__name__}{said}.")
    if not reason and is_ordinary(model):
        text += (" Its text seems to be an ordinary context and its attention to pass ComfyUI's override, so that it can "
                 "probably be added: CONTRIBUTING.md, \"Teach VSF a new model\".")
    return text


def nearest(name: str, families: Mapping[str, tuple[str, str]]) -> list[str]:
    """The supported models whose classes are most like this one: those of its package first, then by their names."""
    def likeness(known: str) -> tuple[bool, float]:
        (package, *_, cls), (own_package, *_, own_cls) = (
            path.lower().removeprefix("comfy.ldm.").split(".") for path in (known, name))
        return package == own_package, SequenceMatcher(None, f"{own_package} {own_cls}", f"{package} {cls}").ratio()

    labels = (families[known][1] for known in sorted(families, key=likeness, reverse=True))
    return list(dict.fromkeys(labels))[:NEAREST]


def is_ordinary(model: nn.Module) -> bool:
    """Whether the forward takes `context` and transformer_options, and some code of its layers hands the latter to ComfyUI's
    attention. It is a hint for who reads the message, and nothing else."""
    parameters = inspect.signature(type(model).forward).parameters
    takes_options = any(p.name == "transformer_options" or p.kind is p.VAR_KEYWORD for p in parameters.values())
    return "context" in parameters and takes_options and any(map(_passes_options, _codes(model)))


def _codes(model: nn.Module) -> Iterator[CodeType]:
    """Of all methods of the model's layers, and of the functions that those call by name (flux/math.py, attention)."""
    for cls in {type(layer) for layer in model.modules()}:
        for method in filter(inspect.isfunction, vars(cls).values()):
            yield method.__code__
            called = (method.__globals__.get(name) for name in method.__code__.co_names)
            yield from (function.__code__ for function in called if inspect.isfunction(function))


def _passes_options(code: CodeType) -> bool:
    attends = any(name.startswith("optimized_attention") for name in code.co_names)
    keywords = {name for const in code.co_consts if isinstance(const, tuple) for name in const}
    return attends and "transformer_options" in keywords | set(code.co_varnames)
