"""The testbed's UNet for ComfyUI's loaders: SD 1.5's class and noise schedule (eps prediction), at a size of its own.

ComfyUI tells SD 1.5 by its 320 channels. This adds one entry to the table from which its loaders choose, for a UNet of 96
channels that reads the testbed's text encoder and draws the testbed's latents: the stock node Load Diffusion Model then
loads it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import comfy.latent_formats
import comfy.supported_models

CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 16,
    "out_channels": 16,
    "model_channels": 96,
    "channel_mult": [1, 1],
    "num_res_blocks": [0, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 1, 1, 1],
    "num_heads": -1,
    "num_head_channels": 32,
    "context_dim": 160,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
}
"""Text is attended at half of the size alone, as SDXL leaves its first level without."""


class VSFTestbedUNet(comfy.supported_models.SD15):
    unet_config: ClassVar[dict[str, Any]] = {key: CONFIG[key] for key in ("model_channels", "context_dim")}
    unet_extra_config: ClassVar[dict[str, Any]] = CONFIG
    latent_format = comfy.latent_formats.SD3

    def inpaint_model(self) -> bool:
        return False  # sixteen channels are the latents' own


def register() -> None:
    """Add the entry, once."""
    if not any(model.__name__ == VSFTestbedUNet.__name__ for model in comfy.supported_models.models):
        comfy.supported_models.models.append(VSFTestbedUNet)


register()
