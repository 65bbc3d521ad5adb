"""A LoRA by ComfyUI's hook nodes, on the text of each of our nodes: on the text encoder it has acted before us; on the model it
is the positive prompt's, in whose call the negative is read. One for the negative alone is refused, by the input's name."""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cases
import encoders
import folder_paths
import pytest
import torch
from comfy_extras.nodes_hooks import CreateHookLora, SetClipHooks, SetModelHooksOnCond
from safetensors.torch import save_file
from vsf_pack.nodes.vsf_conditioning import VSFConditioning
from vsf_pack.nodes.vsf_contrast import VSFContrast
from vsf_pack.nodes.vsf_guidance import VSFGuidance
from vsf_pack.nodes.vsf_prompt import VSFPrompt
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode

from nodes import CLIPTextEncode

PROMPT, NEGATIVE = "a red apple on a table", "bad hands"
LAYERS = ("diffusion_model.joint_blocks.0.x_block.attn.proj",
          "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1")


@functools.cache
def loaded() -> tuple[cases.Case, Any, Any]:
    """SD 3 at toy size: the case, the model, and its text encoder."""
    case = cases.BY_NAME["sd3"]
    widths = dict(adm_in_channels=768 + 1280, context_embedder_config={
        "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}})
    case = dataclasses.replace(case, unet_config={**case.unet_config, **widths})
    return case, cases.build(case, torch.float32), encoders.build(encoders.ENCODERS["SD 3"])


@pytest.fixture(scope="module", autouse=True)
def let_go():
    yield
    loaded.cache_clear()


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """Create Hook LoRA with a file that changes the model and the text encoder: by its strengths on them."""
    _, model, clip = loaded()
    weights = {**model.model.state_dict(), **{f"text_encoders.{k}": t for k, t in clip.cond_stage_model.state_dict().items()}}
    save_file({f"{name}.diff": 0.5 * weights[f"{name}.weight"].float().contiguous() for name in LAYERS},
              tmp_path / "toy.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    return lambda on_model, on_clip: CreateHookLora().create_hook("toy.safetensors", on_model, on_clip)[0]


def hooked(clip: Any, hooks: Any) -> Any:
    return SetClipHooks().apply_hooks(clip, False, True, hooks)[0]


def encode(clip: Any, text: str) -> list:
    return CLIPTextEncode().encode(clip, text)[0]


def guidance(clip: Any, hooks: Any = None) -> Any:
    negative = VSFTextEncode.execute(clip, NEGATIVE).args[0]
    negative = negative if hooks is None else SetModelHooksOnCond().attach_hook(negative, hooks)[0]
    return VSFGuidance.execute(loaded()[1], negative, 2.0, 0.2, 0.0, 1.0).args[0]


def contrast(clip: Any, hooks: Any = None) -> Any:
    context = encode(clip, f"{PROMPT}, {NEGATIVE}")
    context = context if hooks is None else SetModelHooksOnCond().attach_hook(context, hooks)[0]
    return VSFContrast.execute(loaded()[1], context, 1.0, 0.0, 1.0).args[0]


@pytest.mark.parametrize(("node", "name"), [(guidance, "negative"), (contrast, "context")])
def test_a_lora_for_the_negative_alone(node, name, hooks):
    case, _, clip = loaded()
    message = rf"VSF: take the hooks off `{name}` .* found hooks on the model \(WeightHook\): a negative is read in"
    with pytest.raises(ValueError, match=message):
        node(hooked(clip, hooks(1.0, 1.0)))
    with pytest.raises(ValueError, match=message):
        node(clip, hooks(1.0, 0.0))
    out = case.sample(node(hooked(clip, hooks(0.0, 1.0))), encode(clip, PROMPT))
    assert torch.isfinite(out).all() and not torch.equal(out, case.sample(node(clip), encode(clip, PROMPT)))


def prompted(clip: Any, negative: str) -> tuple[Any, list]:
    return VSFPrompt.execute(loaded()[1], clip, PROMPT, negative, 1.0).args


def conditioned(clip: Any, negative: str) -> tuple[Any, list]:
    return loaded()[1], VSFConditioning.execute(clip, PROMPT, negative, 1.0).args[0]


@pytest.mark.parametrize("node", [prompted, conditioned])
@pytest.mark.parametrize("strengths", [(1.0, 0.0), (1.0, 1.0)])
def test_a_lora_for_a_prompt_with_its_negative(node, strengths, hooks):
    """Both texts are in one node: the LoRA is both's, and the negative acts."""
    case, model, clip = loaded()
    with_lora = hooked(clip, hooks(*strengths))
    out = case.sample(*node(with_lora, NEGATIVE))
    alone = case.sample(*node(with_lora, ""))
    assert torch.equal(alone, case.sample(model, encode(with_lora, PROMPT)))
    for other in (alone, case.sample(*node(clip, NEGATIVE))):
        assert ((out - other).norm() / other.norm()).item() >= 1e-4
