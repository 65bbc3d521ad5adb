"""Denoisers in other architectures than the testbed's first, that ComfyUI's UNETLoader loads by itself: Flux.1 (double and
single blocks) and Wan 2.1 (self- and cross-attention; a picture is a video of one frame).

They read the states of the first model's text encoder. Latents are those of the family's own format in ComfyUI, of the
autoencoder's times `1 / MULTIPLIER`, because their formats expect larger numbers than SD3's: the stock node LatentMultiply
brings them back before VAEDecode.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, ClassVar

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.ldm.wan.model
import comfy.ops
import denoiser
import stage_settle
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from torch import nn

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
    steps: ClassVar[int]
    """Of training."""
    bare_share: ClassVar[float]
    """Of the real pictures under a plain caption, how many lack the part (stage_settle.py)."""
    bare: ClassVar[dict[str, float]] = stage_settle.BARE
    hard: ClassVar[tuple[str, ...]] = stage_settle.HARD

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

    @classmethod
    def shifted(cls, t: torch.Tensor) -> torch.Tensor:
        """ComfyUI's time shift: uniform time in 0..1 -> sigma."""
        return cls.shift * t / (1 + (cls.shift - 1) * t)

    @torch.no_grad()
    def sample(self, context: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
        """Euler steps on ComfyUI's "simple" schedule. The first model's latents."""
        sigmas = self.shifted(torch.linspace(1, 0, steps + 1))
        x = noise
        for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            x = x + (after - now) * self(x, now.expand(len(x)), context)
        return self.to_teacher(x)


class Flux(Student):
    """Flux.1 dev: one double block, two single ones."""

    name = "flux"
    steps = 4500
    bare_share = 0.37
    bare: ClassVar[dict[str, float]] = {"car": 1.0, "clock": 1.1, "airplane": 0.7, "face": 1.6, "cup": 0.8, "tree": 1.1}
    hard = ("car", "clock", "face")
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
        return self.network(x, sigma, context, None, torch.full((len(x),), GUIDANCE))


class Wan(Student):
    """Wan 2.1 text to video: three blocks, videos of one frame."""

    name = "wan"
    steps = 4500
    bare_share = 0.38
    bare: ClassVar[dict[str, float]] = {"airplane": 0.7, "clock": 0.8, "cup": 0.6, "car": 1.2, "face": 1.4, "tree": 1.3}
    hard = ("airplane", "car", "clock", "cup", "face", "tree")
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


STUDENTS: dict[str, type[Student]] = {student.name: student for student in (Flux, Wan)}
