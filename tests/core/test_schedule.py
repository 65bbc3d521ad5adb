"""Curves of a negative's strength: their texts, and their values by noise level; blocks and their texts."""
import functools
import math

import comfy.model_sampling
import pytest
import times
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vsf_pack.vsf_core.schedule import SHAPES, Blocks, Curve, by_sigma, read_blocks, read_curve


@pytest.mark.parametrize(("text", "values"), [  # at 0, 0.25, 0.5, 0.75, 1
    ("constant", (1, 1, 1, 1, 1)), ("", (1, 1, 1, 1, 1)), ("fade out", (1, 0.75, 0.5, 0.25, 0)),
    ("fade in", (0, 0.25, 0.5, 0.75, 1)), ("bump", (0, 0.5, 1, 0.5, 0)), ("  Fade_Out ", (1, 0.75, 0.5, 0.25, 0)),
    ("0:1, 0.5:1, 1:0", (1, 1, 1, 0.5, 0)), ("0.25:2,.75:1e-1,", (2, 2, 1.05, 0.1, 0.1)), ("0.5 : 3", (3, 3, 3, 3, 3)),
])
def test_texts(text, values):
    curve = read_curve(text)
    assert [curve.at(t / 4) for t in range(5)] == pytest.approx(values)
    assert curve.highest == max(f for _, f in curve.points)
    assert curve.constant == (values[0] if len(set(values)) == 1 else None)


@pytest.mark.parametrize(("text", "found"), [
    ("fade", '"fade"'), ("0:1,,1:0", '""'), ("0:1; 1:0", '"0:1; 1:0"'), ("0:11", '"0:11"'), ("1.5:1", '"1.5:1"'),
    ("0:1, 0.5:-1", '"0.5:-1"'), ("0:nan", '"0:nan"'), ("0:1, 0.5", '"0.5"'), ("0:inf", '"0:inf"'),
    ("0.5:1, 0.5:0", '"0.5:0" behind "0.5:1", which is not later'), (None, "NoneType"), (3, "int"),
])
def test_texts_that_are_none(text, found):
    with pytest.raises(ValueError) as error:
        read_curve(text)
    assert str(error.value).startswith("VSF: set `curve` to constant, fade out, ")
    assert str(error.value).endswith(f"found {found}.")


@pytest.mark.parametrize(("text", "rests"), [("constant", False), ("fade out", False), ("fade in", True), ("bump", True),
                                             ("0:1, 0.5:0, 1:1", True), ("0.5:0, 1:1", True), ("1:0", True),
                                             ("0:1, 0.5:0", True)])
def test_whether_a_step_may_be_off(text, rests):
    assert read_curve(text).rests is rests


@functools.cache
def samplings() -> dict[str, object]:
    flow = {f"flow, shift {shift:g}": comfy.model_sampling.ModelSamplingDiscreteFlow() for shift in (1.0, 3.0, 12.0)}
    for name, sampling in flow.items():
        sampling.set_parameters(shift=float(name.split()[-1]))
    return {**flow, "Flux": comfy.model_sampling.ModelSamplingFlux(), "eps": comfy.model_sampling.ModelSamplingDiscrete(),
            "EDM": comfy.model_sampling.ModelSamplingContinuousEDM(), "Cascade": comfy.model_sampling.StableCascadeSampling()}


@pytest.mark.parametrize("name", samplings())
def test_by_noise_level(name):
    """Between the table's levels too, for every kind of model sampling; at a curve's points exactly."""
    sampling = samplings()[name]
    curve = read_curve("0:1, 0.3:0.2, 0.71:0.9, 1:0")
    by_level = by_sigma(curve, sampling.percent_to_sigma)
    tolerance = 2e-3 if name == "eps" else 2e-4
    for time in torch.linspace(0.03, 0.97, 48).tolist():
        sigma = torch.tensor(float(sampling.percent_to_sigma(time)))
        assert float(by_level.at(sigma)) == pytest.approx(curve.at(times.time_of(float(sigma), sampling)), abs=tolerance)
    for time, factor in curve.points[1:-1]:
        assert float(by_level.at(torch.tensor(float(sampling.percent_to_sigma(time))))) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("name", samplings())
@pytest.mark.parametrize("shape", SHAPES)
def test_the_ends_are_exact(name, shape):
    """At the first noise level, beyond it, and at none."""
    sampling = samplings()[name]
    curve = read_curve(shape)
    by_level = by_sigma(curve, sampling.percent_to_sigma)
    highest = torch.as_tensor(sampling.sigma_max).float()
    for sigma, factor in ((highest, curve.at(0.0)), (highest * 2, curve.at(0.0)), (torch.tensor(0.0), curve.at(1.0))):
        assert float(by_level.at(sigma)) == factor


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=6, unique_by=lambda p: p[0]))
def test_any_points(points):
    """A text of a curve's points is that curve; between two of them its factor is between theirs."""
    points = tuple(sorted(points))
    curve = Curve(points)
    assert read_curve(", ".join(f"{t!r}:{f!r}" for t, f in points)) == curve
    for (t0, f0), (t1, f1) in zip(points, points[1:], strict=False):
        assert min(f0, f1) - 1e-9 <= curve.at((t0 + t1) / 2) <= max(f0, f1) + 1e-9
        assert math.isclose(curve.at(t0), f0) and math.isclose(curve.at(t1), f1)


@pytest.mark.parametrize(("text", "found"), [("", None), (" All ", None), ("first third", Blocks(0)),
                                             ("Middle  third", Blocks(1)),
                                             ("0-2, 8", Blocks(numbers=frozenset({0, 1, 2, 8}))),
                                             ("3", Blocks(numbers=frozenset({3})))])
def test_texts_of_blocks(text, found):
    assert read_blocks(text) == found


@pytest.mark.parametrize(("text", "found"), [("second third", '"second third"'), ("5-2", '"5-2"'), ("1,,2", '""'),
                                             ("-1", '"-1"'), (3, "int"), ("1.5", '"1.5"')])
def test_texts_that_are_no_blocks(text, found):
    with pytest.raises(ValueError) as error:
        read_blocks(text)
    assert str(error.value) == ("VSF: leave `blocks` empty for all, or set it to first third, middle third, last third, or to "
                                f"numbers such as 0-5, 8. Expected blocks, found {found}.")


@pytest.mark.parametrize("total", [1, 2, 3, 19, 57])
def test_thirds_are_all_blocks_once(total):
    numbers = [n for third in range(3) for n in sorted(Blocks(third).of(total))]
    assert numbers == list(range(total))


def test_numbers_are_what_they_are():
    numbers = frozenset({0, 3, 8})
    assert Blocks(numbers=numbers).of(5) == numbers


def test_a_curve_moves_whole():
    by_level = by_sigma(read_curve("fade out"), samplings()["Flux"].percent_to_sigma)
    moved = by_level.to(torch.device("meta"))
    assert (moved.levels.device.type, moved.factors.device.type) == ("meta", "meta")
    assert all(map(torch.equal, by_level.to(torch.device("cpu")), by_level))


@pytest.mark.parametrize("name", samplings())
def test_the_levels_are_those_that_steps_reach(name):
    """percent_to_sigma gives others at 0 and 1 themselves: a level beyond all, and none."""
    sampling = samplings()[name]
    levels = by_sigma(read_curve("bump"), sampling.percent_to_sigma).levels
    assert 0 < levels[0] < levels[-1] <= torch.as_tensor(sampling.sigma_max).float()
    assert levels.dtype == torch.float32 and (levels.diff() > 0).all()
