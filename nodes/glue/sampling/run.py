"""One sampling run: its positive prompts, the negatives that act on them, and how these travel with ComfyUI's conditionings."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.conds
import comfy.utils
import torch
from torch import Tensor

from ....vsf_core.schedule import NOTHING, SigmaCurve, SigmaWindow
from ..attention.regions import RegionsCond, RunRegions
from ..conditioning import CARRIED
from ..families import TEXT, Encoded, Family, Settings, plain_tokens, text_key
from ..families.counting import Count
from ..reading.conditioning import NegativePrompt
from ..reading.contexts import TEXT_ROWS, ContextPrompt, Words
from .seen import Place, Recorder

log = logging.getLogger("vsf")

KEY = "vsf"
MARK = "vsf_positive"
REGIONS = "vsf_regions"

Prompt = NegativePrompt | ContextPrompt


@dataclass(frozen=True, eq=False)
class Positive:
    """One positive prompt of a run. contexts: those of its negatives that are read in its context; words: which of its tokens
    are words, (L,) bool, by the name that Encoded has for them, where contexts need to know; carries: the negatives by the
    paper's rule that it brings with it."""
    contexts: frozenset[int]
    words: dict[str, Tensor]
    carries: frozenset[int] = frozenset()

    def is_like(self, other: Positive) -> bool:
        """Whether two prompts differ in nothing that is told here."""
        return (self.contexts == other.contexts and self.carries == other.carries and self.words.keys() == other.words.keys()
                and all(torch.equal(self.words[k], other.words[k]) for k in self.words))

    def has(self, c: int, negative: Prompt) -> bool:
        """Whether a negative, by its number in the run, acts on it."""
        return c in self.contexts or c in self.carries or (isinstance(negative, NegativePrompt) and not negative.carried)


NOTHING_TOLD = Positive(frozenset(), {})


class PositiveMark(comfy.conds.CONDConstant):
    """A Positive in the model_conds of a run's positive conditionings, and of every copy that other nodes make of them (windows
    of a video, extra passes), until CALC_COND_BATCH takes it out."""
    cond: Positive


@dataclass
class Run:
    """State of one sampling run. negatives: the model's, and those that its conditionings carry; windows, curves, encoded,
    kept: of each; kept: what its family's adapter keeps until the end of the run."""
    negatives: tuple[Prompt, ...]
    windows: list[SigmaWindow]
    curves: list[SigmaCurve | None]
    encoded: list[Encoded]
    kept: list[dict[Any, Any]]
    regions: RunRegions | None = None  # None where all negatives act everywhere
    calls_seen: int = 0  # forwards in which our override was called
    steps_seen: int = 0
    batches: int = 0  # calls of CALC_COND_BATCH
    tagged: int = 0  # positives in them
    acting: set[int] = field(default_factory=set)  # negatives that were in a call of the model in this step
    acted: Counter[int] = field(default_factory=Counter)  # steps, of each negative
    tags: dict[tuple[tuple[int, ...], Positive, int], NegativesCond] = field(default_factory=dict)
    count: Count | None = None  # of the model's blocks, as its forward has shown it
    seen: Recorder | None = None  # where a heat map wants to see it
    like: dict[Any, Tensor] = field(default_factory=dict)  # what was encoded, in the type that the model takes it in

    def acts(self, c: int, sigma: Tensor) -> bool:
        """Whether negative c acts at a noise level, (): in its window, and where its curve is not 0. Waits for the device."""
        curve = self.curves[c]
        return float(sigma) in self.windows[c] and (curve is None or float(curve.at(sigma)) >= NOTHING)


def carried(entries: Sequence[dict[str, Any]]) -> list[Prompt]:
    """The negatives that a run's conditionings carry, each once."""
    return list({id(n): n for entry in entries for n in entry.get(CARRIED, ())}.values())


def run_regions(negatives: Sequence[Prompt], noise: Tensor, entries: Sequence[dict[str, Any]]) -> RunRegions | None:
    """The regions of a run's negatives over its latent; None where all act everywhere. noise: of the sampler, (B, C, ...).
    Raises ValueError, for the user to read, for masks that the latent cannot have."""
    masked = [c for c, n in enumerate(negatives) if not n.region.is_everywhere]
    if not masked:
        return None
    shapes = next((e["model_conds"]["latent_shapes"].cond for e in entries if "latent_shapes" in e["model_conds"]), ())
    sizes = tuple((shapes[0] if len(shapes) > 1 else noise.shape)[2:])
    over = [negatives[c].region.over(sizes, len(noise)) for c in masked]
    rows = max(map(len, over))
    return RunRegions(torch.stack([m.expand(rows, *sizes) for m in over], dim=1), {c: i for i, c in enumerate(masked)})


def mark_positives(entries: Sequence[dict[str, Any]], negatives: Sequence[Prompt], encoded: Sequence[Encoded], family: Family,
                   base_model: Any, regions: RunRegions | None = None) -> list[Positive]:
    """Mark the positive conditionings of a run, and give them its regions; what each of them is. Raises ValueError, for the
    user to read, where the prompt of a context is not among them.

    An entry that ComfyUI made as another's partner (create_cond_with_same_area_if_none, comfy/samplers.py) has that one's
    options and a positive's model_conds: only the text in these tells whose it is. It comes after the positive.
    """
    by_text: dict[int, Positive] = {}
    lost = [n for n in negatives if isinstance(n, ContextPrompt) and n.prompt is not None]
    for entry in entries:
        text = id(entry["model_conds"].get(text_key(family)))
        if text not in by_text:
            lost = [n for n in lost if not n.belongs_to(entry)]
            positive = _positive(entry, negatives, encoded, family, base_model)
            by_text[text] = next((p for p in by_text.values() if p.is_like(positive)), positive)
        own = {MARK: PositiveMark(by_text[text]), **({} if regions is None else {REGIONS: RegionsCond(regions.m)})}
        entry["model_conds"] = {**entry["model_conds"], **own}
    if any(n.carried for n in lost):
        raise ValueError("VSF: put VSF Conditioning behind the nodes that change a prompt's text (Average, another prompt's "
                         "Concat). Expected the text that its negatives are to, found another one.")
    if lost and any(p.contexts for p in by_text.values()):
        raise ValueError("VSF: branch the model before each VSF Prompt whose prompt is sampled apart. Expected among the "
                         "positive prompts each one that the model has negatives of, found that one is missing.")
    if lost:
        raise ValueError("VSF: connect the `positive` output of VSF Prompt to the sampler; nodes that change its text "
                         "(Average, another prompt's Concat) cannot stand between. Expected its prompt among the positive "
                         f"ones ({len(by_text)}), found others only.")
    return list(by_text.values())


def remarks(entries: Sequence[dict[str, Any]], negatives: Sequence[Prompt], positives: Sequence[Positive],
            family: Family) -> list[str]:
    """Of each negative, what its user has to know of a run's positive prompts; "" for nothing."""
    without = sum(p is NOTHING_TOLD for p in positives)
    found = []
    for n in negatives:
        remark = ""
        if isinstance(n, ContextPrompt) and n.prompt is not None and not n.carried and without:
            remark = f"{without} of {len(positives)} positive prompts have no negative of VSF Prompt"
        elif isinstance(n, ContextPrompt) and n.prompt is None and _differ(entries, family):
            remark = ("use VSF Prompt for each positive prompt: there are several, and `context` is set against all of them, "
                      "those that it does not repeat too")
        found.append(remark)
    return found


def _differ(entries: Sequence[dict[str, Any]], family: Family) -> bool:
    """Whether a run has positive prompts of several texts at one time (a schedule of CLIP hooks has one after the other).
    Partners are passed over, as in `mark_positives`."""
    of_text = {id(e["model_conds"].get(text_key(family))): e for e in reversed(entries)}
    first: dict[Any, Tensor] = {}
    rows = [(e.get("clip_start_percent"), e[TEXT_ROWS]) for e in of_text.values() if isinstance(e.get(TEXT_ROWS), Tensor)]
    return any(not torch.equal(first.setdefault(start, r).to(r), r) for start, r in rows)


def _positive(entry: dict[str, Any], negatives: Sequence[Prompt], encoded: Sequence[Encoded], family: Family,
              base_model: Any) -> Positive:
    contexts = {c: n.words_of(entry) for c, n in enumerate(negatives)
                if isinstance(n, ContextPrompt) and TEXT_ROWS in entry and n.belongs_to(entry)}
    carries = frozenset(c for c, n in enumerate(negatives) if isinstance(n, NegativePrompt) and n.carried
                        and any(n is own for own in entry.get(CARRIED, ())))
    if not contexts:
        return Positive(frozenset(), {}, carries) if carries else NOTHING_TOLD
    words = next(iter(contexts.values()))
    if any(w.keys() != words.keys() or not all(torch.equal(w[k], words[k]) for k in w) for w in contexts.values()):
        raise ValueError("VSF: use VSF Prompt for all negatives of a prompt, or VSF Contrast for all. Expected them to agree "
                         "on which tokens of the prompt are words, found that they do not.")
    alone = encoded_words(ContextPrompt(entry[TEXT_ROWS], options=entry, own=words), family, base_model)
    acting = frozenset(c for c in contexts if not _same(encoded[c], alone))
    text = entry["model_conds"].get(text_key(family))
    return Positive(acting, _in_the_model(entry, words, family, None if text is None else text.cond), carries)


def encoded_words(prompt: Prompt, family: Family, base_model: Any) -> Encoded:
    """A negative as its model takes it. Of a context, its words: the model has read them with all that stands about them, as
    it reads the prompt."""
    encoded = getattr(family, "encode", plain_tokens)(base_model, prompt)
    if isinstance(prompt, ContextPrompt):
        for name, (option, _) in _options(family, prompt.options).items():
            if option in prompt.own and name in encoded:
                rows = prompt.own[option].nonzero().flatten()
                encoded[name] = encoded[name].index_select(-2, rows[rows < encoded[name].shape[-2]].to(encoded[name].device))
    return encoded


def _options(family: Family, options: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """For each name in Encoded, the option of a conditioning that it is made of, and its axis of tokens."""
    of = {name: own for name, own in getattr(family, "WORDS_OF", {}).items() if isinstance(options.get(own[0]), Tensor)}
    return {TEXT: (TEXT_ROWS, -2), **of}


def _same(a: Encoded, b: Encoded) -> bool:
    """Whether a context is its prompt once more: then it is off, exactly."""
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k].to(a[k])) for k in a)


def _in_the_model(entry: dict[str, Any], words: Words, family: Family, text: Tensor | None) -> dict[str, Tensor]:
    """Which tokens of a prompt are words, by the name that Encoded has for them. text: (B, L, C), as the model gets it. What a
    model puts behind a prompt, or before it (Flux.2), is none."""
    found = {}
    for name, (option, axis) in _options(family, entry).items():
        length = entry[option].shape[axis]
        found[name] = words.get(option, torch.ones(length, dtype=torch.bool))
        if text is None or name != TEXT or (before := text.shape[1] - length) <= 0:
            continue
        own = text[:, before:]
        if own.shape == entry[option].shape and torch.equal(own, entry[option].to(own)):
            found[name] = torch.cat([torch.zeros(before, dtype=torch.bool), found[name]])
    return found


@dataclass(frozen=True)
class ActiveNegatives:
    """The negatives that act in one call of the model, by their numbers in the run. encoded: of each, with one row for all the
    call's, or a row for each; kept: of each, as in Run; acting: whether they act on a row of the call, of each row as ComfyUI
    has batched them; places: where in the picture each of the conditionings in the batch is, if that is recorded."""
    run: Run
    positive: Positive
    numbers: tuple[int, ...]
    settings: Settings
    encoded: list[Encoded]
    kept: list[dict[Any, Any]]
    acting: tuple[bool, ...] = (True,)
    places: tuple[Place, ...] = ()

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
        return [{k: self._like(c, k, t, like).expand(rows, *t.shape[1:]) for k, t in e.items()}
                for c, e in zip(self.numbers, self.encoded, strict=True)]

    def _like(self, c: int, name: str, t: Tensor, like: Tensor) -> Tensor:
        """On the device and in the type of `like`; whole numbers stay whole numbers. What the run has, once a run."""
        dtype = like.dtype if t.is_floating_point() else t.dtype
        if self.run.encoded[c].get(name) is not t:  # a row for each of the call's
            return t.to(like.device, dtype)
        key = (c, name, like.device, dtype)
        if key not in self.run.like:
            self.run.like[key] = t.to(like.device, dtype)
        return self.run.like[key]

    def acting_places(self) -> tuple[Place, ...]:
        """The places of those conditionings that negatives act on."""
        rows = max(len(self.acting) // max(len(self.places), 1), 1)
        return tuple(place for i, place in enumerate(self.places) if self.acting[i * rows])

    def for_which(self, rows: int) -> tuple[bool, ...] | None:
        """Of each of the call's rows, whether negatives act on it; None for all.

        Raises RuntimeError, for the user to read, where that cannot be known.
        """
        if all(self.acting):
            return None
        if len(self.acting) != rows:
            raise RuntimeError("VSF: remove the node that changes attention (Normalized Attention Guidance, ...), or the one "
                               f"that calls the model with tiles or single pictures. Expected {len(self.acting)} pictures in "
                               f"this call, with prompt and negative prompt in one batch, found {rows}.")
        return self.acting


def one_for_all(tensor: Tensor) -> Tensor:
    """One row where all are the same: then it fits however many rows a call has."""
    return tensor[:1] if (tensor == tensor[:1]).all() else tensor


class NegativesCond(comfy.conds.CONDRegular):
    """Carries ActiveNegatives in a conditioning's model_conds, as ComfyUI carries its own inputs.

    Its key is on positive conditionings only, so that ComfyUI does not put them into one batch with others, unless another node
    needs that (`VSFPatch.calc_cond_batch`).
    """
    cond: ActiveNegatives

    def process_cond(self, batch_size: int, **kwargs: Any) -> NegativesCond:
        active = self.cond.map(lambda t: t if len(t) == 1 else comfy.utils.repeat_to_batch_size(t, batch_size))
        return self._copy_with(replace(active, acting=self.cond.acting * batch_size))

    def can_concat(self, other: NegativesCond) -> bool:
        return self.cond.settings is other.cond.settings

    # ComfyUI hands on what it gives, of whatever type
    def concat(self, others: list[NegativesCond]) -> ActiveNegatives:  # pyright: ignore[reportIncompatibleMethodOverride]
        # every chunk of the batch has the same negatives: can_concat saw to that
        chunks, acting = 1 + len(others), sum((other.cond.acting for other in others), self.cond.acting)
        return replace(self.cond.map(lambda t: t if len(t) == 1 else t.repeat(chunks, *[1] * (t.ndim - 1))), acting=acting,
                       places=sum((other.cond.places for other in others), self.cond.places))

    def size(self) -> list[int]:
        batch, _, width = self.cond.encoded[0][TEXT].shape
        return [batch, sum(e[TEXT].shape[1] for e in self.cond.encoded), width]
