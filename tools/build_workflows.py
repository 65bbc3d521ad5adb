"""Build the shipped workflows: VSF Prompt beside the model, one sampler, one picture or video.

Next to it stands the same without a negative, bypassed. Some show more: a heat map, a mask, the paper's form, or prompts one
after the other along a video, each with a VSF Conditioning. Models and prompts are in recipes.py; this is the layout, and
write_workflows.py writes the files. tests/server checks that they are what this builds, and that the real ComfyUI and its real
frontend accept them.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

from notes import ENGLISH, OTHERS, WORDS, note
from recipes import Expert, Recipe
from workflow_graph import BLUE, DARK, GREEN, ORANGE, RED, SHAPES, Column, Graph, Out

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
BYPASSED = 4  # a node's mode in ComfyUI (LiteGraph's LGraphEventMode.BYPASS)
WITH, WITHOUT = "With VSF", "Without a negative"  # titles of the nodes that save


@dataclasses.dataclass
class Parts:
    """What the columns hand on."""

    models: list[Out]  # of each expert, as loaded
    clip: Out
    vae: Out
    sound: Out | None = None  # the VAE of a video's sound
    guided: list[Out] = dataclasses.field(default_factory=list)  # the models with the negative inside
    positive: Out | None = None
    texts: list[tuple[Out, Out]] = dataclasses.field(default_factory=list)  # of a video's parts: prompt and negative
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
    return found + [file(address, "vae") for address in (recipe.vae, recipe.sound) if address]


def links_note(files: list[dict], note: str) -> str:
    """The note with the model links below the folders they go to."""
    lines = ["## Models, and where they go"]
    for directory in dict.fromkeys(file["directory"] for file in files):
        lines += ["", f"**ComfyUI/models/{directory}**", ""]
        lines += [f"- [{file['name']}]({file['url']})" for file in files if file["directory"] == directory]
    return "\n".join([*lines, *(["", note] if note else [])])


def thing(recipe: Recipe) -> str:
    """What a recipe makes, in a word."""
    return "video" if recipe.video else "picture"


def how_to(recipe: Recipe) -> tuple[str, int]:
    """The note that says how to use it, and its height."""
    if recipe.sees:
        return "see", 400
    if recipe.box:
        return "one_place", 440
    if recipe.shots:
        return "along", 500
    if recipe.scale is not None:
        return "against_itself", 440
    return ("list", 420) if "\n" in recipe.negative else ("how_to", 360)


def noted(recipe: Recipe, *names: str, language: str = ENGLISH) -> str:
    """Notes of this workflow, one below the other."""
    window, overlap = recipe.window
    values = {
        "negative": recipe.unwanted.partition(",")[0],
        "model": recipe.model,
        "window": window,
        "overlap": overlap,
        "more": 4 * ((window + 3) // 4 - overlap // 4),
        "two_models": len(recipe.experts) > 1,
    }
    return "\n\n".join(note(name, language, video=recipe.video, **values) for name in names)


def notes(column: Column, recipe: Recipe) -> None:
    """How to use it in other languages, closed: opened, it lies over the English. That, and where the models are."""
    column.y = 10  # no group around them
    how, height = how_to(recipe)
    below = (*recipe.notes, *(() if recipe.sees else ("compare",)), "measured")
    column.collapse([
        column.add("MarkdownNote", noted(recipe, how, *below, language=language), title=WORDS[language]["title"],
                   colours=DARK, height=height)
        for language in OTHERS
    ])  # fmt: skip
    column.add("MarkdownNote", noted(recipe, how, "measured"), title=WORDS[ENGLISH]["title"], colours=DARK, height=height)
    found, more = model_files(recipe), noted(recipe, *recipe.notes)
    height = min(110 + 50 * len(found) + len(more) // 2, 500)  # a note scrolls
    column.add("MarkdownNote", links_note(found, more), title="Model links", colours=DARK, height=height)


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
    parts = Parts(models, (clip, "CLIP"), (vae, "VAE"))
    if recipe.sound:
        found = file(recipe.sound, "vae")
        parts.sound = (column.add("VAELoader", found["name"], models=[found], title="Load VAE: sound"), "VAE")
    column.close("Step 1 - Models")
    return parts


def prompts(column: Column, recipe: Recipe, parts: Parts, where: Out | None) -> None:
    """What is wanted, and what is not. Two experts each have a VSF Prompt, which read the same two texts."""
    texts = {}
    if len(recipe.experts) > 1:
        shown = column.add("PrimitiveStringMultiline", recipe.positive, title=f"What the {thing(recipe)} shows", colours=GREEN)
        unwanted = column.add("PrimitiveStringMultiline", recipe.negative, title="What must not be in it", colours=RED)
        texts = {"prompt": (shown, "STRING"), "negative": (unwanted, "STRING")}
    for expert, model in zip(recipe.experts, parts.models, strict=True):
        words = ("", "") if texts else (recipe.positive, recipe.negative)
        name = f"VSF Prompt: {expert.name}" if expert.name else None
        height = 268 if texts else 300 if recipe.guidance else 400 if "\n" in recipe.negative else None  # room for each line
        links = {"model": model, "clip": parts.clip, **texts, **({"mask": where} if where else {})}
        made = column.add("VSFPrompt", *words, 1.0, title=name, colours=BLUE, height=height, links=links)
        parts.guided.append((made, "MODEL"))
        parts.positive = parts.positive or (made, "positive")  # of the same text, one is as good as the other
    if recipe.guidance is not None:
        links = {"conditioning": parts.positive}
        guided = column.add("FluxGuidance", recipe.guidance, title="Guidance of Flux.1 dev", links=links)
        parts.positive = (guided, "CONDITIONING")


def mask(column: Column, recipe: Recipe) -> Out:
    """Where a negative acts. A mask of any size will do, so that this one counts in percent."""
    left, top, width, height = recipe.box
    whole = column.add("SolidMask", 0.0, 100, 100, title="Black: the whole picture")
    white = column.add("SolidMask", 1.0, width, height, title="White: a box, how large")
    links = {"destination": (whole, "MASK"), "source": (white, "MASK")}
    found = (column.add("MaskComposite", left, top, "add", title="White: where its corner is", links=links), "MASK")
    column.add("MaskPreview", links={"mask": found})
    column.close("Where the negative acts", ORANGE)
    return found


def against_itself(column: Column, recipe: Recipe, parts: Parts) -> None:
    """The same in the paper's form: two texts, and VSF Guidance."""
    links = {"clip": parts.clip}
    shown = column.add("CLIPTextEncode", recipe.positive, title="What the picture shows", colours=GREEN, links=links)
    taken = column.add("VSFTextEncode", recipe.negative, title="The subject once more: taken back", colours=RED, links=links)
    links = {"model": parts.models[0], "negative": (taken, "CONDITIONING")}
    parts.guided = [(column.add("VSFGuidance", recipe.scale, 0.0, 0.0, 1.0, colours=BLUE, links=links), "MODEL")]
    parts.positive = (shown, "CONDITIONING")


def combined(column: Column, found: list[Out]) -> Out:
    """Prompts in their order, as one conditioning."""
    whole, *others = found
    for other in others:
        links = {"conditioning_1": whole, "conditioning_2": other}
        whole = (column.add("ConditioningCombine", title="Parts, in their order", links=links), "CONDITIONING")
    return whole


def shots(column: Column, recipe: Recipe, parts: Parts) -> Column:
    """The same for a video whose parts have each its own negative: the texts, then their conditionings. The windows that they
    are for begin the column after them, which comes back."""
    for number, (shown, unwanted) in enumerate(recipe.shots, 1):
        above = column.add("PrimitiveStringMultiline", shown, title=f"Part {number}: what it shows", colours=GREEN)
        below = column.add("PrimitiveStringMultiline", unwanted, title=f"Part {number}: what must not be in it", colours=RED)
        parts.texts.append(((above, "STRING"), (below, "STRING")))
    column.close("Step 2 - Prompts", ORANGE)
    column = Column(column.graph, column.right, 230)
    found = []
    for number, (shown, unwanted) in enumerate(parts.texts, 1):
        links = {"clip": parts.clip, "prompt": shown, "negative": unwanted}
        title = f"VSF Conditioning: part {number}"
        found.append((column.add("VSFConditioning", "", "", 1.0, title=title, colours=BLUE, links=links), "positive"))
    parts.positive = combined(column, found)
    column.close("Each with its negative", ORANGE)
    column = Column(column.graph, column.right, 250)
    values = (*recipe.window, "standard_static", 1, False, "pyramid", True, False, True)
    parts.models = parts.guided = [
        (column.add("WanContextWindowsManual", *values, title=f"Windows: {expert.name}", links={"model": model}), "MODEL")
        for expert, model in zip(recipe.experts, parts.models, strict=True)
    ]
    return column


def unused(column: Column, recipe: Recipe, parts: Parts) -> None:
    """The negative that a sampler insists on."""
    title = "The sampler's negative: unused"
    if recipe.shots:  # a conditioning that brings negatives can be no sampler's negative
        made = column.add("CLIPTextEncode", "", title=title, links={"clip": parts.clip})
        column.collapse([made])
    else:
        made = column.add("ConditioningZeroOut", title=title, links={"conditioning": parts.positive})
    parts.zero = (made, "CONDITIONING")


def size_and_seed(column: Column, recipe: Recipe, parts: Parts) -> None:
    """What the comparison shares."""
    size, sides = f"{thing(recipe).capitalize()} size", {}
    if recipe.scheduler == "Flux2Scheduler":  # needs the size too
        sides = {
            name: (column.add("PrimitiveInt", value, "fixed", title=name.capitalize()), "INT")
            for name, value in zip(("width", "height"), recipe.size, strict=True)
        }
    if recipe.start_image:
        start = column.add("LoadImage", recipe.start_image, "image", title="Start picture")
        links = {"positive": parts.positive, "negative": parts.zero, "vae": parts.vae, "start_image": (start, "IMAGE")}
        made = column.add(recipe.latent, *recipe.size, recipe.frames, 1, title=size, links=links)
        parts.positive, parts.zero, parts.latent = (made, "positive"), (made, "negative"), (made, "latent")
    elif recipe.video:
        batch = () if recipe.sound else (1,)
        parts.latent = (column.add(recipe.latent, *recipe.size, recipe.frames, *batch, title=size), "LATENT")
    else:
        parts.latent = (column.add(recipe.latent, *recipe.size, 1, title=size, links=sides), "LATENT")
    if custom(recipe):
        values, links = (recipe.steps, *recipe.size), sides
        if not sides:
            values, links = ("simple", recipe.steps, 1.0), {"model": parts.models[0]}
        parts.custom = {
            "sigmas": (column.add(recipe.scheduler, *values, links=links), "SIGMAS"),
            "sampler": (column.add("KSamplerSelect", recipe.sampler), "SAMPLER"),
            "noise": (column.add("RandomNoise", recipe.seed, "fixed", title="Seed"), "NOISE"),
        }
    else:
        parts.seed = (column.add("PrimitiveInt", recipe.seed, "fixed", title="Seed"), "INT")


def custom(recipe: Recipe) -> bool:
    """Whether the sigmas come from a node, and SamplerCustomAdvanced samples."""
    return recipe.scheduler in SHAPES


def sample(column: Column, recipe: Recipe, parts: Parts, models: list[Out]) -> Out:
    """The sampler or samplers; the latent that comes out."""
    words = {"positive": parts.positive, "negative": parts.zero}
    if parts.custom:
        if recipe.scheduler == "BasicScheduler":
            links = {"model": models[0], "conditioning": parts.positive}
            guider = column.add("BasicGuider", title="Guider", links=links)
        else:
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


def decode(column: Column, parts: Parts, latent: Out) -> dict[str, Out]:
    """The pictures, and the sound if there is any."""
    found = {"images": (column.add("VAEDecode", links={"samples": latent, "vae": parts.vae}), "IMAGE")}
    if parts.sound:
        found["audio"] = (column.add("VAEDecodeAudio", links={"samples": latent, "vae": parts.sound}), "AUDIO")
    return found


def save(column: Column, recipe: Recipe, decoded: dict[str, Out], title: str, prefix: str, height: int) -> None:
    """The node that saves, and for a video the one that makes it."""
    if recipe.video:
        video = (column.add("CreateVideo", recipe.fps, 8, links=decoded), "VIDEO")
        column.add("SaveVideo", prefix, "auto", "auto", title=title, links={"video": video}, height=height)
    else:
        column.add("SaveImage", prefix, title=title, links=decoded, height=height)


def comparison(column: Column, recipe: Recipe, parts: Parts) -> None:
    """The same without a negative, bypassed: a note, all but the last node as mere titles, and what they make."""
    nodes = column.graph.nodes
    column.add("MarkdownNote", noted(recipe, "compare"), title="Compare", colours=DARK, height=130)
    first = len(nodes)
    if recipe.shots:
        plain = [column.add("CLIPTextEncode", "", links={"clip": parts.clip, "text": shown}) for shown, _ in parts.texts]
        parts.positive = combined(column, [(made, "CONDITIONING") for made in plain])
    decoded = decode(column, parts, sample(column, recipe, parts, parts.models))
    save(column, recipe, decoded, WITHOUT, "VSF/without", 140 if recipe.shots else 200)
    *others, last = nodes[first:]
    column.collapse(others)
    column.y += column.TITLE // 2  # for the wire that goes back to the left
    last["pos"][1] = column.y
    column.y += last["size"][1] + column.GAP
    for node in nodes[first:]:
        node["mode"] = BYPASSED
    column.close(f"Compare: {WITHOUT.lower()}")


def heat_map(saved: Column, parts: Parts, latent: Out, images: Out) -> None:
    """Step 5: what the negative does: over the picture, alone, and in numbers."""
    links = {"model": parts.guided[0], "latent": latent, "image": images}
    seen = saved.add("VSFHeatMap", 0, "average", 0.7, 0.0, colours=BLUE, links=links)
    saved.close("Step 5 - What it does", ORANGE)
    column = Column(saved.graph, saved.right, 320)
    column.add("PreviewImage", title="The map", links={"images": (seen, "map")})
    column.add("PreviewAny", title="Numbers", links={"source": (seen, "numbers")}, height=300)
    column.close("How hard")


def build(recipe: Recipe) -> dict:
    """One workflow. Long wires, from the loaders to the samplers, run behind the prompt or where nothing is: no title is in
    their way."""
    graph, experts = Graph(recipe.core), len(recipe.experts)
    many = experts > 1 or custom(recipe)  # too many nodes for size and seed to be below the loaders
    notes(column := Column(graph, 0, 280), recipe)
    parts = loaders(first := Column(graph, column.right, 280), recipe)
    column = first
    where = mask(column := Column(graph, column.right, 280), recipe) if recipe.box else None
    column = Column(graph, column.right, 260 if recipe.shots else 330 if many else 370)
    if recipe.shots:
        column = first = shots(column, recipe, parts)
    elif recipe.scale is not None:
        against_itself(column, recipe, parts)
    else:
        prompts(column, recipe, parts, where)
    if many and not recipe.shots:
        column.close("Step 2 - Prompt and negative", ORANGE)
        column = first = Column(graph, column.right, 280)
    if recipe.scheduler != "BasicScheduler":  # whose guider has no negative
        unused(column, recipe, parts)
    if not many:
        column.close("Step 3 - Prompt and negative", ORANGE)
    size_and_seed(first, recipe, parts)
    first.close(f"Step {3 if many else 2} - Size and seed")
    latent = sample(sampled := Column(graph, column.right, 250 if recipe.shots else 280), recipe, parts, parts.guided)
    decoded = decode(sampled, parts, latent)
    if recipe.sees:
        save(sampled, recipe, decoded, WITH, "VSF/with", 400)
        sampled.close("Step 4 - Sample, picture")
        heat_map(Column(graph, sampled.right, 320), parts, latent, decoded["images"])
        return graph.workflow()
    sampled.close("Step 4 - Sample")
    saved = Column(graph, sampled.right, 270 if recipe.shots else 300 if recipe.video else 340)
    save(saved, recipe, decoded, WITH, "VSF/with", 170 if recipe.shots else 230 if recipe.video else 400)
    saved.close(f"Step 5 - {thing(recipe).capitalize()}")
    comparison(saved if experts > 1 else sampled, recipe, parts)
    return graph.workflow()


def with_comparison(workflow: dict) -> dict:
    """The same workflow with its comparison switched on."""
    result = copy.deepcopy(workflow)
    for node in result["nodes"]:
        node["mode"] = 0
    return result
