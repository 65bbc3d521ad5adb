"""Contexts of a case's prompt, and ComfyUI's sampler with them: for the tests of the context rule in every family."""
from __future__ import annotations

from typing import Any

import cases
import comfy.samplers
import pytest
import tiny
import torch
from cases import Case
from comfy.nested_tensor import NestedTensor
from vsf_pack.nodes.glue.reading.contexts import TEXT_ROWS, ContextPrompt, known_words
from vsf_pack.nodes.glue.sampling.patch import attach

POSITIVE, PADDING = 7, 2
TEXT_OPTIONS = ("conditioning_llama3", "conditioning_mt5xl", "t5xxl_ids", "t5xxl_weights", "text_input_ids")
"""Options of a conditioning that are texts too; all others of a context are those of its prompt."""
AXES = {"t5xxl_ids": -1, "t5xxl_weights": -1, "text_input_ids": -1}


def words_of(case: Case, form: str) -> dict[str, torch.Tensor]:
    """Which tokens of the prompt are words, by the option that holds them; by the form "words", the last ones are not."""
    rows, options = case.conditioning(POSITIVE, 1)[0]
    words = {name: torch.ones(options[name].shape[AXES.get(name, -2)], dtype=torch.bool)
             for name in TEXT_OPTIONS if name in options}
    words |= {TEXT_ROWS: torch.ones(rows.shape[1], dtype=torch.bool), **known_words(rows, options)}
    for own in words.values():
        own[case.words(len(own)):] = False
        if form == "words" and case.padded:
            own[len(own) - PADDING:] = False
    return words


def context_of(case: Case, seed: int, words: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Another text of the prompt's length, with other words in the place of its words."""
    rows, options = case.conditioning(POSITIVE, 1)[0]
    other, others = tiny.tokens(POSITIVE, seed, width=case.width), case.options(POSITIVE, seed)
    mixed = {name: mix(options[name], others[name], words[name], AXES.get(name, -2))
             for name in TEXT_OPTIONS if name in options}
    return mix(rows, other, words[TEXT_ROWS], -2), {**options, **mixed}


def mix(own: torch.Tensor, other: torch.Tensor, words: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.where(words.reshape(-1, *[1] * (-1 - dim)), other, own)


def given(case: Case, words: dict[str, torch.Tensor], rows: torch.Tensor, options: dict[str, Any], strength: float = 1.0,
          **window: float) -> ContextPrompt:
    """A context as VSF Prompt gives it: text with the words of the sampled prompt."""
    prompt = case.conditioning(POSITIVE, 1)[0][0]
    return ContextPrompt(rows, strength, options=options, own=words, prompt=prompt, words=words, **window)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def sample(case: Case, guider: comfy.samplers.CFGGuider, batch: int) -> torch.Tensor:
    """Two steps of ComfyUI's Euler: from noise alone or nearly so, and from noise and picture alike, where pushes fade."""
    g = torch.Generator().manual_seed(0)
    shapes = case.latent if isinstance(case.latent[0], tuple) else (case.latent,)
    parts = [torch.randn(min(batch, case.most or batch), *shape, generator=g) for shape in shapes]
    noise = parts[0] if len(parts) == 1 else NestedTensor(parts)
    sampling = guider.model_patcher.get_model_object("model_sampling")
    one = torch.ones(1)
    is_flow = sampling.noise_scaling(0.5 * one, 0 * one, one.clone()).item() == 0.5
    sigmas = torch.tensor([1.0, 0.5, 0.0] if is_flow else [3.0, 1.0, 0.0])
    with torch.inference_mode():
        out = guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)
    return torch.cat([t.flatten(1) for t in out.unbind()], dim=1) if len(parts) > 1 else out


def sample_pack(case: Case, contexts: list[ContextPrompt], batch: int, cfg: float = 1.0, dtype=torch.float32) -> torch.Tensor:
    model = cases.load(case.name, dtype)
    guider = comfy.samplers.CFGGuider(attach(model, contexts) if contexts else model)
    guider.set_conds(case.conditioning(POSITIVE, 1), case.conditioning(4, 2))
    guider.set_cfg(cfg)
    return sample(case, guider, batch)


def in_branches(case: Case) -> Case:
    if case.no_branches:
        pytest.skip(case.no_branches)
    return case
