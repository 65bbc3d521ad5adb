"""The testbed's models through the real ComfyUI, in this process: the loaders, `comfy.sample.sample` and the VAE
that its nodes call.
"""

from __future__ import annotations

import asyncio
import importlib.util
import pathlib
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.model_management
import comfy.sample
import comfy.sd
import comfy.utils
import numpy as np
import student
import torch
from comfy_pack.clip import load_clip

HERE = pathlib.Path(__file__).resolve().parent
SCALES = {"sd3": 1.75, "flux": 1.35, "wan": 2.5, "unet": 2.0}
"""The models that have weights here, by architecture, and the one scale (bias 0) of each that README's table is about. The
UNet's was not looked for: it is the one that VSF Guidance's help page names for SDXL."""
WEIGHTS = HERE / "weights"
Conditioning = list[list[Any]]


def load_pack(root: pathlib.Path = HERE.parent, name: str = "vsf_pack") -> types.ModuleType:
    """The shipped pack, imported as ComfyUI imports it: under a name of its own, so that its `nodes` is not
    ComfyUI's.
    """
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"no pack at {root}")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pack_nodes(root: pathlib.Path = HERE.parent) -> dict[str, type]:
    """node id -> node class of the shipped pack, through its `comfy_entrypoint`. In a thread: the caller's may have an event
    loop (Playwright's browser, a notebook)."""

    async def load() -> list[type]:
        return await (await load_pack(root).comfy_entrypoint()).get_node_list()

    with ThreadPoolExecutor(1) as pool:
        return {node.define_schema().node_id: node for node in pool.submit(asyncio.run, load()).result()}


class Pipeline:
    """Model, CLIP and VAE as ComfyUI's loader nodes would give them."""

    def __init__(self, weights: pathlib.Path = WEIGHTS, architecture: str = "sd3") -> None:
        """`architecture`: sd3, the default model's, or one of student.py's."""
        self.student = None if architecture == "sd3" else student.STUDENTS[architecture]
        self.model = comfy.sd.load_diffusion_model(str(weights / f"vsf_testbed_{architecture}.safetensors"))
        if self.student and self.student.sampling:
            self.model = self.student.sampling(self.model)
        self.clip = load_clip(
            comfy.utils.load_torch_file(str(weights / "vsf_testbed_text.safetensors"), safe_load=True)
        )
        vae, metadata = comfy.utils.load_torch_file(
            str(weights / "vsf_testbed_vae.safetensors"), safe_load=True, return_metadata=True
        )
        self.vae = comfy.sd.VAE(sd=vae, metadata=metadata)
        self.vae.first_stage_model.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def encode(self, text: str) -> Conditioning:
        """CLIPTextEncode."""
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def sample(
        self,
        model: Any,
        positive: Conditioning,
        seeds: list[int],
        steps: int,
        cfg: float = 1.0,
        negative: Conditioning | None = None,
    ) -> torch.Tensor:
        """KSampler with euler / simple: latents [len(seeds), 16, 16, 16]. The k-th picture's noise depends on
        seeds[k] alone.
        """
        noise = torch.cat(
            [torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        if self.student and self.student.video:
            noise = noise[:, :, None]
        return comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            "euler",
            "simple",
            positive,
            negative if negative is not None else self.encode(""),
            torch.zeros_like(noise),
            denoise=1.0,
            disable_pbar=True,
            seed=seeds[0],
        )

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """LatentMultiply, for an architecture that wants it, and VAEDecode: uint8 [n, 128, 128, 3]."""
        if self.student:
            latents = latents * self.student.multiplier
        if latents.ndim == 5:
            latents = latents[:, :, 0]
        pictures = torch.cat([self.vae.decode(latents[i : i + 8]) for i in range(0, len(latents), 8)])
        return (pictures.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    def round_trip(self, pictures: np.ndarray) -> np.ndarray:
        """VAEEncode and VAEDecode of uint8 pictures [n, 128, 128, 3]."""
        out = []
        for start in range(0, len(pictures), 32):
            x = torch.from_numpy(pictures[start : start + 32]).float() / 255
            out.append(self.decode(self.vae.encode(x)))
        return np.concatenate(out)
