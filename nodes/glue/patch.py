"""Attach negatives to a ModelPatcher.

One wrapper stands at each level of a sampling run (comfy/patcher_extension.py), and each hands down what the next needs:

    SAMPLER_SAMPLE   marks the positive conditionings of the run; the noise levels of each negative's window
    PREDICT_NOISE    one step: sees that a positive came by
    CALC_COND_BATCH  takes the marks out and tags what was marked with the negatives that act at this step; nothing else is
                     changed, so that off is bit for bit the model without us, in its own batches
    APPLY_MODEL      lengthens the text of a tagged call and installs the attention override for it

Nothing is written on the model or on anything else that outlives the run.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import comfy.conds
import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...vsf_core.layout import Negative
from ...vsf_core.schedule import SigmaWindow
from .conditioning import NegativePrompt
from .families import TEXT, Encoded, Family, ModelCall, find_family, object_patches, plain_tokens, text_key
from .override import OVERRIDE, VSFAttention

log = logging.getLogger("vsf")

KEY = "vsf"


MARK = "vsf_positive"
OWN = "vsf_own"


class PositiveMark(comfy.conds.CONDConstant):
    """Stands in the model_conds of a run's positive conditionings, and of every copy that other nodes make of them (context
    windows, extra passes), until CALC_COND_BATCH takes it out."""


@dataclass
class Run:
    """State of one sampling run. windows, encoded, kept: of each negative; kept: what its family's adapter keeps until the end
    of the run."""
    windows: list[SigmaWindow]
    encoded: list[Encoded]
    kept: list[dict[Any, Any]]
    calls_seen: int = 0  # forwards in which our override was called
    steps_seen: int = 0
    batches: int = 0  # calls of CALC_COND_BATCH
    tagged: int = 0  # positives in them
    tags: dict[tuple[tuple[int, ...], int], NegativesCond] = field(default_factory=dict)


@dataclass(frozen=True)
class ActiveNegatives:
    """The negatives that act in one call of the model. encoded: of each, with one row for all the call's, or a row for each;
    kept: of each, as in Run."""
    run: Run
    settings: tuple[Negative, ...]
    encoded: list[Encoded]
    kept: list[dict[Any, Any]]

    def map(self, change: Callable[[Tensor], Tensor]) -> ActiveNegatives:
        """The same with every tensor changed."""
        return replace(self, encoded=[{k: change(t) for k, t in e.items()} for e in self.encoded])

    def for_rows(self, rows: int, like: Tensor) -> list[Encoded]:
        """What was encoded, with a row for each of the call's, on the device and in the type of `like`.

        Raises RuntimeError, for the user to read, where it cannot be known which negative is whose.
        """
        for encoded in self.encoded:
            if len(encoded[TEXT]) not in (1, rows):
                raise RuntimeError("VSF: connect one negative prompt for all pictures of the batch, or bypass the VSF node. "
                                   f"Expected {len(encoded[TEXT])} pictures in this call, one for each negative, found {rows}: "
                                   "another node calls the model with tiles or single pictures, and which of them belongs to "
                                   "which negative cannot be known.")
        return [{k: _like(t, like).expand(rows, *t.shape[1:]) for k, t in e.items()} for e in self.encoded]


def _like(t: Tensor, like: Tensor) -> Tensor:
    """On the device and in the type of `like`; whole numbers stay whole numbers."""
    return t.to(like.device, like.dtype if t.is_floating_point() else t.dtype)


def one_for_all(tensor: Tensor) -> Tensor:
    """One row where all are the same: then it fits however many rows a call has."""
    return tensor[:1] if (tensor == tensor[:1]).all() else tensor


class NegativesCond(comfy.conds.CONDRegular):
    """Carries ActiveNegatives in a conditioning's model_conds, as ComfyUI carries its own inputs.

    Its key is on positive conditionings only, so ComfyUI never puts them into one batch with others.
    """
    cond: ActiveNegatives

    def process_cond(self, batch_size: int, **kwargs: Any) -> NegativesCond:
        return self._copy_with(self.cond.map(lambda t: t if len(t) == 1 else comfy.utils.repeat_to_batch_size(t, batch_size)))

    def can_concat(self, other: NegativesCond) -> bool:
        return self.cond.settings is other.cond.settings

    def concat(self, others: list[NegativesCond]) -> ActiveNegatives:
        # every chunk of the batch has the same negatives: can_concat saw to that
        chunks = 1 + len(others)
        return self.cond.map(lambda t: t if len(t) == 1 else t.repeat(chunks, *[1] * (t.ndim - 1)))

    def size(self) -> list[int]:
        batch, _, width = self.cond.encoded[0][TEXT].shape
        return [batch, sum(e[TEXT].shape[1] for e in self.cond.encoded), width]


def attach(model: ModelPatcher, negatives: list[NegativePrompt],
           attention: Callable[..., VSFAttention] = VSFAttention) -> ModelPatcher:
    """A clone of the model with these negatives beside those it already has. Raises ValueError if VSF cannot do it.

    attention: makes the override of each call; another class than VSFAttention makes another method of the same negatives.
    """
    patched = model.clone()
    earlier: VSFPatch | None = patched.get_attachment(KEY)
    family = find_family(patched.model)
    patch = VSFPatch(family, (*(earlier.negatives if earlier else ()), *negatives), attention)
    patched.set_attachments(KEY, patch)
    for name, make in object_patches(family, patched.model).items():
        if name not in patched.object_patches or earlier is None:
            _put(patched, name, make, patched.object_patches.get(name))
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    patched.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, follow_model)
    for level, wrapper in ((WrappersMP.SAMPLER_SAMPLE, patch.sampler_sample),
                           (WrappersMP.PREDICT_NOISE, patch.predict_noise),
                           (WrappersMP.CALC_COND_BATCH, patch.calc_cond_batch),
                           (WrappersMP.APPLY_MODEL, patch.apply_model)):
        patched.remove_wrappers_with_key(level, KEY)
        patched.add_wrapper_with_key(level, KEY, wrapper)
    return patched


def _put(patcher: ModelPatcher, name: str, make: Callable[[Any], Any], others: Any) -> None:
    """Put an object patch in place of what `others`, another node, has put there, or, if None, of the model's own object."""
    own = patcher.object_patches_backup.get(name) if others is None else None  # there while patches are on the model
    made = make(next(o for o in (others, own, attrgetter(name)(patcher.model)) if o is not None))
    setattr(made, OWN, others)
    patcher.add_object_patch(name, made)


def follow_model(patcher: ModelPatcher, clone: ModelPatcher) -> None:
    """ON_CLONE: a clone may have another copy of the model (torch.compile and LoRA hooks under dynamic VRAM, MultiGPU), and
    object patches hold objects of the first. Ours are made anew, over whatever other nodes put under them; one that another
    node put over ours is its own to renew."""
    patch: VSFPatch | None = clone.get_attachment(KEY)
    if patch is None or clone.model is patcher.model:
        return
    for name, make in object_patches(patch.family, clone.model).items():
        if hasattr(clone.object_patches.get(name), OWN):
            _put(clone, name, make, getattr(clone.object_patches[name], OWN))


@dataclass(frozen=True)
class VSFPatch:
    """What is attached to a model: its family's adapter and all its negatives. Immutable, shared between clones."""
    family: Family
    negatives: tuple[NegativePrompt, ...]
    attention: Callable[..., VSFAttention] = VSFAttention

    def sampler_sample(self, executor: Callable[..., Any], guider: Any, sigmas: Tensor, extra_args: dict[str, Any],
                       *args: Any, **kwargs: Any) -> Any:
        """Begin a run: find the positive conditionings and turn percents into noise levels."""
        if "positive" not in guider.conds:
            raise ValueError(f"VSF: expected a guider with a positive conditioning, found {type(guider).__name__} with "
                             f"{sorted(guider.conds)}. Use a guider with a positive input.")
        sampling = guider.inner_model.model_sampling
        windows = [SigmaWindow(sampling.percent_to_sigma(n.start_percent), sampling.percent_to_sigma(n.end_percent))
                   for n in self.negatives]
        encode = getattr(self.family, "encode", plain_tokens)
        device = guider.model_patcher.load_device  # once, and not in every step
        encoded = [{name: one_for_all(t).to(device) for name, t in encode(guider.inner_model, n).items()}
                   for n in self.negatives]
        run = Run(windows, encoded, [{} for _ in encoded])
        for entry in guider.conds["positive"]:
            entry["model_conds"] = {**entry["model_conds"], MARK: PositiveMark(None)}
        extra_args = {**extra_args, "model_options": {**extra_args["model_options"], KEY: run}}
        log.info("VSF: %s", "; ".join(f"negative of {e[TEXT].shape[1]} tokens, scale {n.scale:g}, bias {n.bias:g}"
                                      for n, e in zip(self.negatives, encoded, strict=True)))
        try:
            samples = executor(guider, sigmas, extra_args, *args, **kwargs)
        finally:
            run.tags.clear()  # each holds the run
            for kept in run.kept:
                kept.clear()
        _check_run(run)
        return samples

    def predict_noise(self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any) -> Tensor:
        """One step of the sampler. Raises RuntimeError where the guider asked the model and no positive was among it."""
        run: Run | None = model_options.get(KEY)
        before = (run.batches, run.tagged) if run else None
        out = executor(x, timestep, model_options, seed)
        if run is not None:
            run.steps_seen += 1
            if run.batches > before[0] and run.tagged == before[1] and self._active(run, timestep):
                raise RuntimeError("VSF: use another guider, or bypass the VSF node. Expected "
                                   f"{type(executor.class_obj).__name__} to use its positive conditioning in this step, "
                                   "found that it did not.")
        return out

    def calc_cond_batch(self, executor: Callable[..., Any], model: Any, conds: list[list[dict[str, Any]] | None],
                        x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> Any:
        """Tag the positive conditionings with the negatives whose window this step is in."""
        run: Run | None = model_options.get(KEY)
        if run is None:
            raise ValueError("VSF: the model was called outside a sampling run that VSF could see (no SAMPLER_SAMPLE). "
                             "Use a sampler built on ComfyUI's guiders, or bypass the VSF Guidance node.")
        run.batches += 1
        active = self._active(run, timestep)
        tagged = [entries and [self._tagged(run, entry, active) for entry in entries] for entries in conds]
        return executor(model, tagged, x_in, timestep, model_options)

    def _active(self, run: Run, timestep: Tensor) -> tuple[int, ...]:
        always = [n.start_percent <= 0.0 and n.end_percent >= 1.0 for n in self.negatives]
        if all(always):
            return tuple(range(len(always)))  # without reading sigma, which would wait for the device
        sigma = float(timestep[0])
        return tuple(c for c, whole in enumerate(always) if whole or sigma in run.windows[c])

    def _tag(self, run: Run, active: tuple[int, ...], length: int) -> NegativesCond:
        """One tag for all positives of a length: ComfyUI batches contexts of different lengths by repeating them (UNets,
        CONDCrossAttn), and a positive that counts twice would halve the negative."""
        if (active, length) not in run.tags:
            settings = tuple(Negative(self.negatives[c].scale, self.negatives[c].bias) for c in active)
            encoded, kept = ([of[c] for c in active] for of in (run.encoded, run.kept))
            run.tags[active, length] = NegativesCond(ActiveNegatives(run, settings, encoded, kept))
        return run.tags[active, length]

    def _tagged(self, run: Run, entry: dict[str, Any], active: tuple[int, ...]) -> dict[str, Any]:
        """A marked entry without its mark, and with a tag if negatives are active; others as they are."""
        if MARK not in entry["model_conds"]:
            return entry
        model_conds = {name: cond for name, cond in entry["model_conds"].items() if name != MARK}
        if active:
            run.tagged += 1
            text = model_conds.get(text_key(self.family))
            model_conds[KEY] = self._tag(run, active, 0 if text is None else text.cond.shape[1])
        return {**entry, "model_conds": model_conds}

    def apply_model(self, executor: Any, x: Tensor, t: Tensor, c_concat: Tensor | None, c_crossattn: Tensor | None,
                    control: Any, transformer_options: dict[str, Any], **conds: Any) -> Tensor:
        """One call of the model: with negatives if it is tagged, else as if we were not here."""
        active: ActiveNegatives | None = conds.pop(KEY, None)
        if MARK in conds:
            raise ValueError("VSF: use a sampler built on ComfyUI's guiders, or bypass the VSF node. Expected conditionings to "
                             "go through ComfyUI's calc_cond_batch, found that another node calls the model itself.")
        if active is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conds)
        call = ModelCall(executor.class_obj, x, {"c_crossattn": c_crossattn, **conds}, text_key(self.family),
                         transformer_options=transformer_options)
        if call.context is None:
            raise ValueError("VSF: expected a model that takes text, found a call without text. Bypass the VSF Guidance "
                             "node, or connect a positive prompt.")
        call.negatives, call.kept = active.for_rows(len(x), call.context), active.kept
        for encoded in call.negatives:
            if encoded[TEXT].shape[-1] != call.context.shape[-1]:
                raise ValueError(f"VSF: expected a negative of width {call.context.shape[-1]}, as the positive prompt has, "
                                 f"found {encoded[TEXT].shape[-1]}. Encode the negative with the text encoder (CLIP) of "
                                 "this model.")
        layouts = self.family.lengthen(call, [e[TEXT] for e in call.negatives], active.settings)
        attention = self.attention(layouts, transformer_options.get(OVERRIDE), len(call.context))
        forward = ForwardSeen()
        options = _with_innermost_wrapper({**transformer_options, **call.options}, forward)
        options[OVERRIDE] = attention
        c_crossattn = call.conds.pop("c_crossattn")
        with _own_compilation(transformer_options):
            out = executor(x, t, c_concat, c_crossattn, control, options, **call.conds)
        _check_call(active.run, attention.calls, forward.seen, executor.class_obj)
        return out


class CompiledApart(TorchFunctionMode):
    """Does nothing, but that code compiled while it is on is not used while it is off, and the other way round.

    TorchCompileModel drops every guard on transformer_options, so code traced with our override in it would also be run
    without (and fail), and code traced without it would never call it.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _own_compilation(transformer_options: dict[str, Any]) -> AbstractContextManager[Any]:
    """CompiledApart where ComfyUI compiles the model (comfy_api/torch_helpers/torch_compile.py), else nothing at all."""
    is_compiled = COMPILE_KEY in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})
    return CompiledApart() if is_compiled else nullcontext()


class ForwardSeen:
    """Innermost DIFFUSION_MODEL wrapper: tells a forward that ran from one that a cache (EasyCache) answered."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.seen = True
        return executor(*args, **kwargs)


def _with_innermost_wrapper(transformer_options: dict[str, Any], wrapper: Callable[..., Any]) -> dict[str, Any]:
    """A copy of transformer_options with one more wrapper around the diffusion model, inside all others."""
    wrappers = transformer_options.get("wrappers", {})
    level = {**wrappers.get(WrappersMP.DIFFUSION_MODEL, {}), KEY: [wrapper]}
    return {**transformer_options, "wrappers": {**wrappers, WrappersMP.DIFFUSION_MODEL: level}}


def _check_call(run: Run, calls: int, forward_seen: bool, base_model: Any) -> None:
    """Raise if a forward ran in which attention never came to us: N0 would have acted as a positive prompt.

    Some models have no DIFFUSION_MODEL wrapper (SD3); for them a call without attention is believed to be a cache's only
    after one with attention.
    """
    if calls:
        run.calls_seen += 1
    elif forward_seen or not run.calls_seen:
        raise RuntimeError(f"VSF: expected the attention of {type(base_model).__name__} to pass through ComfyUI's attention "
                           "override, found not one call in this step: another node replaces the model's forward (TeaCache "
                           "and similar packs do). Remove that node, or bypass VSF Guidance.")


def _check_run(run: Run) -> None:
    """After a run: say so if nothing happened in it."""
    if run.steps_seen and not run.tagged:
        log.warning("VSF: had no effect: none of the sampler's %d steps lies between start_percent and end_percent.",
                    run.steps_seen)
