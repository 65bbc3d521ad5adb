"""Build the shipped workflows/*.json: two pictures or videos of one seed side by side, without a negative and with VSF.

    python tools/build_workflows.py          writes them (and the testbed's demo workflow)

Models, starting values and prompts are in recipes.py; this is the layout. tests/server checks that the files are what this
builds and that the real ComfyUI and its real frontend accept them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recipes import RECIPES, Expert, Recipe
from workflow_graph import BLUE, DARK, GREEN, ORANGE, RED, SHAPES, Column, Graph, Out, dump

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
FPS = 16

HOW_TO = """## A negative prompt at CFG 1

1. **Green box:** what the {thing} shows. **Red box:** what must not be in it.
   Name a *thing*, in 2 to 4 words: `{negative}`.
   Not `no {negative}`, not `low quality, blurry`: there is no thing to push away in those.
2. **Run.** Both {thing}s have the same seed: left without a negative, right with VSF.
3. **Still there?** Raise `scale` first, in steps of 0.5.
4. **Too much?** You see it: flat patches, wrong colours, a subject that dissolves. Lower `scale`, or raise `bias` (gentler).
5. **Rough edges?** `end_percent` a little below 1 leaves the last steps to clean up; too low, and the thing comes back.

`scale` 0 is off: exactly the left {thing}. Leave CFG at 1: VSF is the negative prompt, the sampler's own is not used.

**Where `scale` {scale:g} and `bias` {bias:g} come from:** {source}"""


@dataclasses.dataclass
class Parts:
    """What the columns hand on."""

    models: list[Out]  # of each expert
    clip: Out
    vae: Out
    positive: Out | None = None
    zero: Out | None = None  # the sampler's own negative
    negative: Out | None = None  # VSF's
    latent: Out | None = None
    seed: Out | None = None
    custom: dict[str, Out] | None = None  # what SamplerCustomAdvanced wants beside a guider and a latent


def file(address: str, directory: str) -> dict:
    """A download link as loaders carry it."""
    return {"name": address.rsplit("/", 1)[1], "url": address, "directory": directory}


def model_file(recipe: Recipe, expert: Expert) -> dict:
    """An expert's model."""
    return file(expert.model, "checkpoints" if recipe.checkpoint else "diffusion_models")


def model_files(recipe: Recipe) -> list[dict]:
    """All that has to be downloaded."""
    found = [model_file(recipe, expert) for expert in recipe.experts]
    found += [file(expert.lora, "loras") for expert in recipe.experts if expert.lora]
    found += [file(address, "text_encoders") for address in recipe.text]
    return found + ([file(recipe.vae, "vae")] if recipe.vae else [])


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


def notes(column: Column, recipe: Recipe) -> None:
    """How to use it, and where the models are."""
    column.y = 10  # no group around them
    words = {name: getattr(recipe, name) for name in ("negative", "scale", "bias", "source")}
    text = HOW_TO.format(thing="video" if recipe.video else "picture", **words)
    column.add("MarkdownNote", text, title="How to use", colours=DARK, height=400)
    found = model_files(recipe)
    height = 200 + 50 * len(found) + len(recipe.note) // 3
    column.add("MarkdownNote", links_note(found, recipe.note), title="Model links", colours=DARK, height=height)


def loaders(column: Column, recipe: Recipe) -> Parts:
    """Step 1: the models, ready for VSF Guidance or a sampler."""
    models, last = [], None
    for expert in recipe.experts:
        loaded = model_file(recipe, expert)
        name = f"Model: {expert.name}" if expert.name else None
        widgets = [loaded["name"]] if recipe.checkpoint else [loaded["name"], "default"]
        kind = "CheckpointLoaderSimple" if recipe.checkpoint else "UNETLoader"
        last = column.add(kind, *widgets, models=[loaded], title=name)
        model = (last, "MODEL")
        if expert.lora:
            lora = file(expert.lora, "loras")
            name = f"Lightning LoRA: {expert.name}" if expert.name else "Lightning LoRA"
            links = {"model": model}
            model = (column.add("LoraLoaderModelOnly", lora["name"], 1.0, models=[lora], title=name, links=links), "MODEL")
        if recipe.shift:
            model = (column.add(*recipe.shift, links={"model": model}), "MODEL")
        models.append(model)
    clip = vae = last  # a checkpoint's
    if recipe.text:
        texts = [file(address, "text_encoders") for address in recipe.text]
        kind = {1: "CLIPLoader", 2: "DualCLIPLoader", 3: "TripleCLIPLoader"}[len(texts)]
        options = [recipe.text_type, "default"] if recipe.text_type else []
        clip = column.add(kind, *(text["name"] for text in texts), *options, models=texts)
    if recipe.vae:
        found = file(recipe.vae, "vae")
        vae = column.add("VAELoader", found["name"], models=[found])
    column.close("Step 1 - Models")
    return Parts(models, (clip, "CLIP"), (vae, "VAE"))


def prompts(column: Column, recipe: Recipe, parts: Parts) -> None:
    """Step 2: what is wanted, and what is not."""
    thing = "video" if recipe.video else "picture"
    clip = {"clip": parts.clip}
    shown = column.add(
        "CLIPTextEncode", recipe.positive, title=f"Prompt (what the {thing} shows)", colours=GREEN, links=clip
    )
    negative = column.add(
        "VSFTextEncode", recipe.negative, title="VSF negative (what must not be there)", colours=RED, links=clip
    )
    parts.negative, parts.positive = (negative, "CONDITIONING"), (shown, "CONDITIONING")
    if recipe.guidance is not None:
        guided = column.add(
            "FluxGuidance", recipe.guidance, title="Guidance of Flux.1 dev", links={"conditioning": parts.positive}
        )
        parts.positive = (guided, "CONDITIONING")
    zero = column.add(
        "ConditioningZeroOut",
        title="The sampler's own negative (unused at CFG 1)",
        links={"conditioning": (shown, "CONDITIONING")},
    )
    parts.zero = (zero, "CONDITIONING")
    column.close("Step 2 - Prompts")


def size_and_seed(column: Column, recipe: Recipe, parts: Parts) -> None:
    """Step 3: what both pictures share."""
    thing = "video" if recipe.video else "picture"
    size = f"{thing.capitalize()} size"
    title = f"Seed of both {thing}s"
    if recipe.start_image:
        start = column.add("LoadImage", recipe.start_image, "image", title="Start picture")
        links = {"positive": parts.positive, "negative": parts.zero, "vae": parts.vae, "start_image": (start, "IMAGE")}
        made = column.add(recipe.latent, *recipe.size, recipe.frames, 1, title=size, links=links)
        parts.positive, parts.zero, parts.latent = (made, "positive"), (made, "negative"), (made, "latent")
    elif recipe.video:
        parts.latent = (column.add(recipe.latent, *recipe.size, recipe.frames, 1, title=size), "LATENT")
    elif custom(recipe):  # the scheduler needs the size too
        sides = {
            name: (column.add("PrimitiveInt", value, "fixed", title=name.capitalize()), "INT")
            for name, value in zip(("width", "height"), recipe.size, strict=True)
        }
        parts.latent = (column.add(recipe.latent, *recipe.size, 1, title=size, links=sides), "LATENT")
        parts.custom = {
            "sigmas": (column.add(recipe.scheduler, recipe.steps, *recipe.size, links=sides), "SIGMAS"),
            "sampler": (column.add("KSamplerSelect", recipe.sampler), "SAMPLER"),
            "noise": (column.add("RandomNoise", recipe.seed, "fixed", title=title), "NOISE"),
        }
    else:
        parts.latent = (column.add(recipe.latent, *recipe.size, 1, title=size), "LATENT")
    if not parts.custom:
        parts.seed = (column.add("PrimitiveInt", recipe.seed, "fixed", title=title), "INT")
    column.close("Step 3 - Size and seed")


def custom(recipe: Recipe) -> bool:
    """Whether the sigmas come from a node, and SamplerCustomAdvanced samples."""
    return recipe.scheduler in SHAPES


def sample(column: Column, recipe: Recipe, parts: Parts, models: list[Out], title: str) -> Out:
    """The sampler or samplers; the latent that comes out."""
    words = {"positive": parts.positive, "negative": parts.zero}
    if parts.custom:
        guider = column.add("CFGGuider", 1.0, title=f"CFGGuider: {title}", links={"model": models[0], **words})
        links = {**parts.custom, "guider": (guider, "GUIDER"), "latent_image": parts.latent}
        return column.add("SamplerCustomAdvanced", title=f"Sampler: {title}", links=links), "output"
    if len(models) == 1:
        settings = (recipe.seed, "fixed", recipe.steps, 1.0, recipe.sampler, recipe.scheduler, 1.0)
        links = {"model": models[0], **words, "latent_image": parts.latent, "seed": parts.seed}
        return column.add("KSampler", *settings, title=f"KSampler: {title}", links=links), "LATENT"
    latent, half = parts.latent, recipe.steps // len(models)
    for number, (expert, model) in enumerate(zip(recipe.experts, models, strict=True)):
        first, last = number == 0, number == len(models) - 1
        settings = (
            *("enable" if first else "disable", recipe.seed if first else 0, "fixed", recipe.steps, 1.0),
            *(recipe.sampler, recipe.scheduler, number * half, (number + 1) * half, "disable" if last else "enable"),
        )
        links = {"model": model, **words, "latent_image": latent, **({"noise_seed": parts.seed} if first else {})}
        options = {"share": (number, len(models)), "title": f"{title}: {expert.name}", "links": links}
        latent = (column.add("KSamplerAdvanced", *settings, **options), "LATENT")
    return latent


def result(column: Column, recipe: Recipe, parts: Parts, guided: bool) -> None:
    """A column with a sampler and what follows it; with VSF Guidance in front, or room for it."""
    title = "With VSF" if guided else "Without a negative"
    colours = BLUE if guided else None
    models, widgets = list(parts.models), (recipe.scale, recipe.bias, 0.0, 1.0)
    if not guided:
        column.skip(SHAPES["VSFGuidance"].height)
    else:
        for number, (expert, model) in enumerate(zip(recipe.experts, parts.models, strict=True)):
            name = f"VSF Guidance: {expert.name}" if expert.name else None
            options = {"title": name, "colours": BLUE, "links": {"model": model, "negative": parts.negative}}
            models[number] = (column.add("VSFGuidance", *widgets, share=(number, len(models)), **options), "MODEL")
    latent = sample(column, recipe, parts, models, title)
    images = (column.add("VAEDecode", links={"samples": latent, "vae": parts.vae}), "IMAGE")
    prefix = "VSF/with" if guided else "VSF/without"
    if recipe.video:
        video = (column.add("CreateVideo", FPS, 8, links={"images": images}), "VIDEO")
        column.add("SaveVideo", prefix, "auto", "auto", title=title, colours=colours, links={"video": video})
    else:
        column.add("SaveImage", prefix, title=title, colours=colours, links={"images": images})
    column.close("Step 4 - With VSF" if guided else title, *([ORANGE] if guided else []))


def build(recipe: Recipe) -> dict:
    """One workflow."""
    graph = Graph(recipe.core)
    notes(column := Column(graph, 0, 430), recipe)
    parts = loaders(column := Column(graph, column.right + 10, 340), recipe)
    prompts(column := Column(graph, column.right, 400), recipe, parts)
    size_and_seed(column, recipe, parts)
    for guided in (False, True):
        result(column := Column(graph, column.right, 380 * len(recipe.experts)), recipe, parts, guided)
    return graph.workflow()


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
