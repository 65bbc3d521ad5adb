"""Negatives that are read in the prompt's context (vsf_core/contrast.py): the prompt once more, with the negative behind it."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.schedule import Blocks, Curve
from ..conditioning import CARRIED
from .conditioning import MASKED_BY, WORDS, negative_prompts
from .lines import joined
from .masks import EVERYWHERE, Region
from .tokens import Tokens, known_rows, real_rows, real_rows_of_others, tokenize

TEXT_ROWS = "cross_attn"
"""The name that ComfyUI gives to a CONDITIONING's own tensor among its options (comfy/sampler_helpers.py, convert_cond)."""

Words = dict[str, Tensor]
"""Which rows of a conditioning are words, (rows,) bool: of its own tensor (TEXT_ROWS) and of options that are a conditioning
too, by their name. Where a name is missing, all of them."""

MAX_STRENGTH = 3.0


@dataclass(frozen=True)
class ContextPrompt:
    """A prompt with what must not be in the picture behind it, and its settings. tokens: (1 or B, LN, C); own: its words.

    options: the rest of its CONDITIONING entry. prompt: (1, LP, C), the prompt that it is the context of, as it comes from its
    text encoder, and words: its words; None for whichever positive prompt is sampled. node, curve, blocks, region, told, name:
    as in NegativePrompt; carried: as there, so that it is of no other one with the same text.
    """
    tokens: Tensor
    strength: float = 0.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    own: Words = field(default_factory=dict)
    prompt: Tensor | None = None
    words: Words = field(default_factory=dict)
    node: str | None = None
    told: str = ""
    curve: Curve | None = None
    blocks: Blocks | None = None
    name: str = ""
    carried: bool = False
    region: Region = EVERYWHERE

    def belongs_to(self, positive: dict[str, Any]) -> bool:
        """Whether an entry of a run's conditionings holds the prompt that this is the context of, once or in each row of a
        batch; with other rows behind it or not (Concat, a style model's)."""
        if self.carried and not any(n is self for n in positive.get(CARRIED, ())):
            return False
        rows = positive.get(TEXT_ROWS)
        if self.prompt is None or not isinstance(rows, Tensor) or rows.shape[-1] != self.prompt.shape[-1]:
            return self.prompt is None
        own = rows[:, :self.prompt.shape[1]]
        return own.shape[1] == self.prompt.shape[1] and torch.equal(own.to(self.prompt), self.prompt.expand_as(own))

    def words_of(self, positive: dict[str, Any]) -> Words:
        """Which rows of that entry are words: those that this is the other text of. Raises ValueError, for the user to read,
        where the prompt's words do not count alike."""
        if self.prompt is not None:
            return {TEXT_ROWS: torch.ones(self.prompt.shape[1], dtype=torch.bool), **self.words}
        mask = positive.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim > 2:
            raise ValueError("VSF: use VSF Prompt, before Apply Style Model, in place of VSF Contrast. Expected words that "
                             "count alike, found an attention bias on the prompt.")
        return known_words(positive[TEXT_ROWS], positive)


def known_words(rows: Tensor, options: dict[str, Any]) -> Words:
    """The words of a conditioning, (B, L, C), as far as it tells by itself."""
    known = None if WORDS in options else known_rows(rows, options)
    words = {} if known is None else {TEXT_ROWS: known}
    for name, mask in MASKED_BY.items():
        if name in options and mask in options:
            words[name] = options[mask].ne(0).any(dim=0).cpu()
    return words


def context_prompts(conditioning: list[tuple[Tensor, dict[str, Any]]], strength: float, start_percent: float,
                    end_percent: float, node: str | None = None, region: Region = EVERYWHERE) -> list[ContextPrompt]:
    """A context for each entry of a CONDITIONING that holds the prompt with a negative behind it; the entry's own strength,
    time range, area and mask act as in a negative. Raises ValueError, for the user to read, for conditioning that cannot be
    used."""
    if not isinstance(conditioning, list | tuple) or not conditioning:
        negative_prompts(conditioning, 1.0, 0.0, 0.0, 1.0, of="context")  # says what is wrong
    return [ContextPrompt(entry[0], strength * n.scale, n.start_percent, n.end_percent, entry[1], known_words(*entry[:2]),
                          node=node, region=n.region)
            for entry in conditioning
            for n in negative_prompts([entry], 1.0, 0.0, start_percent, end_percent, padded=False, node=node, region=region,
                                      of="context")]


def in_context(clip: Any, prompt: str, negatives: list[tuple[str, float]],
               node: str | None = None, told: str = "",
               region: Region = EVERYWHERE) -> tuple[list[Any], list[ContextPrompt]]:
    """The CONDITIONING of a prompt, as CLIP Text Encode makes it, and a context for each negative, a text and its strength,
    entry by entry (an entry for each part of a schedule of CLIP hooks).

    Words alone travel where the text encoder is known, else whole rows, of the prompt and its contexts alike: were there
    padding on one side only, it would count as what the negative adds. A negative that no longer fits into the prompt's last
    section of a CLIP encoder (75 tokens) stands in a section of its own, which has read none of the others.
    """
    tokens = clip.tokenize(prompt)
    positive = clip.encode_from_tokens_scheduled(tokens)
    contexts = []
    for negative, strength in negatives:
        more = tokenize(clip, joined(prompt, negative))
        for (rows, options), (text, others) in zip(positive, clip.encode_from_tokens_scheduled(more), strict=True):
            words, own = words_from(clip, tokens, rows, options), words_from(clip, more, text, others)
            if TEXT_ROWS not in words or TEXT_ROWS not in own:
                words = own = {}
            start, end = others.get("clip_start_percent", 0.0), others.get("clip_end_percent", 1.0)
            contexts.append(ContextPrompt(text, strength, start, end, others, own, rows, words, node, told,
                                          name=negative, region=region))
    return positive, contexts


def words_from(clip: Any, tokens: Tokens, rows: Tensor, options: dict[str, Any]) -> Words:
    """The words of what a text encoder made of `tokens`; without TEXT_ROWS where they are not known."""
    real = real_rows(clip, tokens, rows, options)
    others = real_rows_of_others(clip, tokens, options)
    return others if real is None else {TEXT_ROWS: real, **others}
