"""Denoisers in other architectures than the testbed's first, that ComfyUI's UNETLoader loads: Flux.1 (double and single
blocks), Wan 2.1 (self- and cross-attention; a picture is a video of one frame), and SD 1.5's and SDXL's UNet (eps prediction).

They read the states of the first model's text encoder. Latents are those of the family's own format in ComfyUI, of the
autoencoder's times `1 / MULTIPLIER`, because their formats expect larger numbers than SD3's: the stock node LatentMultiply
brings them back before VAEDecode.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, ClassVar

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ldm.wan.model
import comfy.model_sampling
import comfy.ops
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from comfy_pack.unet import CONFIG as UNET
from torch import nn
from training import denoiser, stage_reflow

HEADS, HEAD = 2, 128  # ComfyUI takes heads of 128 for granted
WIDTH = HEADS * HEAD
GUIDANCE = 3.5  # what ComfyUI gives a Flux.1 dev without FluxGuidance


class Student(nn.Module):
    """A ComfyUI diffusion model in training, in float32."""

    name: ClassVar[str]
    latent_format: comfy.latent_formats.LatentFormat
    multiplier: ClassVar[float]
    shift: ClassVar[float]
    metadata: ClassVar[dict[str, str]] = {}
    video: ClassVar[bool] = False
    sampling: ClassVar[Callable[[Any], Any] | None] = None
    """A stock node that sets the model's shift, where it is not the family's own."""
    steps: ClassVar[int] = 4500
    batch: ClassVar[int] = stage_reflow.BATCH
    """Of training."""
    start: ClassVar[float] = 1.0
    """The sampler's first latents, as a multiple of the noise."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = self.build()
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.initialise(name, parameter)
        for module in self.network.modules():
            if isinstance(module, nn.LayerNorm):
                # Blocks add to their residual in place; autograd still needs the value that the norm has read.
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))

    def build(self) -> nn.Module:
        raise NotImplementedError

    def initialise(self, name: str, parameter: nn.Parameter) -> None:
        """DiT's usual start: Xavier matrices, closed gates, a final layer of zeros."""
        if name.endswith((".scale", "norm.weight", "norm_q.weight", "norm_k.weight", "norm3.weight")):
            nn.init.ones_(parameter)
        elif name.endswith("modulation"):
            nn.init.normal_(parameter, std=WIDTH**-0.5)
        elif parameter.ndim == 1 or any(part in name for part in self.closed):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter.flatten(1))

    closed: ClassVar[tuple[str, ...]]
    """Parts of the names of matrices that begin as zeros."""

    def muon_names(self) -> set[str]:
        """The matrices of attention and MLP; modulation and embeddings stay with AdamW."""
        return {
            f"network.{name}"
            for name, parameter in self.network.named_parameters()
            if parameter.ndim == 2 and "blocks." in name and "mod" not in name
        }

    def from_teacher(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [n, 16, 16, 16] of the first model -> of this one, in the sampler's scale."""
        raw = comfy.latent_formats.SD3().process_out(latents)
        return self.latent_format.process_in(raw / self.multiplier)

    def to_teacher(self, latents: torch.Tensor) -> torch.Tensor:
        """And back."""
        raw = self.latent_format.process_out(latents) * self.multiplier
        return comfy.latent_formats.SD3().process_in(raw)

    def adapt(self, batch: stage_reflow.Batch) -> stage_reflow.Batch:
        """The first model's batch as this one meets it."""
        return dataclasses.replace(batch, target=self.from_teacher(batch.target), met=self.from_teacher(batch.met))

    def weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """What an error of the velocity at sigma [n] counts, [n, 1, 1, 1]."""
        return torch.ones(len(sigma), 1, 1, 1, device=sigma.device)

    @classmethod
    def shifted(cls, t: torch.Tensor) -> torch.Tensor:
        """ComfyUI's time shift: uniform time in 0..1 -> sigma."""
        return cls.shift * t / (1 + (cls.shift - 1) * t)

    @torch.no_grad()
    def sample(self, context: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
        """Euler steps on ComfyUI's "simple" schedule. The first model's latents."""
        sigmas = self.shifted(torch.linspace(1, 0, steps + 1)).to(context.device)
        x = noise.to(context.device) * self.start
        for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            x = x + (after - now) * self(x, now.expand(len(x)), context)
        return self.to_teacher(x)


class Flux(Student):
    """Flux.1 dev: one double block, two single ones."""

    name = "flux"
    latent_format = comfy.latent_formats.Flux()
    multiplier = 0.3611 / 1.5305  # the formats' scales: latents differ from the first model's by a constant alone
    shift = math.exp(1.15)
    closed = ("_mod.lin", "modulation.lin", "adaLN_modulation", "final_layer.linear", "guidance_in")

    def build(self) -> nn.Module:
        return comfy.ldm.flux.model.Flux(
            image_model="flux",
            in_channels=16,
            out_channels=16,
            vec_in_dim=None,
            context_in_dim=denoiser.TEXT_WIDTH,
            hidden_size=WIDTH,
            mlp_ratio=4.0,
            num_heads=HEADS,
            depth=1,
            depth_single_blocks=2,
            axes_dim=[16, 56, 56],
            theta=10000,
            patch_size=2,
            qkv_bias=True,
            guidance_embed=True,
            txt_ids_dims=[],
            dtype=torch.float32,
            device="cpu",
            operations=comfy.ops.disable_weight_init,
        )

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Velocity [n, 16, 16, 16] at noise level sigma [n], given text states [n, length, 160]."""
        return self.network(x, sigma, context, None, torch.full((len(x),), GUIDANCE, device=x.device))


class Wan(Student):
    """Wan 2.1 text to video: three blocks, videos of one frame."""

    name = "wan"
    latent_format = comfy.latent_formats.Wan21()
    multiplier = 0.36
    shift = 3.0  # the family's own is 8
    video = True
    sampling = staticmethod(lambda model: ModelSamplingSD3().patch(model, Wan.shift)[0])
    closed = ("head.head",)
    config: ClassVar[dict[str, Any]] = {"text_dim": denoiser.TEXT_WIDTH}
    metadata: ClassVar[dict[str, str]] = {"config": json.dumps({"transformer": config})}

    def build(self) -> nn.Module:
        return comfy.ldm.wan.model.WanModel(
            model_type="t2v",
            patch_size=(1, 2, 2),
            in_dim=16,
            dim=WIDTH,
            ffn_dim=4 * WIDTH,
            freq_dim=256,
            out_dim=16,
            num_heads=HEADS,
            num_layers=3,
            dtype=torch.float32,
            device="cpu",
            operations=comfy.ops.disable_weight_init,
            **self.config,
        )

    def from_teacher(self, latents: torch.Tensor) -> torch.Tensor:
        raw = comfy.latent_formats.SD3().process_out(latents)
        return self.latent_format.process_in((raw / self.multiplier)[:, :, None])[:, :, 0]

    def to_teacher(self, latents: torch.Tensor) -> torch.Tensor:
        raw = self.latent_format.process_out(latents[:, :, None])[:, :, 0] * self.multiplier
        return comfy.latent_formats.SD3().process_in(raw)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Velocity [n, 16, 16, 16] at noise level sigma [n], given text states [n, length, 160]."""
        return self.network(x[:, :, None], sigma * 1000, context)[:, :, 0]


class UNet(Student):
    """SD 1.5's class and noise schedule (comfy_pack/unet.py).

    Time is the noise's share t of a flow, as for the other students; k = t / (1 - t) is the schedule's own sigma, and what the
    sampler calls x is (1 + k) times what a flow calls so. Euler's steps on the two are the same.
    """

    name = "unet"
    batch = 32
    latent_format = comfy.latent_formats.SD3()
    multiplier = 1.0
    closed = ("out_layers.3", "proj_out", "to_out.0", "ff.net.2")
    schedule = comfy.model_sampling.ModelSamplingDiscrete()
    top = float(schedule.sigma_max)
    start = (1 + top**2) ** 0.5 / (1 + top)  # EPS.noise_scaling
    LIMIT = 3.0
    """From this k on, errors of eps and not of the picture count alike: the next steps' noise covers the latter."""

    def build(self) -> nn.Module:
        return comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
            **UNET, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
        )

    def initialise(self, name: str, parameter: nn.Parameter) -> None:
        """Branches begin closed, norms as identities; the path from the first convolution to the last gives back its input,
        which at high noise is nearly eps: latent c is carried by four features of which two groups of the last norm keep the
        scale, as (1 + rc, 1 - rc, -2) and their negatives, for silu(z) - silu(-z) = z."""
        width, latents = UNET["model_channels"], UNET["in_channels"]
        centre = parameter.view(*parameter.shape[:2], -1)[:, :, 4] if parameter.shape[2:] == (3, 3) else parameter
        groups = torch.arange(width).view(latents, 2, 3)
        up = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
        if name == "input_blocks.0.0.weight":
            nn.init.zeros_(parameter)
            for c in range(latents):
                centre[groups[c], c] = up
        elif name == "input_blocks.0.0.bias":
            parameter.copy_(2 * torch.tensor([[1.0, 1.0, -2.0], [-1.0, -1.0, 2.0]]).flatten().repeat(latents))
        elif name == "out.2.weight":
            nn.init.zeros_(parameter)
            for c in range(latents):
                centre[c, groups[c]] = up / 2 * (2 * 4 + 2 / 3) ** 0.5
        elif name == f"output_blocks.{len(UNET['transformer_depth_output']) - 1}.0.skip_connection.weight":
            parameter.copy_(torch.cat((torch.zeros(width, width), torch.eye(width)), dim=1)[:, :, None, None])
        elif parameter.ndim == 1:
            norm = name.endswith(".weight")
            nn.init.constant_(parameter, 1.0 if norm else 0.0)
        elif any(part in name for part in self.closed):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter.flatten(1))

    def muon_names(self) -> set[str]:
        """Convolutions too; the embedding of time stays with AdamW."""
        return {f"network.{n}" for n, p in self.network.named_parameters() if p.ndim > 1 and "emb" not in n}

    def adapt(self, batch: stage_reflow.Batch) -> stage_reflow.Batch:
        """The sampler starts from noise alone, where the schedule still has a trace of the picture: that trace is taken out
        of the noise, so that the straight line from the sampler's start to the picture is what is learned."""
        batch = super().adapt(batch)
        noise = ((1 + self.top**2) ** 0.5 * batch.noise - batch.target) / self.top
        return dataclasses.replace(batch, noise=noise, sigma=batch.sigma.clamp(max=self.top / (1 + self.top)))

    def weight(self, sigma: torch.Tensor) -> torch.Tensor:
        k = sigma / (1 - sigma)
        return ((1 + self.LIMIT) / (1 + k)).clamp(max=1).square()[:, None, None, None]

    @classmethod
    def shifted(cls, t: torch.Tensor) -> torch.Tensor:
        """SD's schedule at the step that ComfyUI's "simple" takes for time t."""
        index = (t * len(cls.schedule.sigmas)).round().long()
        k = torch.cat((torch.zeros(1), cls.schedule.sigmas))[index]
        return k / (1 + k)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Velocity [n, 16, 16, 16] at the noise's share sigma [n], given text states [n, length, 160]."""
        k = (sigma / (1 - sigma))[:, None, None, None]
        eps = self.network(x * (1 + k) / (1 + k**2).sqrt(), self.schedule.timestep(k.flatten()).float(), context)
        return (eps.float() - x) * (1 + k)


STUDENTS: dict[str, type[Student]] = {student.name: student for student in (Flux, Wan, UNet)}
