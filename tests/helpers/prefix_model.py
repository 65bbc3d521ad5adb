"""A small model of our own that reads its prompt as Qwen-Image 2.1 does, for ComfyUIs that do not have that one.

One sequence, the references in the text where it names them and the image at its end; attention is called once for each run of
words (causal) or picture, whose keys are all that stands before its end; the image's positions follow the text's length. What
comes before the image does not depend on the step: its keys and values are kept for one sampling run, and later steps run the
image alone. It goes by the real class's name, so that the pack gives it the real one's adapter.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Runs = list[tuple[int, int, Tensor | None]]
Kept = tuple[Tensor, Tensor]


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """x: (B, N, H, D); positions: (N, 3), each of them turns a third of the pairs of channels."""
    pairs = x.shape[-1] // 2
    speed = 100.0 ** -torch.linspace(0, 1, pairs, device=x.device, dtype=torch.float64)
    angle = (positions.double()[:, torch.arange(pairs, device=x.device) % 3] * speed)[:, None]
    a, b = x.unflatten(-1, (pairs, 2)).unbind(-1)
    sin, cos = angle.sin().to(x), angle.cos().to(x)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def keep(kept: dict[int, Kept], i: int, prefix: int, k: Tensor, v: Tensor) -> None:
    kept[i] = k[:, :prefix].clone(), v[:, :prefix].clone()


def attend_in_runs(runs: Runs, heads: int, options: dict[str, Any], note: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v: (B, N, H, D), of the whole sequence."""
    if note is not None:
        note(k, v)
    return torch.cat([optimized_attention(q[:, start:end].flatten(2), k[:, :end].flatten(2), v[:, :end].flatten(2), heads,
                                          mask=mask, transformer_options=options) for start, end, mask in runs], dim=1)


def attend_to_all(prefix: Kept, heads: int, options: dict[str, Any], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v: (B, N, H, D), of the image alone; prefix: keys and values of what stands before it."""
    k, v = (torch.cat([before, own], dim=1) for before, own in zip(prefix, (k, v), strict=True))
    return optimized_attention(q.flatten(2), k.flatten(2), v.flatten(2), heads, transformer_options=options)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = operations.Linear(dim, 3 * dim, dtype=dtype, device=device)
        self.out = operations.Linear(dim, dim, dtype=dtype, device=device)
        self.mlp = operations.Linear(dim, dim, dtype=dtype, device=device)

    def forward(self, x: Tensor, time: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """x: (B, N, C); time: (B, N, C), of each row."""
        normed = nn.functional.layer_norm(x, x.shape[-1:]) * (1 + time)
        q, k, v = self.qkv(normed).unflatten(-1, (3, self.heads, -1)).unbind(2)
        x = x + self.out(attend(rotated(q, positions), rotated(k, positions), v)) * time.tanh()
        return x + self.mlp(torch.nn.functional.silu(nn.functional.layer_norm(x, x.shape[-1:]) * (1 + time)))


class PrefixModel(nn.Module):
    def __init__(self, in_channels: int, dim: int, heads: int, num_layers: int, context_in_dim: int, image_model: str = "",
                 dtype: Any = None, device: Any = None, operations: Any = None) -> None:
        super().__init__()
        self.dtype = dtype
        made = dict(dtype=dtype, device=device)
        self.text_in = operations.Linear(context_in_dim, dim, **made)
        self.image_in = operations.Linear(in_channels, dim, **made)
        self.time_in = operations.Linear(1, dim, **made)
        self.blocks = nn.ModuleList([Block(dim, heads, operations=operations, **made) for _ in range(num_layers)])
        self.image_out = operations.Linear(dim, in_channels, **made)
        self.prefix_cache_enabled = False
        self.prefixes: list[tuple[list[Tensor], dict[int, Kept]]] = []

    def reset_prefix_cache(self, enabled: bool) -> None:
        self.prefix_cache_enabled, self.prefixes = enabled, []

    def kept(self, inputs: list[Tensor]) -> dict[int, Kept]:
        """Keys and values of the prefix made of these inputs; an empty place for them if there are none yet."""
        for known, kept in self.prefixes:
            if len(known) == len(inputs) and all(map(torch.equal, known, inputs)):
                return kept
        self.prefixes.append((inputs, {}))
        return self.prefixes[-1][1]

    def sequence(self, x: Tensor, text: Tensor, references: list[Tensor], slots: list[int]):
        """Rows (B, N, C), positions (N, 3), and the runs (start, end, mask) of the whole sequence."""
        rows, positions, runs, start, at = [], [], [], 0, 0
        ends = (slots + [text.shape[1]] * len(references))[:len(references)] + [text.shape[1]]
        for begin, end, image in zip([0, *ends], ends, [*references, x], strict=False):
            if n := end - begin:
                rows.append(text[:, begin:end])
                positions.append((at + torch.arange(n)).float()[:, None].expand(n, 3))
                hidden = torch.ones(n, start + n, dtype=torch.bool, device=x.device).triu(start + 1)
                runs.append((start, start + n, x.new_zeros(n, start + n).masked_fill(hidden, -torch.inf)))
                start, at = start + n, at + n
            h, w = image.shape[-2:]
            rows.append(self.image_in(image.flatten(2).mT))
            grid = torch.meshgrid(torch.tensor([float(at)]), torch.arange(h) - h / 2 + x.shape[-2] % 2 / 2,
                                  torch.arange(w) - w / 2 + x.shape[-1] % 2 / 2, indexing="ij")
            positions.append(torch.stack(grid, dim=-1).flatten(0, 2))
            runs.append((start, start + h * w, None))
            start, at = start + h * w, at + max(h, w)
        return torch.cat(rows, dim=1), torch.cat(positions).to(x.device), runs

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, ref_latents: list[Tensor] | None = None,
                image_slots: list[int] | None = None, transformer_options: Any = None, **kwargs: Any) -> Tensor:
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        return WrapperExecutor.new_class_executor(self._forward, self, wrappers).execute(
            x, timestep, context, ref_latents, image_slots, transformer_options, **kwargs)

    def _forward(self, x: Tensor, timestep: Tensor, context: Tensor, ref_latents: list[Tensor] | None,
                 image_slots: list[int] | None, options: dict[str, Any], **kwargs: Any) -> Tensor:
        references, target = list(ref_latents or []), x.shape[-2] * x.shape[-1]
        rows, positions, runs = self.sequence(x, self.text_in(context), references, list(image_slots or []))
        prefix = rows.shape[1] - target
        times = torch.cat([timestep.new_zeros(len(x), prefix), timestep[:, None].expand(-1, target)], dim=1)
        time = self.time_in(times.to(x.dtype)[..., None])
        is_kept = self.prefix_cache_enabled and options.get("qwen_image21_cache", {}).get("device") != "off"
        kept = self.kept([context, *references]) if is_kept else {}
        if is_cached := len(kept) == len(self.blocks):
            rows, time, positions = rows[:, prefix:], time[:, prefix:], positions[prefix:]
        for i, block in enumerate(self.blocks):
            options["block_index"] = i
            if is_cached:
                attend = partial(attend_to_all, kept[i], block.heads, options)
            else:
                note = partial(keep, kept, i, prefix) if is_kept else None
                attend = partial(attend_in_runs, runs, block.heads, options, note)
            rows = block(rows, time, positions, attend)
        return self.image_out(rows[:, -target:]).mT.unflatten(-1, x.shape[-2:])


PrefixModel.__module__ = "comfy.ldm.qwen_image21.model"
PrefixModel.__qualname__ = "QwenImage21Transformer2DModel"


class PrefixBase(comfy.model_base.BaseModel):
    """BaseModel of the same: the prefix lives as long as a patcher samples."""

    def __init__(self, model_config: Any, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=PrefixModel)

    @property
    def current_patcher(self) -> Any:
        return self._patcher

    @current_patcher.setter
    def current_patcher(self, patcher: Any) -> None:
        self.__dict__["_patcher"] = patcher
        if model := getattr(self, "diffusion_model", None):
            model.reset_prefix_cache(patcher is not None and not patcher.hook_patches)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        out["c_crossattn"] = comfy.conds.CONDRegular(kwargs["cross_attn"])
        if (references := kwargs.get("reference_latents")) is not None:
            out["ref_latents"] = comfy.conds.CONDList([self.process_latent_in(t) for t in references])
        if (slots := kwargs.get("image_slots")) is not None:
            out["image_slots"] = comfy.conds.CONDConstant(slots)
        return out


class Prefix(comfy.supported_models_base.BASE):
    """In the place of a class in comfy.supported_models."""
    unet_config = {"image_model": "vsf_prefix"}
    unet_extra_config = {}
    sampling_settings = {"shift": 1.15, "multiplier": 1.0}
    latent_format = comfy.latent_formats.Flux
    memory_usage_factor = 1.0

    def get_model(self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None) -> PrefixBase:
        return PrefixBase(self, device=device)
