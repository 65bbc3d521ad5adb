"""Negatives that travel with a CONDITIONING, to whichever model samples it.

An option of the CONDITIONING holds them (CARRIED): a model with VSF reads it, as it reads its own negatives. Beside it lies a
hook (comfy/hooks.py), which speaks where there is no VSF on the model: as the run begins it puts the wrappers of patch.py on
it, for this run alone, or raises where that cannot be done. So no wire to the model is needed, and none is silent.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.hooks
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

from ..conditioning import CARRIED
from ..reading.conditioning import NegativePrompt
from .patch import VSFPatch, attach
from .run import KEY, Prompt


def carrying(positive: list[Any], negatives: Sequence[Prompt]) -> list[Any]:
    """A CONDITIONING, entry by entry with its own of the negatives: those whose prompt it is, and all by the paper's rule."""
    entries, carried = [], [replace(n, carried=True) for n in negatives]
    for rows, options in positive:
        own = tuple(n for n in carried if isinstance(n, NegativePrompt) or n.prompt is rows)
        entries += comfy.hooks.set_hooks_for_conditioning([[rows, {**options, CARRIED: own}]], _hook()) if own else [
            [rows, options]]
    return entries


def _hook() -> comfy.hooks.HookGroup:
    hook = comfy.hooks.TransformerOptionsHook({"wrappers": {WrappersMP.OUTER_SAMPLE: {KEY: [begin]}}})
    # hooks with the same are one to ComfyUI, which only compares it, however many conditionings of a run have it
    hook.hook_ref = begin  # pyright: ignore[reportAttributeAccessIssue]
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return group


def begin(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """OUTER_SAMPLE of a run in which a conditioning carries negatives. Raises ValueError, for the user to read, where they
    cannot act. The run's conditionings are its own copies: the hook, which has done its work, is taken off them."""
    guider = executor.class_obj
    for name, entries in guider.conds.items():
        if name != "positive" and any(CARRIED in entry for entry in entries):
            raise ValueError("VSF: connect VSF Conditioning to a `positive` input. Expected prompts with negatives of their "
                             f"own there, found one among the guider's {name} ones.")
    groups: dict[int, comfy.hooks.HookGroup | None] = {}
    for entry in (entry for entries in guider.conds.values() for entry in entries if entry.get("hooks") is not None):
        if (others := groups.setdefault(id(entry["hooks"]), _without_ours(entry["hooks"]))) is None:
            del entry["hooks"]
        else:
            entry["hooks"] = others
    model = guider.model_patcher
    if model.get_attachment(KEY) is not None:
        return executor(*args, **kwargs)
    guider.model_patcher = attach(model, ())
    patch: VSFPatch | None = guider.model_patcher.get_attachment(KEY)
    assert patch is not None
    for level, wrapper in patch.wrappers.items():
        add_wrapper_with_key(level, KEY, wrapper, guider.model_options, is_model_options=True)  # this run's copy of them
    try:
        return executor(*args, **kwargs)
    finally:
        guider.model_patcher = model


def _without_ours(group: comfy.hooks.HookGroup) -> comfy.hooks.HookGroup | None:
    """The other hooks of a group; the very group if all are, and None if none is."""
    others = [hook for hook in group.hooks if hook.hook_ref is not begin]
    if len(others) == len(group.hooks):
        return group
    rest = comfy.hooks.HookGroup()
    for hook in others:
        rest.add(hook)
    return rest if others else None
