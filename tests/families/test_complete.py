"""Every model that ComfyUI can sample is either supported or refused with a reason, and every name in the two lists is one of
them. Models are found by asking ComfyUI's own classes which diffusion model they would build; none is built."""
from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cases
import comfy.model_base
import comfy.supported_models
import comfyui_version
import pytest
from cases import Case
from comfy.model_base import BaseModel, UNetModel
from vsf_pack.nodes.glue import families
from vsf_pack.nodes.glue.families import FAMILIES, REFUSED, find_family
from vsf_pack.nodes.glue.families.pictures import PICTURES, SOUNDS

TESTED = (0, 30, 0)  # the oldest ComfyUI that has all models named
NEWER = {  # class -> the ComfyUI that brings it, or the first in which it was seen
    "comfy.ldm.minimax_music.dit.MiniMaxMusic3DiT": (0, 33, 0),
    "comfy.ldm.yue2.model.YuE2": (0, 38, 1),
    "comfy.ldm.wan.model_animate2.WanAnimate2Model": (0, 33, 0),
    "comfy.ldm.qwen_image21.model.QwenImage21Transformer2DModel": (0, 37, 0),
}
TIME = {"t", "r", "timestep", "timesteps"}

pytestmark = pytest.mark.skipif(tuple(map(int, comfyui_version.__version__.split(".")[:3])) < TESTED,
                                reason="a ComfyUI from before some of the models")


class Built(Exception):
    """Raised in place of building a diffusion model: its class."""


def diffusion_model(make: Callable[..., Any], *args: Any) -> type:
    """The class that a BaseModel, made so, would have as its diffusion_model."""
    def init(self: Any, model_config: Any, model_type: Any = None, device: Any = None, unet_model: type = UNetModel) -> None:
        raise Built(unet_model)

    with mock.patch.object(BaseModel, "__init__", init), pytest.raises(Built) as built:
        make(*args)
    return built.value.args[0]


def of_config(name: str, unet_config: dict) -> type:
    """The diffusion model's class of a class in comfy.supported_models."""
    config = getattr(comfy.supported_models, name)(dict(unet_config))
    config.unet_config.update(unet_config)
    return diffusion_model(config.get_model, {}, "")


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def base_models(cls: type = BaseModel) -> set[type]:
    """BaseModel's subclasses in ComfyUI."""
    return {cls}.union(*(base_models(sub) for sub in cls.__subclasses__() if sub.__module__.startswith("comfy.")))


def is_sampled(cls: type) -> bool:
    """Detectors (RT-DETR, SAM 3) and depth estimators have a BaseModel too, but are told no time."""
    return not TIME.isdisjoint(inspect.signature(cls.forward).parameters)


@functools.cache
def known_to_comfyui() -> dict[str, type]:
    """Every class that is sampled, by its name."""
    classes = set()
    for base_model in base_models():
        required = [p for p in inspect.signature(base_model).parameters.values() if p.default is p.empty]
        classes.add(diffusion_model(base_model, *[mock.MagicMock() for _ in required]))
    return {name_of(cls): cls for cls in classes if is_sampled(cls)}


@functools.cache
def cases_of_models() -> dict[str, set[str]]:
    """Names of the cases of each diffusion model."""
    found: dict[str, set[str]] = {}
    for case in cases.ALL:
        if case.exists and not case.stands_in:
            found.setdefault(name_of(of_config(case.config, case.unet_config)), set()).add(case.name)
    return found


def test_the_classes_of_base_models_say_it_all():
    """comfy.supported_models leaves the choice of the diffusion model to the BaseModel that it makes."""
    assert "unet_model" not in inspect.getsource(comfy.supported_models)


def test_every_model_is_supported_or_refused():
    missing = set(known_to_comfyui()) - set(FAMILIES) - set(REFUSED)
    assert not missing


def test_every_name_is_a_model():
    unknown = (set(FAMILIES) | set(REFUSED)) - set(known_to_comfyui())
    assert not unknown - set(NEWER)
    assert not {name for name in unknown if NEWER[name] <= cases.VERSION}
    both = set(FAMILIES) & set(REFUSED)
    assert not both


def test_every_supported_model_is_tested():
    untested = set(FAMILIES) - set(cases_of_models())
    assert not untested & set(known_to_comfyui())
    unsupported = set(cases_of_models()) - set(FAMILIES)
    assert not unsupported


def test_cases_are_found_without_building_them():
    """`cases_of_models` says what the built models are, here of the smallest of them."""
    case: Case = cases.BY_NAME["lens"]
    assert name_of(type(cases.load(case.name).model.diffusion_model)) in cases_of_models()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_supported_model_has_its_adapter(name):
    module, label = FAMILIES[name]
    family = importlib.import_module(f"{families.__name__}.{module}")
    assert callable(family.lengthen) and label
    assert len(Path(family.__file__).read_text(encoding="utf-8").splitlines()) < 60, "has it a trick to move down?"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_model_is_told_why(name):
    if name in NEWER and name not in known_to_comfyui():
        pytest.skip("not in this ComfyUI")
    cls = known_to_comfyui()[name]
    with pytest.raises(ValueError) as error:
        find_family(SimpleNamespace(diffusion_model=cls.__new__(cls)))
    found = f"found {SimpleNamespace.__name__}, {cls.__name__}, in which VSF cannot work: {REFUSED[name]}."
    assert str(error.value).startswith("VSF: bypass or remove the VSF node") and str(error.value).endswith(found)
    assert REFUSED[name].startswith("it ") and not REFUSED[name].endswith(".")


def test_every_family_tells_where_its_picture_is():
    """Or its sound, if it takes no mask."""
    assert PICTURES.keys() | SOUNDS.keys() == {module for module, _ in FAMILIES.values()}
    assert SOUNDS.keys() == {"ace_step", "ace_step15", "stable_audio"}
