"""Muon + AdamW for small bf16 networks with float32 master weights.

Muon (Jordan et al. 2024) replaces the update of a weight matrix by its nearest (semi-)orthogonal matrix, found by a
few Newton-Schulz steps. On these small networks it needs about half of Adam's iterations. Convolutions count as
matrices [out, in * k * k]. Vectors, embeddings and the first and last layers are left to AdamW.
"""

from __future__ import annotations

import collections
import functools
import time

import torch
from torch import nn


@functools.cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where a device of this type multiplies it faster than float32 (AMX, AVX512-BF16, a GPU), else float32.

    Measured, because the difference is a factor of 5 on one processor and of 1/100 on another.
    """

    if device != "cpu":
        return torch.bfloat16

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(512, 512, dtype=dtype)
        times = []
        for _ in range(8):  # the first product prepares, and others may use the processor now and then
            begin = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - begin)
        return min(times)

    return min((torch.float32, torch.bfloat16), key=seconds)


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Approximately U V^T of every matrix in a stack [n, rows, columns]. Quintic Newton-Schulz; bf16 is enough for it."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(fast_dtype(matrices.device.type))
    transposed = x.shape[1] > x.shape[2]
    if transposed:
        x = x.mT
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if transposed else x).float()


class MasterMuon:
    """Optimiser of a module whose parameters are low precision; the float32 truth is kept here.

    `matrix_names` are the parameters that Muon updates, all others get AdamW. Muon's update is scaled to the root
    mean square that Adam's typically has (0.2), so that one learning rate serves both. `ema` > 0 keeps an average
    of the masters.
    """

    def __init__(
        self, module: nn.Module, matrix_names: set[str], weight_decay: float = 0.0, ema: float = 0.0
    ) -> None:
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.master = {n: p.detach().float().clone() for n, p in self.parameters.items()}
        self.first = {n: torch.zeros_like(p) for n, p in self.master.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.master.items() if n not in matrix_names}
        self.average = {n: p.clone() for n, p in self.master.items()} if ema > 0 else {}
        self.ema, self.weight_decay, self.steps = ema, weight_decay, 0
        self.groups: dict[tuple[int, ...], list[str]] = collections.defaultdict(list)
        for name in sorted(matrix_names):
            self.groups[tuple(self.master[name].flatten(1).shape)].append(name)

    @torch.no_grad()
    def step(self, rate: float, clip: float = 1.0) -> float:
        """One update from the module's gradients, which are cleared. Returns the gradient's norm before clipping."""
        self.steps += 1
        grads = {n: p.grad.float() for n, p in self.parameters.items()}
        norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
        shrink = torch.clamp(clip / (norm + 1e-6), max=1.0)
        for names in self.groups.values():
            updates = []
            for name in names:
                self.first[name].lerp_(grads[name] * shrink, 0.05)
                updates.append(torch.lerp(grads[name] * shrink, self.first[name], 0.95).flatten(1))
            stack = orthogonalise(torch.stack(updates))
            scale = 0.2 * max(stack.shape[1:]) ** 0.5
            for name, update in zip(names, stack, strict=True):
                weight = self.master[name]
                weight.mul_(1 - rate * self.weight_decay).add_(update.view_as(weight), alpha=-rate * scale)
        for name, moment in self.second.items():
            grad = grads[name] * shrink
            self.first[name].lerp_(grad, 0.1)
            moment.lerp_(grad.square(), 0.02)
            mean = self.first[name] / (1 - 0.9**self.steps)
            root = (moment / (1 - 0.98**self.steps)).sqrt()
            self.master[name].sub_(mean / (root + 1e-8), alpha=rate)
        decay = min(self.ema, self.steps / (self.steps + 10))
        for name, average in self.average.items():
            average.lerp_(self.master[name], 1 - decay)
        for name, parameter in self.parameters.items():
            parameter.copy_(self.master[name])
            parameter.grad = None
        return float(norm)

    def averaged(self) -> dict[str, torch.Tensor]:
        """The float32 weights to use: the moving average where one is kept."""
        return self.average or self.master

    @torch.no_grad()
    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from other float32 weights (the average of an earlier run, which the module holds only rounded)."""
        for name, value in weights.items():
            self.master[name].copy_(value)
            if self.average:
                self.average[name].copy_(value)
            self.parameters[name].copy_(value)

    def state_dict(self) -> dict:
        return {
            "master": self.master,
            "first": self.first,
            "second": self.second,
            "average": self.average,
            "steps": self.steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        for key in ("master", "first", "second", "average"):
            for name, value in state[key].items():
                getattr(self, key)[name].copy_(value)
        for name, parameter in self.parameters.items():
            parameter.copy_(self.master[name])
