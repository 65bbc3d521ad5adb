"""tools/usage.py on the templates package that is installed, and what it counts."""
from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path

import cases
import pytest
from vsf_pack.nodes.glue.families import FAMILIES, REFUSED

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

import usage  # noqa: E402


@pytest.fixture(scope="module")
def templates() -> list[usage.Template]:
    try:
        package = metadata.distribution(usage.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip("this ComfyUI has its templates in another package")
    return usage.read_templates(Path(package.locate_file(usage.PACKAGE.replace("-", "_"))))


def test_reads_the_list_of_the_pack():
    assert usage.known() == (FAMILIES, REFUSED)


@pytest.mark.parametrize("name", dict.fromkeys(cls for _, cls in usage.MODELS.values() if cls.startswith("comfy.")))
def test_classes_are_real(name):
    """In VSF's lists, or in no module that this ComfyUI has; an older one may have the module without the class."""
    module, cls = name.rsplit(".", 1)
    try:
        exists = hasattr(importlib.import_module(module), cls)
    except ModuleNotFoundError:
        return
    assert exists or cases.VERSION < (0, 30, 0)
    assert name in FAMILIES or name in REFUSED


def test_installed_templates(templates):
    by_name = {t.name: t for t in templates}
    assert len(by_name) == len(templates) > 100
    turbo, sdxl = by_name["image_z_image_turbo"], by_name["sdxl_simple_example"]
    assert turbo.at_cfg_1 and turbo.model[1] == "comfy.ldm.lumina.model.NextDiT" and turbo.uses > 0
    assert not sdxl.at_cfg_1 and sdxl.model[1] == "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel"
    assert by_name["flux_schnell"].at_cfg_1 and by_name["flux_schnell"].model[1] == "comfy.ldm.flux.model.Flux"


def test_almost_every_model_is_recognised(templates):
    """If this fails with a newer package, its models want patterns in MODELS."""
    run = [t for t in templates if t.at_cfg_1]
    unknown = sum(t.uses for t in run if t.model[0] == t.name)
    assert unknown <= 0.02 * sum(t.uses for t in run)


def test_shares_add_up(templates):
    uses = usage.tally(templates)
    assert sum(uses.values()) == sum(t.uses for t in templates if t.at_cfg_1)
    supported = sum(t.uses for t in templates if t.at_cfg_1 and t.model[1] in FAMILIES)
    total = sum(t.uses for t in templates if t.at_cfg_1 and t.model[1] != usage.NO_TEXT)
    assert f"Supported: {supported:,} of {total:,} uses, {supported / total:.1%}." in usage.report(templates, "these")


def sampler(cfg: float, mode: int = 0) -> dict:
    return {"type": "KSampler", "mode": mode, "widgets_values": [1, "fixed", 4, cfg, "euler", "simple", 1.0]}


def loader(file: str, mode: int = 0) -> dict:
    return {"type": "UNETLoader", "mode": mode, "widgets_values": [file, "default"], "outputs": [{"type": "MODEL"}]}


def read(*nodes: dict, subgraph: list[dict] | None = None) -> usage.Template | None:
    workflow = {"nodes": list(nodes), "definitions": {"subgraphs": [{"id": "inner", "nodes": subgraph or []}]}}
    return usage.read_template("name", 3, workflow)


def test_what_counts_as_cfg_1():
    assert read(sampler(1), loader("wan2.1.safetensors")).at_cfg_1
    assert not read(sampler(4), loader("wan2.1.safetensors")).at_cfg_1
    assert read(sampler(4), loader("wan2.1_lightx2v_4steps.safetensors")).at_cfg_1
    assert read({"type": "SamplerCustomAdvanced"}, {"type": "BasicGuider"}).at_cfg_1
    assert read({"type": "SamplerCustomAdvanced"}, {"type": "LTXVDualCFGGuider", "widgets_values": [1, 1]}).at_cfg_1
    assert read(loader("wan2.1.safetensors")) is None


@pytest.mark.parametrize("mode", [usage.MUTED, usage.BYPASSED])
def test_what_does_not_run_does_not_count(mode):
    model = loader("krea2.safetensors")
    assert read(sampler(1, mode), model) is None
    assert not read(sampler(5), model, loader("krea2_turbo.safetensors", mode)).at_cfg_1
    assert read({"type": "inner", "mode": mode}, model, subgraph=[sampler(1)]) is None
    assert read({"type": "inner"}, subgraph=[sampler(1), model]).model[0] == "Krea 2"
    assert read(model, subgraph=[sampler(1)]) is None


def test_a_helper_without_text_does_not_hide_the_model():
    both = read(sampler(1), loader("SeedVR2.safetensors"), loader("Flux1-Dev.safetensors"))
    assert both.model[1] == "comfy.ldm.flux.model.Flux"
    assert usage.verdict(read(sampler(1), loader("seedvr2.safetensors")).model[1]) == usage.NO_TEXT
    unknown = read(sampler(1), loader("tomorrow.safetensors"))
    assert unknown.model == ("name", usage.NOWHERE) and usage.verdict(usage.NOWHERE) == usage.NOWHERE


def test_a_folder_without_templates(tmp_path):
    with pytest.raises(SystemExit, match="expected a folder with the templates' index.json, found none below"):
        usage.read_templates(tmp_path)
