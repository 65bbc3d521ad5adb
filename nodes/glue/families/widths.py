"""How wide the text is that a model takes, read off its own first layer for it, so that VSF Guidance can refuse the text
encoder of another model at its node. Where it is not known here, the positive prompt's width tells at sampling (patch.py).
"""
from __future__ import annotations

from typing import Any

from torch import nn

from . import Family

# class of BaseModel.diffusion_model -> the layer that the text enters, in_features wide; a class here stands for its
# subclasses too
TEXT_LAYERS = {
    "OpenAISignatureMMDITWrapper": "context_embedder",
    "Flux": "txt_in",
    "Chroma": "txt_in",
    "MMDiT": "cond_seq_linear",
    "HunyuanVideo": "txt_in.input_embedder",
    "HiDreamImageTransformer2DModel": "caption_projection.-1.linear",
    "QwenImageTransformer2DModel": "txt_in",
    "MageFlowTransformer2DModel": "txt_in",
    "NextDiT": "cap_embedder.1",
    "OmniGen2Transformer2DModel": "time_caption_embed.caption_embedder.1",
    "BooguTransformer2DModel": "time_caption_embed.caption_embedder.1",
    "Ideogram4Transformer2DModel": "llm_cond_proj",
    "LensTransformer2DModel": "txt_in",
    "JoyImageTransformer3DModel": "condition_embedder.text_embedder.linear_1",
    "CogVideoXTransformer3DModel": "patch_embed.text_proj",
    "AsymmDiTJoint": "t5_yproj",
    "PixDiT_T2I": "y_embedder.proj",
    "PixArtMS": "y_embedder.y_proj.fc1",
    "StageC": "clip_txt_mapper",
    "Kandinsky5": "text_embeddings.in_layer",
    "AudioDiffusionTransformer": "to_cond_embed.0",
    "ErnieImageModel": "text_proj",
    "ACEStepTransformer2DModel": "genre_embedder",
    "AceStepConditionGenerationModel": "encoder.text_projector",
    "HunYuanDiT": "blocks.0.attn2.kv_proj",
    "MiniMaxH3Model": "condition_proj",
    "WanModel": "text_embedding.0",
    "LTXVModel": "caption_projection.linear_1",
}
OTHERWISE = frozenset({"Anima", "LTXAVModel"})  # their texts pass something else first, of more than one width


def text_width(family: Family, base_model: Any) -> int | None:
    """Channels C of the text tokens (B, L, C) that this model takes; None where that is not known.

    An adapter may know it better: its own `text_width` (base_model) goes first.
    """
    if (own := getattr(family, "text_width", None)) is not None:
        return own(base_model)
    model = base_model.diffusion_model
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    classes = [cls.__name__ for cls in type(model).__mro__]
    path = next((TEXT_LAYERS[name] for name in classes if name in TEXT_LAYERS), None)
    if OTHERWISE & set(classes):
        return None
    if "UNetModel" in classes:
        layer = next((m for name, m in model.named_modules() if name.endswith("attn2.to_k")), None)
    elif "MiniTrainDIT" in classes:
        layer = _at(model, "blocks.0.cross_attn.k_proj")
    elif "SingleStreamDiT" in classes:  # Krea 2: several layers of its language model, side by side
        return model.txtlayers * model.txtdim
    else:
        layer = _at(model, path) if path else None
    width = getattr(layer, "in_features", None)
    return width if isinstance(width, int) else None


def _at(module: nn.Module, path: str) -> nn.Module | None:
    found: nn.Module | None = module
    for name in path.split("."):
        found = found[int(name)] if isinstance(found, nn.ModuleList | nn.Sequential) else getattr(found, name, None)
    return found
