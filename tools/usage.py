"""How much of what people run at CFG 1 VSF works in, by the counters of ComfyUI's own templates.

    python tools/usage.py           the installed package comfyui-workflow-templates-json
    python tools/usage.py FOLDER    another version of it: a folder with its index.json somewhere below, as an unzipped wheel

Counted are the templates with a sampler that has a CFG of 1 or no CFG at all (BasicGuider), or that load a file made for few
steps. What model one runs is told by the files of the nodes that give a MODEL; whether VSF works in it, by FAMILIES and REFUSED
of nodes/glue/families/__init__.py. Needs nothing but Python.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = ROOT / "nodes" / "glue" / "families" / "__init__.py"
PACKAGE = "comfyui-workflow-templates-json"

NO_TEXT = "takes no text"
NOWHERE = "not in VSF's list"

# model files (regular expression, the first that fits) -> (what users call it, class of the diffusion model; NO_TEXT for models
# without a prompt, NOWHERE where the class is in no ComfyUI that VSF was tried on)
MODELS: dict[str, tuple[str, str]] = {
    r"seedvr2|pixal3d|trellis|hunyuan_?3d|triposplat|svd_xt|lotus|rt_detr|sdpose|sam3|depth_anything|void_pass": ("", NO_TEXT),
    r"minimax_h3|fasth3": ("MiniMax H3, FastH3", "comfy.ldm.minimax.model.MiniMaxH3Model"),
    r"minimax_music": ("MiniMax Music 3", NOWHERE),
    r"moss_image": ("MOSS-Image", NOWHERE),
    r"ming_image": ("Ming-Image", NOWHERE),
    r"fibo": ("FIBO 2", NOWHERE),
    r"yue2": ("YuE2", NOWHERE),
    r"flux3": ("Flux 3 Klein", NOWHERE),
    r"qwen_?image_2\.1": ("Qwen-Image 2.1", "comfy.ldm.qwen_image21.model.QwenImage21Transformer2DModel"),
    r"qwen|firered": ("Qwen-Image, Edit", "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel"),
    r"ltx-2\.5": ("LTX-2.5", "comfy.ldm.lightricks.av_model.LTXAVModel"),
    r"ltx-?2": ("LTX-2, 2.3", "comfy.ldm.lightricks.av_model.LTXAVModel"),
    r"ltx-video": ("LTX-Video", "comfy.ldm.lightricks.model.LTXVModel"),
    r"z_image|netayume|newbie": ("Z-Image, Lumina 2, NewBie", "comfy.ldm.lumina.model.NextDiT"),
    r"wan_?animate_?2": ("Wan-Animate-2", "comfy.ldm.wan.model_animate2.WanAnimate2Model"),
    r"causal_forcing": ("Causal Forcing", "comfy.ldm.wan.ar_model.CausalWanModel"),
    r"scail_?2": ("SCAIL", "comfy.ldm.wan.model.SCAIL2WanModel"),
    r"scail": ("SCAIL", "comfy.ldm.wan.model.SCAILWanModel"),
    r"humo": ("HuMo", "comfy.ldm.wan.model.HumoWanModel"),
    r"s2v": ("Wan S2V", "comfy.ldm.wan.model.WanModel_S2V"),
    r"dancer": ("WanDancer", "comfy.ldm.wan.model_wandancer.WanDancerModel"),
    r"wan.*animate": ("Wan Animate", "comfy.ldm.wan.model_animate.AnimateWanModel"),
    r"wan.*vace": ("Wan VACE", "comfy.ldm.wan.model.VaceWanModel"),
    r"fun_camera": ("Wan Camera", "comfy.ldm.wan.model.CameraWanModel"),
    r"wan|chrono_edit": ("Wan 2.1, 2.2", "comfy.ldm.wan.model.WanModel"),
    r"krea2": ("Krea 2", "comfy.ldm.krea2.model.SingleStreamDiT"),
    r"flux-?_?2": ("Flux.2", "comfy.ldm.flux.model.Flux"),
    r"flux|longcat|ovis": ("Flux.1, LongCat-Image, Ovis-Image", "comfy.ldm.flux.model.Flux"),
    r"chroma.*radiance": ("Chroma Radiance", "comfy.ldm.chroma_radiance.model.ChromaRadiance"),
    r"chroma": ("Chroma", "comfy.ldm.chroma.model.Chroma"),
    r"hidream_o1": ("HiDream-O1", "comfy.ldm.hidream_o1.model.HiDreamO1Transformer"),
    r"hidream": ("HiDream-I1", "comfy.ldm.hidream.model.HiDreamImageTransformer2DModel"),
    r"hunyuan_?video|hunyuan_?image|capybara":
        ("HunyuanVideo, HunyuanImage", "comfy.ldm.hunyuan_video.model.HunyuanVideo"),
    r"anima": ("Anima", "comfy.ldm.anima.model.Anima"),
    r"cosmos": ("Cosmos-Predict2", "comfy.ldm.cosmos.predict2.MiniTrainDIT"),
    r"mage_flow": ("Mage-Flow", "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel"),
    r"ace_?step_?(v1_|1_)": ("ACE-Step 1", "comfy.ldm.ace.model.ACEStepTransformer2DModel"),
    r"ace_?step": ("ACE-Step 1.5", "comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel"),
    r"stable[_-]audio": ("Stable Audio", "comfy.ldm.audio.dit.AudioDiffusionTransformer"),
    r"lens": ("Lens", "comfy.ldm.lens.model.LensTransformer2DModel"),
    r"joyai": ("JoyImage", "comfy.ldm.joyimage.model.JoyImageTransformer3DModel"),
    r"ideogram": ("Ideogram 4", "comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel"),
    r"omnigen2": ("OmniGen2", "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel"),
    r"boogu": ("Boogu", "comfy.ldm.boogu.model.BooguTransformer2DModel"),
    r"ernie": ("Ernie-Image", "comfy.ldm.ernie.model.ErnieImageModel"),
    r"kandinsky5": ("Kandinsky 5", "comfy.ldm.kandinsky5.model.Kandinsky5"),
    r"pixeldit|pid_": ("PixelDiT, PiD", "comfy.ldm.pixeldit.model.PixDiT_T2I"),
    r"sd3": ("SD3, SD3.5", "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper"),
    r"sd_?xl|sd_?1|v1-5|sd_?2|dreamshaper":
        ("SD 1.x, SD 2.x, SDXL", "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel"),
}

FEW_STEPS = re.compile(r"turbo|lightning|lightx2v|distill|schnell|causvid|fasth3|hyper|lcm|\dsteps?\b|hidream.*(dev|fast)")
MODEL_FILE = re.compile(r"\.(safetensors|sft|gguf|ckpt|pth?)$")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
CFG = {"KSampler": 3, "KSamplerAdvanced": 4, "SamplerCustom": 3, "CFGGuider": 0, "DualCFGGuider": 0, "LTXVDualCFGGuider": 0}
"""Nodes with a CFG: its place among their widgets."""
NO_CFG = ("BasicGuider",)
MUTED, BYPASSED = 2, 4


@dataclass(frozen=True)
class Template:
    """A template with a sampler. files: of the nodes that give a MODEL; uses: its counter."""

    name: str
    uses: int
    files: tuple[str, ...]
    at_cfg_1: bool

    @property
    def model(self) -> tuple[str, str]:
        """What users call its model, and the model's class; helpers that take no text only where there is nothing else."""
        found = [model for pattern, model in MODELS.items() if any(re.search(pattern, file) for file in self.files)]
        return next((m for m in found if m[1] != NO_TEXT), found[0] if found else (self.name, NOWHERE))


def active_nodes(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes that run: of the graph and of the subgraphs in use, without those muted or bypassed."""
    subgraphs = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", [])}
    graphs, seen = [workflow], set()
    while graphs:
        for node in graphs.pop().get("nodes", []):
            if node.get("mode") in (MUTED, BYPASSED):
                continue
            yield node
            if node["type"] in subgraphs and node["type"] not in seen:
                seen.add(node["type"])
                graphs.append(subgraphs[node["type"]])


def widgets(node: dict[str, Any]) -> list[Any]:
    """A node's widget values in order."""
    values = node.get("widgets_values") or []
    return list(values.values()) if isinstance(values, dict) else values


def read_template(name: str, uses: int, workflow: dict[str, Any]) -> Template | None:
    """What is counted of a template; None of one without a sampler."""
    nodes = list(active_nodes(workflow))
    if not any(node["type"] in SAMPLERS for node in nodes):
        return None
    givers = [n for n in nodes if any(output.get("type") == "MODEL" for output in n.get("outputs") or [])]
    files = {v.lower() for n in givers for v in widgets(n) if isinstance(v, str) and MODEL_FILE.search(v)}
    cfgs = [widgets(n)[CFG[n["type"]]] for n in nodes if n["type"] in CFG and len(widgets(n)) > CFG[n["type"]]]
    at_cfg_1 = 1 in cfgs or any(n["type"] in NO_CFG for n in nodes) or any(FEW_STEPS.search(file) for file in files)
    return Template(name, uses, tuple(sorted(files)), at_cfg_1)


def read_templates(folder: Path) -> list[Template]:
    """All templates with a sampler under a folder, each once. Raises SystemExit where there is no index.json."""
    index = next(iter(sorted(folder.rglob("index.json"))), None)
    if index is None:
        raise SystemExit(f"expected a folder with the templates' index.json, found none below {folder}")
    entries = {t["name"]: t for group in json.loads(index.read_text(encoding="utf-8")) for t in group["templates"]}
    found = []
    for name, entry in entries.items():
        path = index.parent / f"{name}.json"
        if path.is_file():
            found.append(read_template(name, entry.get("usage") or 0, json.loads(path.read_text(encoding="utf-8"))))
    return [template for template in found if template is not None]


@functools.cache
def known() -> tuple[dict[str, Any], dict[str, str]]:
    """FAMILIES and REFUSED, read without ComfyUI."""
    tree = ast.parse(ADAPTERS.read_text(encoding="utf-8"))
    values = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if getattr(target, "id", None) in ("FAMILIES", "REFUSED"):
            values[target.id] = ast.literal_eval(node.value)
    return values["FAMILIES"], values["REFUSED"]


def verdict(cls: str) -> str:
    """What VSF says to a model of this class: "supported", "refused", NO_TEXT or NOWHERE."""
    families, refused = known()
    if cls == NO_TEXT:
        return cls
    return "supported" if cls in families else "refused" if cls in refused else NOWHERE


def tally(templates: list[Template]) -> dict[tuple[str, str], int]:
    """(what users call a model, VSF's verdict) -> uses at CFG 1, most first."""
    uses: dict[tuple[str, str], int] = {}
    for template in templates:
        if template.at_cfg_1:
            name, cls = template.model
            key = name, verdict(cls)
            uses[key] = uses.get(key, 0) + template.uses
    return dict(sorted(uses.items(), key=lambda item: -item[1]))


def report(templates: list[Template], version: str) -> str:
    """The table, and the share of the uses that VSF works in among those of models that take a text."""
    uses = tally(templates)
    at_cfg_1 = [t for t in templates if t.at_cfg_1]
    without_text = sum(n for (_, said), n in uses.items() if said == NO_TEXT)
    total = sum(uses.values()) - without_text
    lines = [f"ComfyUI's templates, {version}: {len(templates)} have a sampler; {len(at_cfg_1)} of them run at CFG 1, with "
             f"{sum(uses.values()):,} uses.", "", "| model | uses | share | VSF |", "|---|---|---|---|"]  # fmt: skip
    for (name, said), n in uses.items():
        if said != NO_TEXT:
            lines.append(f"| {name} | {n:,} | {n / max(total, 1):.1%} | {said} |")
    supported = sum(n for (_, said), n in uses.items() if said == "supported")
    lines += ["", f"Not counted: {without_text:,} uses of models that take no text.",
              f"Supported: {supported:,} of {total:,} uses, {supported / max(total, 1):.1%}."]  # fmt: skip
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the report."""
    if arguments:
        folder, version = Path(arguments[0]), arguments[0]
    else:
        package = metadata.distribution(PACKAGE)
        folder, version = Path(package.locate_file(PACKAGE.replace("-", "_"))), f"{PACKAGE} {package.version}"
    print(report(read_templates(folder), version))


if __name__ == "__main__":
    main(sys.argv[1:])
