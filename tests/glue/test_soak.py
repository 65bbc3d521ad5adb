"""A long session: sampler runs on seven models, settings and batches in turn, many of them interrupted.

    VSF_SOAK_RUNS=200 python dev.py test tests/glue/test_soak.py -n 0      the long form; without the variable a short one
"""
from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cases
import comfy.model_management
import pytest
import torch
import vsf
from comfy.model_patcher import ModelPatcher
from vsf_pack.nodes.glue.attention import override
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.glue.sampling import patch, run

RUNS = int(os.environ.get("VSF_SOAK_RUNS", "14"))
STEPS = 3
# joint, single-stream, cross, with a refiner patched on the model, numbered and patched, a video's, a sound's
MODELS = ("sd3", "flux1", "sdxl", "hunyuan-video", "z-image", "wan2.1-t2v", "ace-step")
# (scale, bias, start, end) of each negative; CFG; batch
SETTINGS: tuple[tuple[tuple[tuple[float, float, float, float], ...], float, int], ...] = (
    ((), 1.0, 1),
    (((2.0, 0.0, 0.0, 1.0),), 1.0, 1),
    (((2.0, 0.0, 0.0, 1.0),), 3.0, 2),
    (((1.2, 0.4, 0.0, 0.5),), 1.0, 2),
    (((2.0, 0.3, 0.2, 1.0), (1.1, 0.0, 0.0, 1.0)), 3.0, 1),
)
# bytes by which Python's own memory may grow: in all (registries of weak references grow in jumps, of 18 and 36 KiB here), and
# with each run (less than the smallest of OF_A_RUN with its tensors)
ONCE, A_RUN = 131_072, 500
OF_A_RUN = (run.Run, run.PositiveMark, run.NegativesCond, run.ActiveNegatives, patch.ForwardSeen,
            override.VSFAttention)


class Trouble(Exception):
    """What a node or a GPU out of memory would raise."""


def in_the_callback() -> None:
    raise Trouble


def by_the_button() -> None:
    """The flag that ComfyUI's Cancel sets; its operations look at it, here in the next forward."""
    comfy.model_management.interrupt_current_processing()


WAYS = (by_the_button, in_the_callback)


@contextmanager
def an_error_in_the_forward(module_calls: int) -> Iterator[None]:
    """A module of the model raises, after so many others."""
    calls = iter(range(module_calls))

    def count(module: torch.nn.Module, args: tuple) -> None:
        if next(calls, None) is None:
            raise Trouble

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()


def sample(model: Any, case: cases.Case, setting: int, callback: Any = None) -> str:
    """One run, through a node of its own; its result's digest, which keeps no tensor."""
    negatives, cfg, batch = SETTINGS[setting]
    for c, values in enumerate(negatives):
        model = vsf.guide(model, case.conditioning(4 + c, 50 + c, **{WORDS: 4 + c}), *values)
    out = case.sample(model, case.conditioning(7, 1), cfg=cfg, batch=batch, steps=STEPS, callback=callback)
    assert torch.isfinite(out).all()
    return hashlib.sha256(out.numpy().tobytes()).hexdigest()


def interrupted(model: Any, case: cases.Case, setting: int, rng: random.Random) -> None:
    """The same run, which ends before its last step is done."""
    step, way = rng.randrange(STEPS - 1), rng.choice((*WAYS, None))
    try:
        if way is None:
            with an_error_in_the_forward(rng.randrange(60)):
                sample(model, case, setting)
        else:
            sample(model, case, setting, lambda i, *_: way() if i == step else None)
    except (comfy.model_management.InterruptProcessingException, Trouble):
        return
    finally:
        comfy.model_management.interrupt_current_processing(False)
    pytest.fail(f"{case.name}: nothing interrupted the run")


def alive(*kinds: type) -> Counter:
    """Objects of these classes, those that only the garbage collector could free among them."""
    return Counter(type(o).__name__ for o in gc.get_objects() if type(o) in kinds)


def memory() -> tuple[int, Counter]:
    """Bytes of Python's own objects, and the tensors and patchers that are alive, after a collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0], alive(torch.Tensor, torch.nn.Parameter, ModelPatcher, patch.VSFPatch)


@pytest.fixture
def unheard() -> Iterator[None]:
    """pytest keeps every line of the log, which would look like growth."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")  # pytest keeps these too
def test_a_long_session(unheard):
    """Every run that is not interrupted is bit for bit the model's first; nothing of a run is left, though no garbage is
    collected in between; nothing grows."""
    rng = random.Random(0)
    models = {name: cases.build(cases.BY_NAME[name], torch.float32) for name in MODELS if cases.BY_NAME[name].exists}
    first = {(name, setting): sample(model, cases.BY_NAME[name], setting)
             for name, model in models.items() for setting in range(len(SETTINGS))}
    assert len(set(first.values())) == len(first), "two settings give one result"
    for name, model in models.items():
        interrupted(model, cases.BY_NAME[name], 1, rng)
    tracemalloc.start()
    bytes_before, before = memory()
    gc.disable()
    try:
        for number in range(RUNS):
            name, setting = list(models)[number % len(models)], rng.randrange(len(SETTINGS))
            if rng.random() < 0.4:
                interrupted(models[name], cases.BY_NAME[name], setting, rng)
            else:
                assert sample(models[name], cases.BY_NAME[name], setting) == first[name, setting], (number, name, setting)
            assert not alive(*OF_A_RUN), (number, name, setting)
        bytes_after, after = memory()
    finally:
        gc.enable()
        tracemalloc.stop()
    assert after == before
    assert bytes_after - bytes_before <= ONCE + A_RUN * RUNS
