"""Every model family at toy size: how to build it in its own BaseModel, and what the reference must know of it.

A module here holds the cases of some families in its list CASES. Tests run over ALL.
"""
from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import comfyui_version
import pytest
import reference
import tiny
import torch
from comfy.nested_tensor import NestedTensor
from vsf_pack.nodes.glue.reading import made
from vsf_pack.nodes.glue.reading.conditioning import WORDS

VERSION = tuple(int(part) for part in comfyui_version.__version__.split(".")[:3])
SETTINGS = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Case:
    """One model at toy size.

    config: class in comfy.supported_models, by its name, or one of ours in the place of it; unet_config: what ComfyUI's model
    detection would have found.
    latent: (C, ...) of one sample, or of each of its parts (video and audio); width: of its text. options(length, seed): the
    rest of a conditioning entry for a text of `length` tokens. positions: whether the model gives the negative's tokens
    positions, so that their order matters.
    mutants: names of reference.MUTANTS that mean nothing here (a cross-attention's negative sees nothing).
    state: what the BaseModel itself reads of a checkpoint, beside the diffusion model's weights.
    since: the first ComfyUI in which the case can be run, where that is not the first that has the model.
    most: samples that the model takes at once, None for any number; no more than that are sampled.
    newer: the model came after the newest ComfyUI that dev.py runs the tests on (docs/newer-comfyui.md).

    For context_reference.py:
    branches: lengthen and kinds of its own, where those of the paper's reference say nothing without a negative.
    refines_apart: the text's refiner reads each prompt with its own padding.
    of_the_prompt: modules that read the prompt alone (they pool its text), or take each row of a batch for another's.
    words: how many of so many tokens may be words, where another node's follow them; padded: some may be none.
    no_branches: why texts cannot be rows of one batch.
    """
    name: str
    config: str | type
    unet_config: dict[str, Any]
    latent: tuple[int, ...] | tuple[tuple[int, ...], ...]
    width: int
    options: Callable[[int, int], dict[str, Any]] = lambda length, seed: {}
    lengthen: Callable[[reference.RefCall], None] = reference.append_text
    kinds: reference.Kinds = reference.joint
    positions: bool = False
    no_mutants: frozenset[str] = frozenset({"a text refiner mixes prompt and negative"})
    weight_scale: float = 0.8
    setup: Callable[[Any], None] = field(default=lambda base_model: None)
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    since: tuple[int, int, int] = (0, 0, 0)
    most: int | None = None
    newer: bool = False
    branches: tuple[Callable[[reference.RefCall], None], reference.Kinds] | None = None
    refines_apart: bool = False
    of_the_prompt: tuple[str, ...] = ()
    words: Callable[[int], int] = lambda length: length
    padded: bool = True
    no_branches: str | None = None

    @property
    def told(self) -> tuple[Any, ...]:
        """What the references are told of the model, apart from its texts: alike in cases that differ in sizes and options."""
        return (self.lengthen, self.kinds, self.positions, self.no_mutants, self.branches, self.refines_apart,
                self.of_the_prompt, self.padded)

    @property
    def stands_in(self) -> bool:
        """Whether this is a model of ours in the place of one that not every ComfyUI under test has."""
        return isinstance(self.config, type)

    @property
    def exists(self) -> bool:
        """Whether the ComfyUI under test has this model."""
        return self.stands_in or hasattr(comfy.supported_models, self.config) and self.since <= VERSION

    @property
    def config_class(self) -> type:
        """The class in comfy.supported_models, or in its place."""
        return self.config if self.stands_in else getattr(comfy.supported_models, self.config)

    def conditioning(self, length: int, seed: int, **more: Any) -> list:
        """A CONDITIONING of random tokens. Text encoders always give a pooled_output, if only None.

        With WORDS, what VSF Text Encode gives, which it remembers (nodes/glue/reading/made.py).
        """
        options = {"pooled_output": None, **self.options(length, seed), **more}
        tokens = tiny.tokens(length, seed, width=self.width)
        if WORDS in options:
            made.remember(tokens, words=options[WORDS] > 0)
        return [[tokens, options]]

    def negative(self, length: int, seed: int, **settings: Any) -> reference.RefNegative:
        """The reference's negative of the same random tokens."""
        return reference.RefNegative(tiny.tokens(length, seed, width=self.width), options=self.options(length, seed),
                                     **settings)

    def reference(self, *negatives: reference.RefNegative, rules: reference.Rules = reference.TRUTH):
        """This model in float64 with the reference in it."""
        return reference.patch(load(self.name, torch.float64), *negatives, lengthen=self.lengthen, kinds=self.kinds,
                               rules=rules)

    def sample(self, model: Any, positive: list, negative: list | None = None, *, cfg: float = 1.0, batch: int = 1,
               steps: int = 2, seed: int = 0, callback: Callable[..., None] | None = None) -> torch.Tensor:
        """ComfyUI's own sampler: 2 steps of Euler from noise."""
        g = torch.Generator().manual_seed(seed)
        shapes = self.latent if isinstance(self.latent[0], tuple) else (self.latent,)
        parts = [torch.randn(min(batch, self.most or batch), *shape, generator=g) for shape in shapes]
        noise = parts[0] if len(parts) == 1 else NestedTensor(parts)
        negative = self.conditioning(3, 999) if negative is None else negative
        with torch.inference_mode():  # as ComfyUI's executor (execution.py); Anima's extra_conds ask for it
            out = comfy.sample.sample(model, noise, steps, cfg, "euler", "simple", positive, negative, noise * 0,
                                      disable_pbar=True, seed=seed, callback=callback)
        return torch.cat([t.flatten(1) for t in out.unbind()], dim=1) if len(parts) > 1 else out


NO_TEXT_QUERIES = frozenset(reference.MUTANTS) - {"sign of the values", "beta forgotten",
                                                  "the image sees the unflipped negative"}
"""Mutants that mean nothing in cross-attention, where text does not ask."""


def build(case: Case, dtype: torch.dtype) -> Any:
    """A ModelPatcher around ComfyUI's BaseModel of this case, with seeded random weights. Skips the test that asks for a model
    that this ComfyUI does not have."""
    if not case.exists:
        pytest.skip(f"ComfyUI {comfyui_version.__version__} has no such model")
    config = case.config_class(dict(case.unet_config))
    config.unet_config.update(case.unet_config)  # over the full size's numbers that some classes bring
    config.set_inference_dtype(dtype, None)
    config.custom_operations = comfy.ops.disable_weight_init
    with torch.no_grad():  # Stable_Zero123 copies into its weights
        base_model = config.get_model(dict(case.state), "")
    tiny.randomise(base_model.diffusion_model, case.weight_scale)
    case.setup(base_model)
    base_model.diffusion_model.eval().requires_grad_(False)
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(base_model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


@functools.lru_cache(maxsize=4)  # those of one case and the next
def load(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a case, built once."""
    return build(BY_NAME[name], dtype)


FILES: dict[str, list[Case]] = {module.name: importlib.import_module(f"{__name__}.{module.name}").CASES
                                for module in pkgutil.iter_modules(__path__)} if __name__ == "cases" else {}
ALL: list[Case] = [case for own in FILES.values() for case in own]
BY_NAME = {case.name: case for case in ALL}
