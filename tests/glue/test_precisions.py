"""Weights in 8 and 16 bits, and computation in bfloat16: as exact as the model is without a negative."""
from __future__ import annotations

import pytest
import reference
import tiny
import torch
import vsf

POSITIVE = tiny.conditioning(7, 1)
DTYPES = [torch.float8_e4m3fn, torch.bfloat16, torch.float16]


def in_double(model, family: str):
    """The same weights, as they were rounded, in double precision."""
    exact = tiny.load(family, torch.float64)
    exact.model.diffusion_model.load_state_dict(
        {name: p.double() for name, p in model.model.diffusion_model.state_dict().items()})
    return exact


def error(out: torch.Tensor, exact: torch.Tensor) -> float:
    return ((out.double() - exact.double()).norm() / exact.double().norm()).item()


def errors(model, family: str, bias: float) -> tuple[float, float]:
    """Relative errors against double precision: with a negative, and of the plain model."""
    exact = in_double(model, family)
    negative = reference.RefNegative(tiny.tokens(5, 2), 2.0, bias)
    ours = tiny.sample(vsf.guide(model, vsf.negative(), bias=bias), POSITIVE, batch=3)
    return (error(ours, tiny.sample(reference.patch(exact, negative), POSITIVE, batch=3)),
            error(tiny.sample(model, POSITIVE, batch=3), tiny.sample(exact, POSITIVE, batch=3)))


@pytest.mark.parametrize("bias", [0.0, 0.4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_of_fewer_bits(family, dtype, bias):
    model = tiny.load(family, dtype)
    assert next(model.model.diffusion_model.parameters()).dtype == dtype and model.model.manual_cast_dtype == torch.float32
    with_negative, _ = errors(model, family, bias)
    assert with_negative <= 1e-5


@pytest.mark.parametrize("override", [False, True], ids=["log-sum-exp", "no log-sum-exp"])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_computation_in_bfloat16(family, bias, override):
    """The error is at most half as large again as the plain model's own."""
    model = tiny.load(family, torch.bfloat16).clone()
    model.set_model_compute_dtype(torch.bfloat16)
    if override:
        model.model_options["transformer_options"]["optimized_attention_override"] = lambda func, *args, **kw: func(*args, **kw)
    with_negative, plain = errors(model, family, bias)
    assert plain >= 1e-3, "not computed in bfloat16"
    assert with_negative <= 1.5 * plain
