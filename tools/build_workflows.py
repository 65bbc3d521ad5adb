"""Build the shipped workflows/*.json: two pictures of one seed side by side, without a negative and with VSF.

    python tools/build_workflows.py          writes them (and the testbed's demo workflow)

The starting values and prompts stand at the top; tests/server checks that the files are what this builds and that the real
ComfyUI and its real frontend accept them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
PACK_ID, PACK_VERSION = "vsf-guidance", "0.1.0"  # so that "install missing nodes" finds the pack
CORE_VERSION = "0.16.3"  # the oldest ComfyUI that the pack supports

HUB = "https://huggingface.co"
SD35_TEXT = f"{HUB}/Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/text_encoders"
FLUX_TEXT = f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main"
FLUX_VAE = f"{HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs between the workflows."""

    title: str
    model: str  # address of the diffusion model's file
    checkpoint: bool  # the file holds the VAE too (CheckpointLoaderSimple), or the model alone (UNETLoader)
    text: tuple[str, ...]  # addresses of the text encoders' files
    steps: int
    scale: float
    bias: float
    positive: str
    negative: str
    seed: int
    guidance: float | None = None  # Flux.1 dev's distilled guidance
    note: str = ""


RECIPES = (
    Recipe(
        title="SD3.5 Large Turbo - VSF negative",
        model=f"{HUB}/stabilityai/stable-diffusion-3.5-large-turbo/resolve/main/sd3.5_large_turbo.safetensors",
        checkpoint=True,
        text=(
            f"{SD35_TEXT}/clip_l.safetensors",
            f"{SD35_TEXT}/clip_g.safetensors",
            f"{SD35_TEXT}/t5xxl_fp8_e4m3fn_scaled.safetensors",
        ),
        steps=8,
        scale=2.0,
        bias=0.2,
        positive="studio portrait photo of an old wizard in a dark blue robe, soft light, plain grey background",
        negative="pointed hat",
        seed=20251122,
        note="The model's page asks you to log in and accept its licence before the download.",
    ),
    Recipe(
        title="Flux.1 schnell - VSF negative",
        model=f"{HUB}/Comfy-Org/flux1-schnell/resolve/main/flux1-schnell.safetensors",
        checkpoint=False,
        text=(f"{FLUX_TEXT}/clip_l.safetensors", f"{FLUX_TEXT}/t5xxl_fp16.safetensors"),
        steps=4,
        scale=2.5,
        bias=0.2,
        positive="a cosy living room on Christmas Eve, fireplace, armchairs, warm evening light",
        negative="christmas tree",
        seed=20251123,
    ),
    Recipe(
        title="Flux.1 dev - VSF negative",
        model=f"{HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
        checkpoint=False,
        text=(f"{FLUX_TEXT}/clip_l.safetensors", f"{FLUX_TEXT}/t5xxl_fp16.safetensors"),
        steps=20,
        scale=3.8,
        bias=0.2,
        positive="a street cafe in Paris on a rainy evening, people walking past, wet cobblestones, reflections of the lamps",
        negative="open umbrellas",
        seed=20251124,
        guidance=3.5,
    ),
)

HOW_TO = """## A negative prompt at CFG 1

1. **Green box:** what the picture shows. **Red box:** what must not be in it.
   Name a *thing*, in 2 to 4 words: `{negative}`.
   Not `no {negative}`, not `low quality, blurry`: there is no thing to push away in those.
2. **Run.** Both pictures have the same seed: left without a negative, right with VSF.
3. **Still there?** Raise `scale` first, in steps of 0.5.
4. **Too much?** You see it: flat patches, wrong colours, a subject that dissolves. Lower `scale`, or raise `bias` (gentler).
5. **Rough edges?** `end_percent` a little below 1 leaves the last steps to clean up; too low, and the thing comes back.

`scale` 0 is off: exactly the left picture. Leave CFG at 1: VSF is the negative prompt, the sampler's own is not used."""

# Node types: inputs (name, type; a widget's type in lower case) and outputs (name, type), in ComfyUI's order.
SHAPES = {
    "CheckpointLoaderSimple": ([("ckpt_name", "combo")], ["MODEL", "CLIP", "VAE"]),
    "UNETLoader": ([("unet_name", "combo"), ("weight_dtype", "combo")], ["MODEL"]),
    "VAELoader": ([("vae_name", "combo")], ["VAE"]),
    "TripleCLIPLoader": ([("clip_name1", "combo"), ("clip_name2", "combo"), ("clip_name3", "combo")], ["CLIP"]),
    "DualCLIPLoader": ([("clip_name1", "combo"), ("clip_name2", "combo"), ("type", "combo"), ("device", "combo")], ["CLIP"]),
    "CLIPTextEncode": ([("clip", "CLIP"), ("text", "string")], ["CONDITIONING"]),
    "FluxGuidance": ([("conditioning", "CONDITIONING"), ("guidance", "float")], ["CONDITIONING"]),
    "ConditioningZeroOut": ([("conditioning", "CONDITIONING")], ["CONDITIONING"]),
    "EmptySD3LatentImage": ([("width", "int"), ("height", "int"), ("batch_size", "int")], ["LATENT"]),
    "PrimitiveInt": ([("value", "int")], ["INT"]),
    "VSFTextEncode": ([("clip", "CLIP"), ("text", "string")], ["CONDITIONING"]),
    "VSFGuidance": (
        [("model", "MODEL"), ("negative", "CONDITIONING"), ("scale", "float"), ("bias", "float"), ("start_percent", "float"),
         ("end_percent", "float")],
        ["MODEL"],
    ),
    "KSampler": (
        [
            *[("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")],
            *[("seed", "int"), ("steps", "int"), ("cfg", "float"), ("sampler_name", "combo"), ("scheduler", "combo")],
            ("denoise", "float"),
        ],
        ["LATENT"],
    ),
    "VAEDecode": ([("samples", "LATENT"), ("vae", "VAE")], ["IMAGE"]),
    "SaveImage": ([("images", "IMAGE"), ("filename_prefix", "string")], []),
    "MarkdownNote": ([], []),
}  # fmt: skip
GREEN, RED, BLUE, DARK = ("#232", "#353"), ("#322", "#533"), ("#2a363b", "#3f5159"), ("#222", "#000")


class Graph:
    """A workflow in the UI format 0.4 in the making."""

    def __init__(self) -> None:
        self.nodes: list[dict] = []
        self.links: list[list] = []
        self.groups: list[dict] = []

    def node(
        self,
        kind: str,
        pos: tuple[int, int],
        size: tuple[int, int],
        *widgets: object,
        title: str | None = None,
        colours: tuple[str, str] | None = None,
        models: list[dict] | None = None,
    ) -> dict:
        """Add a node; its inputs are joined by `link`."""
        inputs, outputs = SHAPES[kind]
        ours = kind.startswith("VSF")
        properties: dict = {"Node name for S&R": kind}
        if kind != "MarkdownNote":
            properties |= {"cnr_id": PACK_ID if ours else "comfy-core", "ver": PACK_VERSION if ours else CORE_VERSION}
        if models:
            properties["models"] = models
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": list(pos),
            "size": list(size),
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [{"name": name, "type": wanted, "link": None} for name, wanted in inputs if wanted.isupper()],
            "outputs": [{"name": kind_, "type": kind_, "links": []} for kind_ in outputs],
            "properties": properties,
            "widgets_values": list(widgets),
        }
        if title:
            node["title"] = title
        if colours:
            node["color"], node["bgcolor"] = colours
        self.nodes.append(node)
        return node

    def link(self, source: dict, output: str, target: dict, name: str) -> None:
        """Join an output to an input; a widget gets an input of its own."""
        slot = next(i for i, found in enumerate(source["outputs"]) if found["name"] == output)
        if name not in [found["name"] for found in target["inputs"]]:
            target["inputs"].append({"name": name, "type": output, "widget": {"name": name}, "link": None})
        place = next(i for i, found in enumerate(target["inputs"]) if found["name"] == name)
        number = len(self.links) + 1
        self.links.append([number, source["id"], slot, target["id"], place, output])
        source["outputs"][slot]["links"].append(number)
        target["inputs"][place]["link"] = number

    def group(self, title: str, x: int, y: int, width: int, height: int, colour: str = "#3f789e") -> None:
        """A titled frame around nodes."""
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [x, y, width, height],
                "color": colour,
                "font_size": 24,
                "flags": {},
            }
        )

    def workflow(self) -> dict:
        """The file's content."""
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
            "version": 0.4,
        }


def model(address: str, directory: str) -> dict:
    """A download link as loaders carry it."""
    return {"name": address.rsplit("/", 1)[1], "url": address, "directory": directory}


def links_note(files: list[dict], note: str) -> str:
    """The note with the model links and the folders they go to."""
    lines = ["## Model links"]
    for directory in dict.fromkeys(file["directory"] for file in files):
        lines += ["", f"**{directory}**", ""]
        lines += [f"- [{file['name']}]({file['url']})" for file in files if file["directory"] == directory]
    tree = ["ComfyUI/", "\u2514\u2500\u2500 models/"]
    for directory in dict.fromkeys(file["directory"] for file in files):
        tree.append(f"    \u251c\u2500\u2500 {directory}/")
        tree += [f"    \u2502   \u2514\u2500\u2500 {file['name']}" for file in files if file["directory"] == directory]
    return "\n".join([*lines, "", "```", *tree, "```", *(["", note] if note else [])])


def build(recipe: Recipe) -> dict:
    """One workflow."""
    graph = Graph()
    models = [model(recipe.model, "checkpoints" if recipe.checkpoint else "diffusion_models")]
    texts = [model(address, "text_encoders") for address in recipe.text]
    vaes = [] if recipe.checkpoint else [model(FLUX_VAE, "vae")]

    graph.node("MarkdownNote", (0, 10), (430, 380), HOW_TO.format(negative=recipe.negative), title="How to use", colours=DARK)
    graph.node(
        "MarkdownNote",
        (0, 440),
        (430, 360),
        links_note(models + texts + vaes, recipe.note),
        title="Model links",
        colours=DARK,
    )

    names = [file["name"] for file in texts]
    if recipe.checkpoint:
        loader = vae = graph.node("CheckpointLoaderSimple", (490, 60), (340, 98), models[0]["name"], models=models)
        clip = graph.node("TripleCLIPLoader", (490, 210), (340, 106), *names, models=texts)
    else:
        loader = graph.node("UNETLoader", (490, 60), (340, 82), models[0]["name"], "default", models=models)
        clip = graph.node("DualCLIPLoader", (490, 190), (340, 130), *names, "flux", "default", models=texts)
        vae = graph.node("VAELoader", (490, 370), (340, 58), vaes[0]["name"], models=vaes)
    graph.group("Step 1 - Models", 480, -20, 360, 470)

    size = graph.node("EmptySD3LatentImage", (490, 540), (340, 106), 1024, 1024, 1, title="Picture size")
    seed = graph.node("PrimitiveInt", (490, 700), (340, 82), recipe.seed, "fixed", title="Seed of both pictures")
    graph.group("Step 3 - Size and seed", 480, 460, 360, 340)

    positive = graph.node(
        "CLIPTextEncode", (880, 60), (400, 190), recipe.positive, title="Prompt (what the picture shows)", colours=GREEN
    )
    negative = graph.node(
        "VSFTextEncode",
        (880, 310),
        (400, 120),
        recipe.negative,
        title="VSF negative (what must not be there)",
        colours=RED,
    )
    shown, output = positive, "CONDITIONING"
    if recipe.guidance is not None:
        shown = graph.node("FluxGuidance", (880, 500), (400, 58), recipe.guidance, title="Guidance of Flux.1 dev")
        graph.link(positive, output, shown, "conditioning")
    zero = graph.node("ConditioningZeroOut", (880, 640), (400, 26), title="The sampler's own negative (unused at CFG 1)")
    graph.group("Step 2 - Prompts", 870, -20, 420, 820)

    def picture(x: int, title: str, prefix: str, colours: tuple[str, str] | None) -> dict:
        """A sampler and what follows it; the model is still to be linked."""
        settings = (recipe.seed, "fixed", recipe.steps, 1.0, "euler", "simple", 1.0)
        sampler = graph.node("KSampler", (x, 300), (380, 262), *settings, title=f"KSampler: {title}")
        decode = graph.node("VAEDecode", (x, 630), (380, 46))
        save = graph.node("SaveImage", (x, 740), (380, 440), prefix, title=title, colours=colours)
        for source, kind, name in (
            (shown, output, "positive"),
            (zero, output, "negative"),
            (size, "LATENT", "latent_image"),
            (seed, "INT", "seed"),
        ):
            graph.link(source, kind, sampler, name)
        graph.link(sampler, "LATENT", decode, "samples")
        graph.link(vae, "VAE", decode, "vae")
        graph.link(decode, "IMAGE", save, "images")
        return sampler

    graph.link(clip, "CLIP", positive, "clip")
    graph.link(clip, "CLIP", negative, "clip")
    graph.link(positive, output, zero, "conditioning")
    plain = picture(1330, "Without a negative", "VSF/without", None)
    graph.link(loader, "MODEL", plain, "model")
    graph.group("Without a negative", 1320, -20, 400, 1220)
    vsf = graph.node("VSFGuidance", (1770, 60), (380, 170), recipe.scale, recipe.bias, 0.0, 1.0, colours=BLUE)
    graph.link(loader, "MODEL", vsf, "model")
    graph.link(negative, output, vsf, "negative")
    guided = picture(1770, "With VSF", "VSF/with", BLUE)
    graph.link(vsf, "MODEL", guided, "model")
    graph.group("Step 4 - With VSF", 1760, -20, 400, 1220, "#b06634")
    return graph.workflow()


def dump(workflow: dict) -> str:
    """The file's text: the same every time."""
    return json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    """Every file that this builds, with its text."""
    from testbed_workflows import demo_files  # it needs this module

    return {WORKFLOWS / f"{recipe.title}.json": dump(build(recipe)) for recipe in RECIPES} | demo_files()


def main() -> None:
    """Write the files that are not as they should be."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
