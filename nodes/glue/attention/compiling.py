"""torch.compile's decorator, with the types that PyTorch does not give it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def not_compiled(function: Function) -> Function:
    """Left out of compiled graphs: TorchCompileModel drops the guards on what stands in transformer_options, and a call's
    negatives would be constants of its compiled code."""
    return cast(Function, torch.compiler.disable(function))
