"""For models that call attention without transformer_options, so that no override sees it.

An attention module's own code runs, with one name in it bound anew: `optimized_attention` hands on the transformer_options of
the model call. These come through a context variable, which each thread has for itself.
"""
from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor

from . import ModelCall

SHOWN = "vsf_attention_shown"
NAME = "optimized_attention"

_options: ContextVar[dict[str, Any] | None] = ContextVar("vsf_transformer_options", default=None)


def show(call: ModelCall) -> None:
    """Let the override see attention in this call."""
    call.options[SHOWN] = True


def patches(*attentions: str) -> dict[str, Callable[..., Any]]:
    """OBJECT_PATCHES that show the attention modules at these paths."""
    return {"diffusion_model.forward": _with_options, **{f"{path}.forward": _shown for path in attentions}}


def _with_options(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A model's forward, during which its attention can find the transformer_options."""
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        options = kwargs.get("transformer_options") or {}
        token = _options.set(options if SHOWN in options else None)
        try:
            return original(*args, **kwargs)
        finally:
            _options.reset(token)
    return forward


def _shown(original: MethodType) -> Callable[..., Any]:
    """An attention module's forward; in calls that are to be shown, the same code with another `optimized_attention`."""
    if not isinstance(original, MethodType) or NAME not in original.__func__.__globals__:
        raise ValueError("VSF: remove the node that replaces this model's attention, or bypass the VSF node. Expected "
                         "ComfyUI's own attention, found one that another node put in its place.")
    shown = MethodType(_bound_anew(original.__func__), original.__self__)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (original if _options.get() is None else shown)(*args, **kwargs)
    return forward


@cache
def _bound_anew(function: FunctionType) -> FunctionType:
    """The same code, in which `optimized_attention` is given the transformer_options."""
    attention = function.__globals__[NAME]

    def seen_attention(*args: Any, **kwargs: Any) -> Tensor:
        return attention(*args, **{"transformer_options": _options.get(), **kwargs})

    names = {**function.__globals__, NAME: seen_attention}
    names.pop("__name__")  # torch.compile would look names up in the module of this name
    code = function.__code__.replace()  # and keeps what it compiled for a code, whatever the names in it are bound to
    bound = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound
