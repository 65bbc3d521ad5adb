"""The example workflows: SD3.5 Large Turbo, the same edited by Flux.1 Kontext, and the testbed's small model.

    python -m benchmarks.neggenbench.examples    writes them anew, from the pack's recipes; needs COMFYUI_PATH

The first and the last save two pictures of one seed, titled "Without a negative" and "With VSF": output= names one.
"""
from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import build_workflows  # noqa: E402
import testbed_workflows  # noqa: E402
from comfy_server import PACK, PACK_SOURCE, ComfyServer  # noqa: E402

from .store import write_json  # noqa: E402
from .workflow import find_node, leading_to  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "examples"
SLOTS = {"positive": "{prompt}", "negative": "{negative}", "seed": "{seed}"}


def with_strength(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same with the slots {scale} and {bias} in VSFGuidance."""
    for node in workflow.values():
        if node["class_type"] == "VSFGuidance":
            node["inputs"] |= {"scale": "{scale}", "bias": "{bias}"}
    return workflow


def in_context(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same with the context rule: VSFPrompt, with the slot {strength}, in the place of VSFGuidance and its text encoder."""
    workflow = {node: {**entry, "inputs": dict(entry["inputs"])} for node, entry in workflow.items()}
    (rule,) = (node for node, entry in workflow.items() if entry["class_type"] == "VSFGuidance")
    model, text = (workflow[rule]["inputs"][name] for name in ("model", "negative"))
    clip = workflow.pop(text[0])["inputs"]["clip"]
    workflow[rule] = {"class_type": "VSFPrompt", "_meta": {"title": "VSFPrompt"},
                      "inputs": {"prompt": "{prompt}", "negative": "{negative}", "strength": "{strength}", "model": model,
                                 "clip": clip}}
    (sampler,) = (entry for entry in workflow.values() if entry["inputs"].get("model") == [rule, 0])
    sampler["inputs"]["positive"] = [rule, 1]
    return workflow


def sd35(info: dict[str, Any]) -> dict[str, Any]:
    """The pack's own workflow for SD3.5 Large Turbo, in the paper's form."""
    workflow = build_workflows.with_comparison(build_workflows.build(dataclasses.replace(testbed_workflows.BASE, **SLOTS)))
    return with_strength(testbed_workflows.paper_form(testbed_workflows.to_api(workflow, info)))


def testbed(info: dict[str, Any]) -> dict[str, Any]:
    """The demo workflow of the testbed, in the paper's form."""
    workflow = testbed_workflows.demo((SLOTS["positive"], SLOTS["negative"]), SLOTS["seed"])
    return with_strength(testbed_workflows.paper_form(testbed_workflows.to_api(workflow, info)))


def kontext(info: dict[str, Any]) -> dict[str, Any]:
    """SD3.5 Large Turbo's picture without a negative, then Flux.1 Kontext told to remove the element.

    Kontext's files and settings are those of ComfyUI's template flux_kontext_dev_basic.
    """
    first = sd35(info)
    save = find_node(first, "Without a negative", "kontext")
    first = leading_to(first, save)
    picture = first.pop(save)["inputs"]["images"]
    wanted = "Remove the {negative} from the picture. Keep everything else as it is."
    text = ("clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors")
    edit = {
        "101": ("UNETLoader", {"unet_name": "flux1-dev-kontext_fp8_scaled.safetensors", "weight_dtype": "default"}),
        "102": ("DualCLIPLoader", {"clip_name1": text[0], "clip_name2": text[1], "type": "flux", "device": "default"}),
        "103": ("VAELoader", {"vae_name": "ae.safetensors"}),
        "104": ("FluxKontextImageScale", {"image": picture}),
        "105": ("VAEEncode", {"pixels": ["104", 0], "vae": ["103", 0]}),
        "106": ("CLIPTextEncode", {"text": wanted, "clip": ["102", 0]}),
        "107": ("ReferenceLatent", {"conditioning": ["106", 0], "latent": ["105", 0]}),
        "108": ("FluxGuidance", {"conditioning": ["107", 0], "guidance": 2.5}),
        "109": ("ConditioningZeroOut", {"conditioning": ["106", 0]}),
        "110": ("KSampler", {"model": ["101", 0], "positive": ["108", 0], "negative": ["109", 0], "latent_image": ["105", 0],
                             "seed": "{seed}", "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
                             "denoise": 1.0}),
        "111": ("VAEDecode", {"samples": ["110", 0], "vae": ["103", 0]}),
        "112": ("SaveImage", {"images": ["111", 0], "filename_prefix": "VSF/edited"}),
    }
    return first | {node: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
                    for node, (kind, inputs) in edit.items()}


EXAMPLES = {
    "sd35_large_turbo.json": sd35,
    "sd35_large_turbo_context.json": lambda info: in_context(sd35(info)),
    "sd35_then_kontext.json": kontext,
    "testbed.json": testbed,
    "testbed_context.json": lambda info: in_context(testbed(info)),
}


def main() -> None:
    with (tempfile.TemporaryDirectory(prefix="vsf-examples-", ignore_cleanup_errors=True) as base,
          ComfyServer(Path(base), {PACK: PACK_SOURCE}) as server):
        info = server.get_json("/object_info")
    for name, make in EXAMPLES.items():
        write_json(FOLDER / name, make(info))


if __name__ == "__main__":
    main()
