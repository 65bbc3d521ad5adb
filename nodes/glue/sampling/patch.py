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
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import comfy.model_sampling
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ....vsf_core.contrast import fade, noise_share
from ....vsf_core.layout import Context, Negative
from ....vsf_core.schedule import Blocks, SigmaCurve, SigmaWindow, by_sigma
from ..attention.notes import noting
from ..attention.override import OVERRIDE, VSFAttention
from ..attention.positions import standing
from ..attention.regions import CallRegions
from ..families import TEXT, Family, ModelCall, Settings, find_family, object_patches, text_key
from ..families.counting import Count, count_blocks, recounted
from ..families.pictures import picture_of
from ..reading.conditioning import NegativePrompt
from ..reading.contexts import ContextPrompt
from ..said import say
from .fit import check_fit
from .run import (
    KEY,
    MARK,
    REGIONS,
    ActiveNegatives,
    NegativesCond,
    Positive,
    Prompt,
    Run,
    carried,
    encoded_words,
    mark_positives,
    one_for_all,
    remarks,
    run_regions,
)
from .seen import Place, keep, recorder

log = logging.getLogger("vsf")

OWN = "vsf_own"
"""Attribute of our object patches: what another node had put in the same place."""

IS_FLOW = comfy.model_sampling.CONST  # x = (1 - sigma) x0 + sigma eps


def attach(model: ModelPatcher, negatives: Sequence[Prompt],
           attention: Callable[..., VSFAttention] = VSFAttention) -> ModelPatcher:
    """A clone of the model with these negatives beside those it already has. Raises ValueError if VSF cannot do it.

    attention: makes the override of each call; another class than VSFAttention makes another method of the same negatives.
    """
    patched = model.clone()
    earlier: VSFPatch | None = patched.get_attachment(KEY)
    family = find_family(patched.model)
    check_regions(family, patched.model, negatives)
    patch = VSFPatch(family, (*(earlier.negatives if earlier else ()), *negatives), attention)
    patched.set_attachments(KEY, patch)
    for name, make in object_patches(family, patched.model).items():
        if name not in patched.object_patches or earlier is None:
            _put(patched, name, make, patched.object_patches.get(name))
    for event, callback in ((CallbacksMP.ON_CLONE, follow_model), (CallbacksMP.ON_PREPARE_STATE, check_begun)):
        patched.remove_callbacks_with_key(event, KEY)
        patched.add_callback_with_key(event, KEY, callback)
    for level, wrapper in patch.wrappers.items():
        patched.remove_wrappers_with_key(level, KEY)
        patched.add_wrapper_with_key(level, KEY, wrapper)
    return patched


def check_regions(family: Family, base_model: Any, negatives: Sequence[Prompt]) -> None:
    """Raise ValueError, for the user to read, for negatives that act in a part of what is no picture."""
    if picture_of(family) is None and any(not n.region.is_everywhere for n in negatives):
        raise ValueError("VSF: leave `mask` empty for this model, and take areas and masks off the negative. Expected a model "
                         f"of pictures or videos, found {type(base_model).__name__}, which makes sound.")


def check_begun(patcher: ModelPatcher, timestep: Tensor, model_options: dict[str, Any] | None = None) -> None:
    """ON_PREPARE_STATE, a call of the model is to come: raise where no run of ours has begun, as on the second model of core's
    DualModelGuider, which is sampled by the first one's wrappers. model_options: of the run; older ComfyUIs do not tell."""
    if model_options is not None and KEY not in model_options:
        raise ValueError("VSF: put the VSF node on the model that samples the positive prompt (the guider's first `model`), or "
                         "bypass it. Expected a sampling run that VSF can see, found one that uses this model for something "
                         "else.")


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
    negatives: tuple[Prompt, ...]
    attention: Callable[..., VSFAttention] = VSFAttention

    @property
    def wrappers(self) -> dict[str, Callable[..., Any]]:
        """Its wrapper at each level."""
        return {WrappersMP.SAMPLER_SAMPLE: self.sampler_sample, WrappersMP.PREDICT_NOISE: self.predict_noise,
                WrappersMP.CALC_COND_BATCH: self.calc_cond_batch, WrappersMP.APPLY_MODEL: self.apply_model}

    def sampler_sample(self, executor: Callable[..., Any], guider: Any, sigmas: Tensor, extra_args: dict[str, Any],
                       callback: Callable[..., Any] | None, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Begin a run: find the positive conditionings and turn percents into noise levels."""
        if "positive" not in guider.conds:
            raise ValueError("VSF: use a guider with a positive input. Expected a guider with a positive conditioning, found "
                             f"{type(guider).__name__} with {sorted(guider.conds)}.")
        sampling, own = guider.inner_model.model_sampling, carried(guider.conds["positive"])
        check_regions(self.family, guider.inner_model, own)  # VSF Conditioning has no wire to the model: it is known here
        for n in own:
            check_fit(n, self.family, guider.inner_model, "load the text encoder in another precision")
        negatives = (*self.negatives, *own)
        windows = [SigmaWindow(sampling.percent_to_sigma(n.start_percent), sampling.percent_to_sigma(n.end_percent))
                   for n in negatives]
        device = guider.model_patcher.load_device  # once, and not in every step
        encoded = [{name: one_for_all(t).to(device) for name, t in encoded_words(n, self.family, guider.inner_model).items()}
                   for n in negatives]
        curves = [n.curve and by_sigma(n.curve, sampling.percent_to_sigma).to(device) for n in negatives]
        run = Run(negatives, windows, curves, encoded, [{} for _ in encoded],
                  run_regions(negatives, noise, guider.conds["positive"]))
        positives = mark_positives(guider.conds["positive"], negatives, encoded, self.family, guider.inner_model, run.regions)
        noted = remarks(guider.conds["positive"], negatives, positives, self.family)
        for remark in dict.fromkeys(filter(None, noted)):
            log.warning("VSF: %s.", remark)
        names = [n.name for n in negatives]
        run.seen = recorder(names, guider.conds["positive"], noise, extra_args["model_options"])
        callback = callback if run.seen is None else run.seen.watched(callback)
        extra_args = {**extra_args, "model_options": {**extra_args["model_options"], KEY: run}}
        try:
            samples = executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        finally:
            run.tags.clear()  # each holds the run
            run.like.clear()
            for kept in run.kept:
                kept.clear()
        if run.seen is not None:
            keep(self if self.negatives else guider.inner_model, run.seen.latents(guider.inner_model, samples), run.seen.heat())
        self._tell(run, positives, noted, getattr(guider, "cfg", 1.0))
        _check_run(run)
        return samples

    def predict_noise(self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any) -> Tensor:
        """One step of the sampler. Raises RuntimeError where the guider asked the model and no positive was among it."""
        run: Run | None = model_options.get(KEY)
        batches, tagged = (0, 0) if run is None else (run.batches, run.tagged)
        out = executor(x, timestep, model_options, seed)
        if run is not None:
            run.steps_seen += 1
            run.acted.update(run.acting)
            run.acting.clear()
            if run.seen is not None:
                run.seen.end_step()
            if run.batches > batches and run.tagged == tagged and self._active(run, timestep):
                raise RuntimeError("VSF: use another guider, or bypass the VSF node. Expected "
                                   f"{type(executor.class_obj).__name__} to use its positive conditioning in this step, "
                                   "found that it did not.")
        return out

    def calc_cond_batch(self, executor: Callable[..., Any], model: Any, conds: list[list[dict[str, Any]] | None],
                        x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> Any:
        """Tag the positive conditionings with the negatives whose window this step is in."""
        run: Run | None = model_options.get(KEY)
        if run is None:
            raise ValueError("VSF: use a sampler built on ComfyUI's guiders, or bypass the VSF node. Expected a sampling run "
                             "that VSF can see, found a call of the model outside of one (no SAMPLER_SAMPLE).")
        run.batches += 1
        active = self._active(run, timestep)
        tagged = [entries and [self._tagged(run, entry, active) for entry in entries] for entries in conds]
        if run.seen is not None:
            tagged = [entries and [_placed(entry, partial(run.seen.place, entry, x_in, timestep, model_options))
                                   for entry in entries] for entries in tagged]
        if _asks_for_one_batch(model_options):
            tagged = self._in_one_batch(tagged)
        return executor(model, tagged, x_in, timestep, model_options)

    def _in_one_batch(self, conds: list[list[dict[str, Any]] | None]) -> list[list[dict[str, Any]] | None]:
        """The conditionings without a tag get the first positive's of their length, with no share of its negatives."""
        def length(entry: dict[str, Any]) -> int:
            text = entry["model_conds"].get(text_key(self.family))
            return 0 if text is None else text.cond.shape[1]

        tags: dict[int, dict[str, Any]] = {}
        for entry in (e for entries in conds for e in entries or () if KEY in e["model_conds"]):
            own = {name: entry["model_conds"][name] for name in (KEY, REGIONS) if name in entry["model_conds"]}
            tags.setdefault(length(entry), {**own, KEY: NegativesCond(replace(own[KEY].cond, acting=(False,)))})
        return [entries and [e if KEY in e["model_conds"] or length(e) not in tags
                             else {**e, "model_conds": {**e["model_conds"], **tags[length(e)]}} for e in entries]
                for entries in conds]

    def _active(self, run: Run, timestep: Tensor) -> tuple[int, ...]:
        """The negatives that act in this step. Sigma is read, which waits for the device, only if one of them may be off in
        some step: as ComfyUI itself does for conditionings with a time range (comfy/samplers.py, get_area_and_mult)."""
        always = [n.start_percent <= 0.0 and n.end_percent >= 1.0 and not (n.curve and n.curve.rests) for n in run.negatives]
        if all(always):
            return tuple(range(len(always)))
        return tuple(c for c, whole in enumerate(always) if whole or run.acts(c, timestep[0]))

    def _tell(self, run: Run, positives: list[Positive], remarks: list[str], cfg: float) -> None:
        """On each node, after a run, and in the log: what its negatives did, then what it has said before the run. The
        canvas shows the first lines alone, if the node is small."""
        said: dict[str | None, list[str]] = {}
        for c, (n, name, encoded) in enumerate(zip(run.negatives, _names(run.negatives), run.encoded, strict=True)):
            tokens = "" if isinstance(n, ContextPrompt) else f" on {encoded[TEXT].shape[1]} tokens"  # padding shows in them
            is_off = isinstance(n, ContextPrompt) and not any(c in p.contexts for p in positives)
            text = (f"{name and name + 'is '}off: with the prompt before it, it is the prompt and nothing more" if is_off else
                    f"{name}acted in {run.acted[c]} of {run.steps_seen} steps{tokens}")
            said.setdefault(n.node, []).append(text)
        high = f"the sampler's CFG is {cfg:g}: few-step models (turbo, schnell, lightning) want 1" if cfg > 1.0 else ""
        for n, remark in zip(run.negatives, remarks, strict=True):
            said[n.node] += [line for line in (n.told, remark, high) if line and line not in said[n.node]]
        for node, lines in said.items():
            say(node, "\n".join(lines))

    def _active_in(self, run: Run, active: tuple[int, ...], positive: Positive, length: int) -> NegativesCond | None:
        """One tag for all positives that are alike: ComfyUI batches contexts of different lengths by repeating them (UNets,
        CONDCrossAttn), and a positive that counts twice would halve the negative. None if no negative acts on it."""
        own = tuple(c for c in active if positive.has(c, run.negatives[c]))
        if own and (own, positive, length) not in run.tags:
            settings = tuple(_settings(run.negatives[c]) for c in own)
            encoded, kept = ([of[c] for c in own] for of in (run.encoded, run.kept))
            run.tags[own, positive, length] = NegativesCond(ActiveNegatives(run, positive, own, settings, encoded, kept))
        return run.tags.get((own, positive, length))

    def _tagged(self, run: Run, entry: dict[str, Any], active: tuple[int, ...]) -> dict[str, Any]:
        """A marked entry without its mark, and with a tag if negatives are active; others as they are."""
        mark = entry["model_conds"].get(MARK)
        if mark is None:
            return entry
        model_conds = {name: cond for name, cond in entry["model_conds"].items() if name not in (MARK, REGIONS)}
        run.tagged += bool(active)
        text = model_conds.get(text_key(self.family))
        tag = self._active_in(run, active, mark.cond, 0 if text is None else text.cond.shape[1])
        if tag is not None:
            model_conds[KEY] = tag
            if run.regions is not None and any(c in run.regions.of for c in tag.cond.numbers):
                model_conds[REGIONS] = entry["model_conds"][REGIONS]
        return {**entry, "model_conds": model_conds}

    def apply_model(self, executor: Any, x: Tensor, t: Tensor, c_concat: Tensor | None, c_crossattn: Tensor | None,
                    control: Any, transformer_options: dict[str, Any], **conds: Any) -> Tensor:
        """One call of the model: with negatives if it is tagged, else as if we were not here."""
        active: ActiveNegatives | None = conds.pop(KEY, None)
        m: Tensor | None = conds.pop(REGIONS, None)
        if MARK in conds:
            raise ValueError("VSF: use a sampler built on ComfyUI's guiders, or bypass the VSF node. Expected conditionings to "
                             "go through ComfyUI's calc_cond_batch, found that another node calls the model itself.")
        if active is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conds)
        forward = partial(self._forward, executor, active, m, x, t, c_concat, c_crossattn, transformer_options, conds)
        named = [active.run.negatives[c].blocks for c in active.numbers]
        if not any(named):
            return forward(control)[0]
        listed = count_blocks(executor.class_obj.diffusion_model)
        known, seen = active.run.count, active.run.seen
        count = known or listed
        recorded = 0 if seen is None else len(seen.calls)
        out, attentions, left_out = forward(_copied(control), (named, count))
        if attentions > (known.total if known else 0):  # fewer where a cache has answered, or layers are skipped
            active.run.count = recounted(listed, attentions, left_out)
            _check_blocks(named, active.run.count)
            if active.run.count != count:  # once a run, in the few models whose lists tell another number
                if seen is not None:
                    del seen.calls[recorded:]
                out, *_ = forward(control, (named, active.run.count))
        return out

    def _forward(self, executor: Any, active: ActiveNegatives, m: Tensor | None, x: Tensor, t: Tensor, c_concat: Tensor | None,
                 c_crossattn: Tensor | None, transformer_options: dict[str, Any], conds: dict[str, Any], control: Any,
                 among: tuple[Sequence[Blocks | None], Count] | None = None) -> tuple[Tensor, int, int]:
        """A call of the model with negatives; and how many attentions of its image with the prompt there were in it, and blocks
        that another node left out. among: the blocks in which each negative acts, of how many; None for all."""
        call = ModelCall(executor.class_obj, x, {"c_crossattn": c_crossattn, **conds}, text_key(self.family),
                         transformer_options=transformer_options, words=active.positive.words,
                         settings=_at_noise(active, t, executor.class_obj))
        if not call.has_text:
            raise ValueError("VSF: connect a positive prompt, or bypass the VSF node. Expected a model that takes text, found "
                             "a call without text.")
        call.negatives, call.kept = active.for_rows(len(x), call.context), active.kept
        for encoded in call.negatives:
            if encoded[TEXT].shape[-1] != call.context.shape[-1]:
                raise ValueError("VSF: encode the negative with the text encoder (CLIP) of this model. Expected a negative of "
                                 f"width {call.context.shape[-1]}, as the positive prompt has, found "
                                 f"{encoded[TEXT].shape[-1]}.")
        active.run.acting.update(active.numbers)
        layouts = self.family.lengthen(call, [e[TEXT] for e in call.negatives], call.settings)
        attention = self.attention(layouts, transformer_options.get(OVERRIDE), len(call.context), active.for_which(len(x)))
        if among is not None:
            named, count = among
            attention.blocks, attention.block_of = [blocks and blocks.of(count.blocks) for blocks in named], count.block_of
        if m is not None:
            regions, picture = active.run.regions, picture_of(self.family)
            assert regions is not None and picture is not None
            attention.regions = CallRegions(regions, m, active.numbers, partial(picture, call), x, call.sizes)
        forward = ForwardSeen()
        options = _with_innermost_wrapper({**transformer_options, **call.options}, forward)
        options[OVERRIDE] = attention
        if among is not None:
            options = attention.counting_skipped(options)
        c_crossattn = call.conds.pop("c_crossattn")
        seen = active.run.seen
        attention.ticket = None if seen is None else x.new_zeros(1)
        with _own_compilation(transformer_options, seen is not None), standing(call.positions), noting() as noted:
            out = executor(x, t, c_concat, c_crossattn, control, options, **call.conds)
        if seen is not None:
            seen.add(call, self.family, noted, active.numbers, active.acting_places())
        _check_call(active.run, attention.calls, forward.seen, executor.class_obj)
        return out, attention.calls, attention.left_out


def _names(negatives: Sequence[Prompt]) -> list[str]:
    """How to begin a line about each on its node: with its own text; with its number where it is not the only one."""
    seen: Counter[str | None] = Counter()
    together = Counter(n.node for n in negatives)
    names = []
    for n in negatives:
        seen[n.node] += 1
        names.append(f'"{n.name}" ' if n.name else f"negative {seen[n.node]} " if together[n.node] > 1 else "")
    return names


def _placed(entry: dict[str, Any], place: Callable[[], Place]) -> dict[str, Any]:
    """An entry whose tag, if it has one, tells its place."""
    tag: NegativesCond | None = entry["model_conds"].get(KEY)
    if tag is None:
        return entry
    return {**entry, "model_conds": {**entry["model_conds"], KEY: NegativesCond(replace(tag.cond, places=(place(),)))}}


def _settings(prompt: Prompt) -> Negative | Context:
    return Negative(prompt.scale, prompt.bias) if isinstance(prompt, NegativePrompt) else Context(prompt.strength)


def _at_noise(active: ActiveNegatives, sigma: Tensor, base_model: Any) -> Settings:
    """The settings at a noise level, (B,), which samplers give alike for all rows: with the contexts' fade, and with the
    strength or scale that its curve makes of each one's own. Tensors on sigma's device: nothing waits for it, and torch.compile
    sees no new number in each step."""
    if not any(isinstance(s, Context) for s in active.settings) and not any(active.run.curves):
        return active.settings
    level = fade(noise_share(sigma[:1].float(), isinstance(base_model.model_sampling, IS_FLOW)))

    def at_noise(s: Negative | Context, curve: SigmaCurve | None) -> Negative | Context:
        factor = 1.0 if curve is None else curve.to(sigma.device).at(sigma[0])
        if isinstance(s, Context):
            return replace(s, fade=level, strength=s.strength * factor)
        return replace(s, alpha=s.alpha * factor)
    return tuple(at_noise(s, active.run.curves[c]) for c, s in zip(active.numbers, active.settings, strict=True))


def _asks_for_one_batch(model_options: dict[str, Any]) -> bool:
    """Whether another node changes what attention gives (core's NAGuidance): such nodes act where positive and negative are in
    one batch."""
    return any(name.endswith("output_patch") for name in model_options.get("transformer_options", {}).get("patches", {}))


class CompiledApart(TorchFunctionMode):
    """Does nothing, but that code compiled while it is on is not used while it is off, and the other way round.

    TorchCompileModel drops every guard on transformer_options, so code traced with our override in it would also be run
    without (and fail), and code traced without it would never call it.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class RecordedApart(CompiledApart):
    """As CompiledApart, for calls that are recorded: code traced without a record would note nothing."""


def _own_compilation(transformer_options: dict[str, Any], is_recorded: bool) -> AbstractContextManager[Any]:
    """CompiledApart where ComfyUI compiles the model (comfy_api/torch_helpers/torch_compile.py), else nothing at all."""
    is_compiled = COMPILE_KEY in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})
    return nullcontext() if not is_compiled else RecordedApart() if is_recorded else CompiledApart()


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
        raise RuntimeError("VSF: remove the node that replaces the model's forward (TeaCache and similar packs do), or bypass "
                           f"the VSF node. Expected the attention of {type(base_model).__name__} to pass through ComfyUI's "
                           "attention override, found not one call in this step.")


def _copied(control: Any) -> Any:
    """What a ControlNet has made, for a call of the model, which takes it out of its lists (openaimodel.py, apply_control)."""
    return control and {name: list(own) if isinstance(own, list) else own for name, own in control.items()}


def _check_blocks(named: Sequence[Blocks | None], count: Count) -> None:
    """Raise for blocks that the model does not have."""
    most = max((number for blocks in named if blocks for number in blocks.numbers), default=0)
    if most >= count.blocks:
        raise RuntimeError(f"VSF: set `blocks` to numbers from 0 to {count.blocks - 1}. Expected blocks that this model has, "
                           f"found {most}.")


def _check_run(run: Run) -> None:
    """After a run: say so if nothing happened in it."""
    if run.steps_seen and not run.tagged:
        log.warning("VSF: had no effect: in none of the sampler's %d steps is it on (start_percent and end_percent, curve).",
                    run.steps_seen)
