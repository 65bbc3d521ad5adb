"""The students sample here, where they are trained, as ComfyUI's own sampler samples them."""
from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

TESTBED = Path(__file__).resolve().parents[2] / "testbed"
sys.path.append(str(TESTBED))

import comfy.latent_formats  # noqa: E402
import pipeline  # noqa: E402
import scenes  # noqa: E402
import student  # noqa: E402
from training import stage_export, stage_reflow  # noqa: E402
from training.workspace import Workspace  # noqa: E402


def random_student(name: str) -> student.Student:
    """As training leaves it: nothing is zero."""
    model = student.STUDENTS[name](1).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@pytest.fixture(params=student.STUDENTS)
def loaded(request, tmp_path) -> tuple[student.Student, pipeline.Pipeline]:
    """A student with random weights, and the same through its file and ComfyUI's loader."""
    model = random_student(request.param)
    work = Workspace(tmp_path, weights=tmp_path)
    stage_export.write(work, f"vsf_testbed_{request.param}", model.network.state_dict(), **model.metadata)
    for name in ("text", "vae"):
        shutil.copy(pipeline.WEIGHTS / f"vsf_testbed_{name}.safetensors", tmp_path)
    pipe = pipeline.Pipeline(tmp_path, request.param)
    model.network.load_state_dict(pipe.model.model.diffusion_model.state_dict())  # float16 rounds
    return model, pipe


@pytest.mark.parametrize("steps", [4, 8])
def test_students_sample_as_comfyui_does(loaded, steps):
    model, pipe = loaded
    positive = pipe.encode(scenes.prompt_pairs(1)[0].positive)
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(5))
    here = comfy.latent_formats.SD3().process_out(model.sample(positive[0][0], noise, steps))
    there = pipe.sample(pipe.model, positive, [5], steps) * model.multiplier
    assert torch.allclose(here, there.reshape(here.shape), atol=1e-4 * here.abs().max())


def test_the_unet_learns_the_line_that_its_sampler_walks():
    """At the schedule's end a batch is what the sampler begins with, and its velocity leads to the picture in one step."""
    model = student.UNet()
    noise, picture = torch.randn(2, 3, 16, 16, 16).unbind()
    batch = stage_reflow.Batch(torch.zeros(3, 32), 32, noise, picture, picture, torch.ones(3))
    batch = model.adapt(batch)
    assert torch.allclose(batch.mixed, model.start * noise, atol=1e-5)
    assert torch.allclose(batch.mixed - batch.mix * batch.velocity, picture, atol=1e-4)


def test_the_unet_begins_as_the_identity():
    """What is left of an untrained UNet gives eps where the picture is nothing but noise."""
    model, noise = student.UNet().requires_grad_(False), torch.randn(8, 16, 16, 16)
    eps = model.network(noise, torch.full((8,), 999.0), torch.randn(8, 32, 160))
    assert (eps - noise).std() < 0.02


def test_a_foreign_patch_leads_back_to_the_picture():
    """Latents met on the way with another picture's rectangle: one step of the velocity, from where it is bounded on."""
    noise, picture, other = torch.randn(3, 2, 16, 16, 16).unbind()
    batch = stage_reflow.Batch(torch.zeros(2, 32), 32, noise, picture, other, torch.full((2,), 0.5))
    assert torch.allclose(batch.mixed - batch.mix * batch.velocity, picture, atol=1e-5)
