"""The text encoder for training: the very classes of the mini pack (comfy_pack/clip.py), made differentiable."""

from __future__ import annotations

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.ops
import torch
from comfy.text_encoders.t5 import T5, T5LayerNorm
from comfy_pack.clip import MIN_LENGTH, POOLED_WIDTH, TestbedT5, TestbedTokenizer
from torch import nn

__all__ = ["MIN_LENGTH", "POOLED_WIDTH", "build", "encode", "tokens"]


def build(seed: int = 0) -> T5:
    """A float32 T5 with fresh weights, trainable."""
    torch.manual_seed(seed)
    # Plain operations: the casting ones of inference detach the weights.
    transformer = TestbedT5(
        dtype=torch.float32, model_options={"custom_operations": comfy.ops.disable_weight_init}
    ).transformer
    for name, parameter in transformer.named_parameters():
        if parameter.ndim == 1:
            nn.init.ones_(parameter)
        elif "shared" in name:
            nn.init.normal_(parameter, std=1.0)
        elif "relative_attention_bias" in name:
            nn.init.normal_(parameter, std=0.1)
        else:
            # T5 does not scale its logits by 1/sqrt(d): the query's weights carry that factor.
            scale = 32**-0.5 if name.endswith("SelfAttention.q.weight") else 1.0
            nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5)
    for module in transformer.modules():
        if isinstance(module, T5LayerNorm):
            # ComfyUI's T5 adds to its residual in place; autograd still needs the value that the norm has read.
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    return transformer.requires_grad_(True)


def muon_names(transformer: T5) -> set[str]:
    return {n for n, p in transformer.named_parameters() if p.ndim == 2 and ".layer." in n and "relative" not in n}


def tokens(captions: list[str]) -> torch.Tensor:
    """Token ids [n, 32] through the tokenizer that ComfyUI will use."""
    tokenizer = TestbedTokenizer().t5xxl
    rows = [[token for token, _ in tokenizer.tokenize_with_weights(caption)[0]] for caption in captions]
    return torch.tensor(rows)


def encode(transformer: T5, ids: torch.Tensor) -> torch.Tensor:
    """Ids [n, length] -> states [n, length, 160], float32. No mask: padding takes part, as it does in ComfyUI."""
    return transformer(ids.to(transformer.get_input_embeddings().weight.device), None, dtype=torch.float32)[0]
