"""Build the shipped workflows: VSF Prompt beside the model, one sampler, one picture or video.

Next to it stands the same without a negative, bypassed. Models and prompts are in recipes.py; this is the layout, and
write_workflows.py writes the files. tests/server checks that they are what this builds, and that the real ComfyUI and its real
frontend accept them.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

from recipes import Expert, Recipe
from workflow_graph import BLUE, DARK, GREEN, ORANGE, RED, SHAPES, Column, Graph, Out

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
FPS = 16

BYPASSED = 4  # a node's mode in ComfyUI (LiteGraph's LGraphEventMode.BYPASS)
WITH, WITHOUT = "With VSF", "Without a negative"  # titles of the nodes that save

HOW_TO = """## A negative prompt at CFG 1

1. **{box}**: above, what the {thing} shows; below, what must not be in it: a *thing*, in one to four words, such as \
`{negative}`. One a line. Not `no {negative}`, and not `low quality`: it removes things.
2. **Run.**
3. **Still there?** Raise `strength`, up to 2. **The {thing} suffers?** Lower it. 0 is off.

Leave CFG at 1. Another {thing}: another seed.

*VSF Prompt was measured on small models. {model} itself could not be run where this workflow was made.*"""

SEE = """## See what the negative does

**VSF Prompt**: above, the {thing}; below, the negative `{negative}`. **Run**, then look to the right.

- **VSF Heat Map**: the brighter a place, the harder it was pushed away from the negative.
- **The map**: the same without the picture. **Numbers**: how hard, step by step, from 0 to 1.

Bright where the thing would be: it works there. *Still there?* Raise `strength`. Bright all over, and the {thing} suffers? \
Lower it, or use fewer words. Small numbers everywhere? Name the thing in other words.

`show` on the heat map: `each step` shows when it acts.

*VSF Prompt was measured on small models. {model} itself could not be run where this workflow was made.*"""

COMPARE = """The same {thing} without the negative, switched off. To switch it on: right-click the title of this frame, \
**Set Group Nodes to Always**, Run. It takes as long again."""


@dataclasses.dataclass
class Parts:
    """What the columns hand on."""

    models: list[Out]  # of each expert, as loaded
    clip: Out
    vae: Out
    guided: list[Out] = dataclasses.field(default_factory=list)  # the models with the negative inside
    positive: Out | None = None
    zero: Out | None = None  # the sampler's own negative
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


def thing(recipe: Recipe) -> str:
    """What a recipe makes, in a word."""
    return "video" if recipe.video else "picture"


def notes(column: Column, recipe: Recipe) -> None:
    """How to use it, and where the models are."""
    column.y = 10  # no group around them
    box = "Green and red box" if len(recipe.experts) > 1 else "VSF Prompt"
    how = SEE if recipe.sees else HOW_TO
    text = how.format(thing=thing(recipe), box=box, negative=recipe.negative, model=recipe.model)
    column.add("MarkdownNote", text, title="How to use", colours=DARK, height=400 if recipe.sees else 360)
    found = model_files(recipe)
    height = min(180 + 50 * len(found) + len(recipe.note) // 2, 540)  # a note scrolls
    column.add("MarkdownNote", links_note(found, recipe.note), title="Model links", colours=DARK, height=height)


def loaders(column: Column, recipe: Recipe) -> Parts:
    """Step 1: the models, ready for VSF Prompt or a sampler."""
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
    """Step 2: what is wanted, and what is not. Two experts each have a VSF Prompt, which read the same two texts."""
    texts = {}
    if len(recipe.experts) > 1:
        shown = column.add("PrimitiveStringMultiline", recipe.positive, title=f"What the {thing(recipe)} shows", colours=GREEN)
        unwanted = column.add("PrimitiveStringMultiline", recipe.negative, title="What must not be in it", colours=RED)
        texts = {"prompt": (shown, "STRING"), "negative": (unwanted, "STRING")}
    for expert, model in zip(recipe.experts, parts.models, strict=True):
        words = ("", "") if texts else (recipe.positive, recipe.negative)
        name = f"VSF Prompt: {expert.name}" if expert.name else None
        height = 268 if texts else None  # mask and curve among its inputs, in Nodes 2.0
        links = {"model": model, "clip": parts.clip, **texts}
        made = column.add("VSFPrompt", *words, 1.0, title=name, colours=BLUE, height=height, links=links)
        parts.guided.append((made, "MODEL"))
        parts.positive = parts.positive or (made, "positive")  # of the same text, one is as good as the other
    if recipe.guidance is not None:
        links = {"conditioning": parts.positive}
        guided = column.add("FluxGuidance", recipe.guidance, title="Guidance of Flux.1 dev", links=links)
        parts.positive = (guided, "CONDITIONING")
    column.close("Step 2 - Prompt and negative", ORANGE)


def size_and_seed(column: Column, recipe: Recipe, parts: Parts) -> None:
    """Step 3: what the comparison shares."""
    size = f"{thing(recipe).capitalize()} size"
    zero = "The sampler's negative: unused"
    made = column.add("ConditioningZeroOut", title=zero, links={"conditioning": parts.positive})
    parts.zero = (made, "CONDITIONING")
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
            "noise": (column.add("RandomNoise", recipe.seed, "fixed", title="Seed"), "NOISE"),
        }
    else:
        parts.latent = (column.add(recipe.latent, *recipe.size, 1, title=size), "LATENT")
    if not parts.custom:
        parts.seed = (column.add("PrimitiveInt", recipe.seed, "fixed", title="Seed"), "INT")
    column.close("Step 3 - Size and seed")


def custom(recipe: Recipe) -> bool:
    """Whether the sigmas come from a node, and SamplerCustomAdvanced samples."""
    return recipe.scheduler in SHAPES


def sample(column: Column, recipe: Recipe, parts: Parts, models: list[Out]) -> Out:
    """The sampler or samplers; the latent that comes out."""
    words = {"positive": parts.positive, "negative": parts.zero}
    if parts.custom:
        guider = column.add("CFGGuider", 1.0, title="Guider", links={"model": models[0], **words})
        links = {**parts.custom, "guider": (guider, "GUIDER"), "latent_image": parts.latent}
        return column.add("SamplerCustomAdvanced", title="Sampler", links=links), "output"
    if len(models) == 1:
        settings = (recipe.seed, "fixed", recipe.steps, 1.0, recipe.sampler, recipe.scheduler, 1.0)
        links = {"model": models[0], **words, "latent_image": parts.latent, "seed": parts.seed}
        return column.add("KSampler", *settings, links=links), "LATENT"
    latent, half = parts.latent, recipe.steps // len(models)
    for number, (expert, model) in enumerate(zip(recipe.experts, models, strict=True)):
        first, last = number == 0, number == len(models) - 1
        settings = (
            *("enable" if first else "disable", recipe.seed if first else 0, "fixed", recipe.steps, 1.0),
            *(recipe.sampler, recipe.scheduler, number * half, (number + 1) * half, "disable" if last else "enable"),
        )
        links = {"model": model, **words, "latent_image": latent, **({"noise_seed": parts.seed} if first else {})}
        latent = (column.add("KSamplerAdvanced", *settings, title=expert.name.capitalize(), links=links), "LATENT")
    return latent


def save(column: Column, recipe: Recipe, images: Out, title: str, prefix: str, height: int) -> None:
    """The node that saves, and for a video the one that makes it."""
    if recipe.video:
        video = (column.add("CreateVideo", FPS, 8, links={"images": images}), "VIDEO")
        column.add("SaveVideo", prefix, "auto", "auto", title=title, links={"video": video}, height=height)
    else:
        column.add("SaveImage", prefix, title=title, links={"images": images}, height=height)


def comparison(column: Column, recipe: Recipe, parts: Parts) -> None:
    """The same without a negative, bypassed: a note, all but the last node as mere titles, and what they make."""
    nodes = column.graph.nodes
    column.add("MarkdownNote", COMPARE.format(thing=thing(recipe)), title="Compare", colours=DARK, height=130)
    first = len(nodes)
    latent = sample(column, recipe, parts, parts.models)
    images = (column.add("VAEDecode", links={"samples": latent, "vae": parts.vae}), "IMAGE")
    save(column, recipe, images, WITHOUT, "VSF/without", 200)
    *others, last = nodes[first:]
    column.collapse(others)
    last["pos"][1] = column.y
    column.y += last["size"][1] + column.GAP
    for node in nodes[first:]:
        node["mode"] = BYPASSED
    column.close(f"Compare: {WITHOUT.lower()}")


def heat_map(saved: Column, recipe: Recipe, parts: Parts, latent: Out, images: Out) -> None:
    """Step 6: what the negative does: over the picture, alone, and in numbers."""
    links = {"model": parts.guided[0], "latent": latent, "image": images}
    seen = saved.add("VSFHeatMap", 0, "average", 0.7, 0.0, colours=BLUE, links=links)
    saved.close("Step 6 - See what the negative does", ORANGE)
    column = Column(saved.graph, saved.right, 340)
    column.add("PreviewImage", title="The map", links={"images": (seen, "map")})
    column.add("PreviewAny", title="Numbers", links={"source": (seen, "numbers")}, height=300)
    column.close("How hard")


def build(recipe: Recipe) -> dict:
    """One workflow."""
    graph, experts = Graph(recipe.core), len(recipe.experts)
    many = experts > 1 or custom(recipe)  # too many nodes for one column of prompt, size and seed
    notes(column := Column(graph, 0, 280), recipe)
    parts = loaders(column := Column(graph, column.right, 280), recipe)
    prompts(column := Column(graph, column.right, 330 if many else 370), recipe, parts)
    if many:
        column = Column(graph, column.right, 280)
    size_and_seed(column, recipe, parts)
    latent = sample(sampled := Column(graph, column.right, 280), recipe, parts, parts.guided)
    images = (sampled.add("VAEDecode", links={"samples": latent, "vae": parts.vae}), "IMAGE")
    sampled.close("Step 4 - Sample")
    saved = Column(graph, sampled.right, 300 if recipe.video else 340)
    save(saved, recipe, images, WITH, "VSF/with", 230 if recipe.video else 400)
    saved.close(f"Step 5 - {thing(recipe).capitalize()}")
    if recipe.sees:
        heat_map(Column(graph, saved.right, 340), recipe, parts, latent, images)
        return graph.workflow()
    comparison(saved if experts > 1 else sampled, recipe, parts)
    return graph.workflow()


def with_comparison(workflow: dict) -> dict:
    """The same workflow with its comparison switched on."""
    result = copy.deepcopy(workflow)
    for node in result["nodes"]:
        node["mode"] = 0
    return result
