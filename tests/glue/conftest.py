"""Tiny models of each family, loaded once, and the attention backends that run on a CPU."""
from __future__ import annotations

import importlib

import comfy.ldm.modules.attention
import pytest
import tiny
import torch

BACKENDS = ["pytorch", "sub_quad", "split"]


@pytest.fixture(params=tiny.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def model(family):
    return tiny.cached(family)


@pytest.fixture
def model64(family):
    return tiny.cached(family, torch.float64)


@pytest.fixture(params=BACKENDS)
def backend(request, family, monkeypatch) -> str:
    """ComfyUI chooses its attention at start-up and models import it by name: choose another for this test."""
    module = importlib.import_module(tiny.FAMILIES[family].attention_module)
    monkeypatch.setattr(module, "optimized_attention", getattr(comfy.ldm.modules.attention, f"attention_{request.param}"))
    return request.param
