"""The shipped workflows: they are what tools/build_workflows.py builds, and their testbed twins run in the real server."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
from importlib import resources
from pathlib import Path

import build_workflows
import numpy as np
import pytest
import testbed_workflows
import usage
import write_workflows
from comfy_server import ComfyServer, PromptRefused, ServerError
from recipes import AGAINST_ITSELF, ALONG, PLACE, RECIPES, SEVERAL, SOUND, TEMPLATES, Recipe, recipe_of
from server_checks import (
    CLIP_LOADERS,
    EVERY_RELEASED,
    EVERY_TEMPLATE,
    LOADERS,
    check_only_models_missing,
    check_pair,
    pixels,
    small,
)
from workflow_graph import SHAPES

SETTINGS = (  # what ComfyUI's own template decides
    *("KSampler", "KSamplerAdvanced", "KSamplerSelect", "CFGGuider", "BasicGuider", "Flux2Scheduler", "BasicScheduler"),
    *("ModelSamplingAuraFlow", "ModelSamplingSD3", "LoraLoaderModelOnly", "CLIPLoader", "DualCLIPLoader", "WanImageToVideo"),
    *("EmptyLatentImage", "EmptySD3LatentImage", "EmptyFlux2LatentImage", "EmptyHunyuanLatentVideo"),
)


def pictures(server: ComfyServer, prompt: dict, seconds: float = 600) -> dict[str, np.ndarray]:
    """Run a prompt; the picture that each SaveImage node saved, by its title."""
    found = server.run(prompt, seconds)
    return {prompt[node]["_meta"]["title"]: pixels(files[0]) for node, files in found.items()}


@pytest.mark.parametrize("path", write_workflows.files(), ids=lambda path: path.stem)
def test_file_is_what_the_builder_builds(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == write_workflows.files()[path], "run tools/write_workflows.py"


def test_only_template_files_in_workflows() -> None:
    """Every *.json directly in workflows/ becomes a card, and a card needs a .jpg of its name."""
    names = {path.name for path in build_workflows.WORKFLOWS.iterdir()}
    titles = [recipe.title for recipe in TEMPLATES]
    assert names == {f"{title}.{kind}" for title in titles for kind in ("json", "jpg")}


def test_cards_begin_with_the_most_used_model() -> None:
    """By the counters of ComfyUI's own templates; and no title is longer than a card shows."""
    package = pytest.importorskip("comfyui_workflow_templates_json")
    uses = {name: n for (name, _), n in usage.tally(usage.read_templates(Path(package.__file__).parent)).items()}
    files = [recipe.experts[0].model.rsplit("/", 1)[1].lower() for recipe in RECIPES]
    found = [next(uses[name] for pattern, (name, _) in usage.MODELS.items() if re.search(pattern, file)) for file in files]
    assert found == sorted(found, reverse=True)
    assert [recipe.title for recipe in TEMPLATES] == sorted(recipe.title for recipe in TEMPLATES)
    assert max(len(recipe.title) for recipe in TEMPLATES) <= 28


def end(node: dict, slot: int, is_output: bool) -> tuple[float, float]:
    """Where a wire meets a node; of a collapsed one, where its title ends in Nodes 2.0."""
    (x, y), width = node["pos"], node["size"][0]
    if node["flags"].get("collapsed"):
        return x + 225 * is_output, y - 15
    return x + width * is_output, y + 14 + 20 * slot


def wire(start: tuple[float, float], stop: tuple[float, float]) -> np.ndarray:
    """Points of a wire, (points, 2), as LiteGraph draws it: a Bezier curve that leaves and arrives level."""
    (a, b), t = np.array([start, stop]), np.linspace(0, 1, 100)[:, None]
    level = np.array([np.hypot(*(b - a)) / 4, 0])
    return a * (1 - t) ** 3 + 3 * (a + level) * t * (1 - t) ** 2 + 3 * (b - level) * t**2 * (1 - t) + b * t**3


@pytest.mark.parametrize("path", [path for path in write_workflows.files() if path.parent.name == "workflows"],
                         ids=lambda path: path.stem)  # fmt: skip
def test_no_wire_runs_over_a_frames_title(path: Path) -> None:
    """Nodes lie on wires and hide them; the title of a frame does not. And a title ends within its frame."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for frame in workflow["groups"]:
        (x, y, width, _), length = frame["bounding"], 10 * len(frame["title"])
        assert length < width, frame["title"]
        for _, source, out, target, slot, kind in workflow["links"]:
            points = wire(end(nodes[source], out, True), end(nodes[target], slot, False))
            hit = (points > [x + 10, y + 4]) & (points < [x + length, y + 36])
            assert not hit.all(axis=1).any(), f"{kind} to {nodes[target].get('title', nodes[target]['type'])}: {frame['title']}"


@EVERY_TEMPLATE
def test_workflow_is_well_formed(recipe: Recipe, object_info: dict) -> None:
    workflow = json.loads((build_workflows.WORKFLOWS / f"{recipe.title}.json").read_text(encoding="utf-8"))
    assert workflow["version"] == 0.4
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][out]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[source]["outputs"][out]["type"] == kind and nodes[target]["inputs"][slot]["type"] in (kind, "*")
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        ours = node["type"].startswith("VSF")
        assert node["properties"]["cnr_id"] == ("vsf-guidance" if ours else "comfy-core")
        assert node["properties"]["ver"]
        module = object_info[node["type"]]["python_module"]
        assert ours or module == "nodes" or module.startswith("comfy_extras."), f"{node['type']} is not a core node"
        outputs = object_info[node["type"]]["output"]
        assert [output["type"] for output in node["outputs"]] == outputs[: len(node["outputs"])]
        for model in node["properties"].get("models", []):
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert model["name"] in node["widgets_values"]
            assert model["url"] in "".join(n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
        assert ("models" in node["properties"]) == (node["type"] in LOADERS)


@EVERY_TEMPLATE
def test_workflow_validates_up_to_the_missing_models(
    recipe: Recipe, server: ComfyServer, object_info: dict
) -> None:
    """With the comparison and without. For the videos with a start picture and with sound this is all: the testbed has
    no model for them."""
    workflow = build_workflows.build(recipe)
    for which in (workflow, build_workflows.with_comparison(workflow)):
        with pytest.raises(PromptRefused) as refused:
            server.queue(testbed_workflows.to_api(which, object_info))
        check_only_models_missing(refused.value.node_errors)


GUIDES = {"VSFPrompt", "VSFGuidance", "VSFConditioning"}


@EVERY_TEMPLATE
def test_a_template_makes_one_picture(recipe: Recipe, object_info: dict) -> None:
    """The comparison is switched off as a whole, and nothing else is: a VSF node for each model or part, and one that saves."""
    workflow = build_workflows.build(recipe)
    prompt = testbed_workflows.to_api(workflow, object_info)
    kinds = [node["class_type"] for node in prompt.values()]
    assert sum(kind.startswith("Save") for kind in kinds) == 1
    assert sum(kind in GUIDES for kind in kinds) == (len(recipe.shots) or len(recipe.experts))
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for _, source, _, target, _, _ in workflow["links"]:
        assert by_id[source]["mode"] == 0 or by_id[target]["mode"] == build_workflows.BYPASSED
    assert {node["mode"] for node in workflow["nodes"]} == {0} | ({build_workflows.BYPASSED} if not recipe.sees else set())


def chain(prompt: dict, number: str) -> list[tuple[str, object]]:
    """What a model goes through on its way to a sampler: node types, and of loaders the file."""
    node = prompt[number]
    source = node["inputs"].get("model")
    name = next(iter(node["inputs"].values())) if node["class_type"] in LOADERS - {"LoraLoaderModelOnly"} else None
    own = (node["class_type"], name or node["inputs"].get("lora_name"))
    return [*(chain(prompt, source[0]) if source else []), own]


@pytest.mark.parametrize("recipe", [*RECIPES, PLACE, SEVERAL], ids=lambda recipe: recipe.title)
def test_the_two_sides_differ_in_vsf_alone(recipe: Recipe, object_info: dict) -> None:
    """Each model goes to both sides by the same way, on one of them through a VSF Prompt of its own."""
    prompt = testbed_workflows.to_api(build_workflows.with_comparison(build_workflows.build(recipe)), object_info)
    takers = [n for n, node in prompt.items() if "model" in node["inputs"] and "positive" in node["inputs"]]
    chains = [chain(prompt, number)[:-1] for number in takers]
    plain = [found for found in chains if ("VSFPrompt", None) not in found]
    guided = [found for found in chains if ("VSFPrompt", None) in found]
    assert [found[:-1] for found in guided] == plain and {found[-1] for found in guided} == {("VSFPrompt", None)}
    files = [expert.model.rsplit("/", 1)[1] for expert in recipe.experts]
    assert [found[0][1] for found in plain] == files
    loras = [name for found in plain for kind, name in found if kind == "LoraLoaderModelOnly"]
    assert loras == [expert.lora.rsplit("/", 1)[1] for expert in recipe.experts if expert.lora]

    said = [node["inputs"] for node in prompt.values() if node["class_type"] == "VSFPrompt"]
    assert len(said) == len(recipe.experts)
    for inputs in said:
        words = [prompt[inputs[name][0]]["inputs"]["value"] if isinstance(inputs[name], list) else inputs[name]
                 for name in ("prompt", "negative")]  # fmt: skip
        assert words == [recipe.positive, recipe.negative] and inputs["strength"] == 1.0
    for mine, theirs in zip(takers[: len(files)], takers[len(files) :], strict=True):
        differ = {name for name, value in prompt[mine]["inputs"].items() if prompt[theirs]["inputs"][name] != value}
        assert differ <= {"model", "latent_image"}, "the sides have other settings"


LINKED = object()


def settings(node: dict) -> dict[str, object]:
    """A node's widgets by name, without seeds; LINKED for those that take their value from another node."""
    names = list(SHAPES[node["type"]].widgets())
    for seed in ("seed", "noise_seed"):
        if seed in names:
            names.insert(names.index(seed) + 1, "control")
    linked = {slot["name"] for slot in node["inputs"] if slot.get("link") is not None}
    found = dict(zip(names, node["widgets_values"], strict=False))
    return {
        name: LINKED if name in linked else value
        for name, value in found.items()
        if name not in {"seed", "noise_seed", "control"}
    }


@pytest.mark.parametrize("recipe", [recipe for recipe in (*RECIPES, SOUND) if recipe.template], ids=lambda recipe: recipe.title)
def test_files_and_settings_are_those_of_comfyuis_own_template(recipe: Recipe) -> None:
    """What the template sets through other nodes (its switch between LoRA and none) must occur somewhere in it."""
    templates = resources.files(pytest.importorskip("comfyui_workflow_templates_json")) / "templates"
    text = (templates / f"{recipe.template}.json").read_text(encoding="utf-8")
    for found in build_workflows.model_files(recipe):
        assert found["url"] in text
    whole = json.loads(text)
    theirs = [*whole["nodes"], *(n for graph in whole.get("definitions", {}).get("subgraphs", []) for n in graph["nodes"])]
    anywhere = [value for node in theirs for value in node.get("widgets_values") or ()]

    def agree(mine: dict[str, object], other: dict[str, object]) -> bool:
        values = [(mine[name], other[name]) for name in mine if name in other]
        return all(m is LINKED or (m in anywhere if o is LINKED else m == pytest.approx(o)) for m, o in values)

    for node in build_workflows.build(recipe)["nodes"]:
        if node["type"] in SETTINGS:
            candidates = [settings(other) for other in theirs if other["type"] == node["type"]]
            assert any(agree(settings(node), other) for other in candidates), f"{node['type']}: not in {candidates}"


@EVERY_RELEASED
def test_workflow_of_an_earlier_release_validates(file: Path, server: ComfyServer, object_info: dict) -> None:
    """As that release shipped it, it misses its models alone. test_browser.py runs it."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    with pytest.raises(PromptRefused) as refused:
        server.queue(testbed_workflows.to_api(workflow, object_info))
    check_only_models_missing(refused.value.node_errors)


def test_lora_takes_part(server: ComfyServer, object_info: dict) -> None:
    """A LoRA before VSF Prompt changes both pictures, and VSF still acts on it; none of its weights is left over."""
    recipe = next(recipe for recipe in RECIPES if recipe.experts[0].lora and not recipe.video)
    prompt = testbed_workflows.to_api(small(recipe), object_info)
    before = len(server.log())
    found = {strength: pictures(server, changed(prompt, "LoraLoaderModelOnly", strength_model=strength)) for strength in (0, 1)}
    for title in found[0]:
        assert (found[0][title] != found[1][title]).mean() > 0.01
    check_pair(found[1], 128)
    assert "lora key not loaded" not in server.log()[before:]


def test_twin_swaps_loaders_alone() -> None:
    for recipe in (recipe for recipe in RECIPES if not recipe.video):
        before = build_workflows.build(recipe)
        after = testbed_workflows.twin(before)
        assert [n for n in before["nodes"] if n["type"] not in LOADERS] == [
            n for n in after["nodes"] if n["type"] not in LOADERS | {"VSFTestbedCLIPLoader"}
        ]
        assert not CLIP_LOADERS & {n["type"] for n in after["nodes"]}
        assert len(before["links"]) == len(after["links"])
        for old, new in zip(before["links"], after["links"], strict=True):
            assert (old[0], *old[3:]) == (new[0], *new[3:])


@pytest.fixture(scope="module")
def demo_prompt(object_info: dict) -> dict:
    """The demo workflow in API form; four steps are enough here."""
    return testbed_workflows.to_api(testbed_workflows.demo(steps=4), object_info)


@pytest.fixture(scope="module")
def paper_prompt(demo_prompt: dict) -> dict:
    """The same with VSF Guidance."""
    return testbed_workflows.paper_form(demo_prompt)


def changed(prompt: dict, kind: str, **values: object) -> dict:
    """The prompt with other inputs at every node of one type."""
    result = copy.deepcopy(prompt)
    for node in result.values():
        if node["class_type"] == kind:
            node["inputs"] |= values
    return result


def test_demo_runs_and_repeats(server: ComfyServer, demo_prompt: dict) -> None:
    first = pictures(server, demo_prompt)
    check_pair(first, 128)
    other = pictures(server, changed(demo_prompt, "PrimitiveInt", value=12345))
    assert (first[build_workflows.WITH] != other[build_workflows.WITH]).any(), "the seed changes nothing"
    again = pictures(server, demo_prompt | {})
    for title, picture in first.items():
        assert (picture == again[title]).all()


@pytest.mark.parametrize("values", [{"strength": 0.0}, {"negative": ""}, {"negative": "a red car"}], ids=str)
def test_off_is_the_plain_picture(server: ComfyServer, demo_prompt: dict, values: dict) -> None:
    """Bit for bit; a negative of the prompt's own words is off too."""
    found = pictures(server, changed(demo_prompt, "VSFPrompt", **values))
    assert (found[build_workflows.WITHOUT] == found[build_workflows.WITH]).all()


@pytest.mark.parametrize("kind, values", [
    ("VSFGuidance", {"scale": 0.0}),
    ("VSFGuidance", {"start_percent": 1.0, "end_percent": 1.0}),
    ("VSFTextEncode", {"text": ""}),
], ids=["scale", "end", "empty"])  # fmt: skip
def test_the_papers_form_off_is_the_plain_picture(server: ComfyServer, paper_prompt: dict, kind: str, values: dict) -> None:
    found = pictures(server, changed(paper_prompt, kind, **values))
    assert (found[build_workflows.WITHOUT] == found[build_workflows.WITH]).all()


@pytest.mark.parametrize("values", [{"scale": -1.0}, {"scale": 11.0}, {"bias": -0.1}, {"end_percent": 1.5}, {"strength": 3.5}],
                         ids=str)  # fmt: skip
def test_values_out_of_range_are_refused(server: ComfyServer, demo_prompt: dict, paper_prompt: dict, values: dict) -> None:
    prompt, kind = (demo_prompt, "VSFPrompt") if "strength" in values else (paper_prompt, "VSFGuidance")
    with pytest.raises(PromptRefused) as refused:
        server.queue(changed(prompt, kind, **values))
    kinds = {error["type"] for found in refused.value.node_errors.values() for error in found["errors"]}
    assert kinds <= {"value_smaller_than_min", "value_bigger_than_max"} and kinds


def insert(prompt: dict, kind: str, name: str, **values: object) -> dict:
    """The prompt with one more node between the negative and VSFGuidance."""
    result = copy.deepcopy(prompt)
    guidance = next(node for node in result.values() if node["class_type"] == "VSFGuidance")
    inputs = values | {name: guidance["inputs"]["negative"]}
    result["900"] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
    guidance["inputs"]["negative"] = ["900", 0]
    return result


def test_a_bad_negative_says_vsf(server: ComfyServer, paper_prompt: dict) -> None:
    """The message reaches the user, and the server goes on."""
    with pytest.raises(ServerError, match="VSF: lower `scale`.*strength of `negative`"):
        server.run(insert(paper_prompt, "ConditioningSetAreaStrength", "conditioning", strength=10.0))
    with pytest.raises(ServerError, match="VSF: .*start_percent"):
        server.run(changed(paper_prompt, "VSFGuidance", start_percent=0.8, end_percent=0.2))
    check_pair(pictures(server, paper_prompt), 128)


def frames_of(file: bytes) -> list[np.ndarray]:
    """The pictures in a file, one of a PNG."""
    if file.startswith(b"\x89PNG"):
        return [pixels(file).astype(int)]
    av = pytest.importorskip("av")  # ComfyUI brings it
    return [frame.to_ndarray(format="rgb24").astype(int) for frame in av.open(io.BytesIO(file)).decode(video=0)]


def made_by(server: ComfyServer, object_info: dict, twin: dict) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pictures without a negative and with it."""
    prompt = testbed_workflows.to_api(twin, object_info)
    found = {prompt[node]["_meta"]["title"]: frames_of(files[0]) for node, files in server.run(prompt).items()}
    return found[build_workflows.WITHOUT], found[build_workflows.WITH]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures' values, of 255."""
    return float(np.abs(one - other).mean())


def test_in_one_place_only(server: ComfyServer, object_info: dict) -> None:
    """The white box is the left half: the left wheel goes as it does without a mask, and the right one stays."""
    assert PLACE.box == (0, 0, 50, 100)
    twins = [testbed_workflows.demo(recipe=recipe) for recipe in (PLACE, dataclasses.replace(PLACE, box=None))]
    ([without], [masked]), (_, [whole]) = (made_by(server, object_info, twin) for twin in twins)
    left, right = np.s_[64:, :64], np.s_[64:, 64:]  # of the lower half, where wheels are
    assert apart(masked[left], whole[left]) < 0.5 * apart(without[left], whole[left])
    assert apart(masked[right], without[right]) < 0.5 * apart(without[right], whole[right])


def test_a_list_of_negatives(server: ComfyServer, object_info: dict) -> None:
    """The shipped list in the testbed's words: a car loses its wheels to one line, a house its roof to the next, and a tree
    keeps its apples, which stand behind a #."""
    words = SEVERAL.negative
    for shipped, own in (("fir tree", "wheels"), ("stockings", "roof"), ("window", "apples")):
        assert shipped in words
        words = words.replace(shipped, own)
    for number, acts in ((0, True), (1, True), (3, False)):
        prompt, part = testbed_workflows.PAIRS[number]
        twins = [testbed_workflows.demo((prompt, text), recipe=SEVERAL) for text in (part, words)]
        ([without], [single]), (_, [several]) = (made_by(server, object_info, twin) for twin in twins)
        near, far = (single, without) if acts else (without, single)
        assert apart(several, near) < 0.85 * min(apart(several, far), apart(single, without)), prompt


CAR, WHEELS = testbed_workflows.PAIRS[0]


@pytest.mark.parametrize("recipe", [recipe_of("Wan 2.2 T2V Lightning"), ALONG], ids=lambda recipe: recipe.title)
def test_a_video(recipe: Recipe, server: ComfyServer, object_info: dict) -> None:
    """The testbed's Wan draws the same car in every frame. One negative acts on all of them; that of the first of two parts on
    the first frames, less and less, and not on the last."""
    twin = testbed_workflows.demo((CAR, WHEELS), recipe=recipe, shots=((CAR, WHEELS), (CAR, "")) if recipe.shots else ())
    without, found = made_by(server, object_info, twin)
    changed = [apart(one, other) for one, other in zip(without, found, strict=True)]
    assert len(changed) == 6
    if recipe.shots:
        assert min(changed[:2]) > 2 * max(changed[-2:]) and changed[:5] == sorted(changed[:5], reverse=True)
    else:
        assert max(changed) < 1.5 * min(changed)


def test_the_same_subject_as_prompt_and_negative(server: ComfyServer, object_info: dict) -> None:
    """In the paper's form: something is left of the car, and it is another. At scale 0 it is the car, bit for bit."""
    words = (CAR, "car")
    ([without], [torn]), (_, [off]) = (
        made_by(server, object_info, testbed_workflows.demo(words, recipe=AGAINST_ITSELF, scale=scale))
        for scale in (AGAINST_ITSELF.scale, 0.0)
    )
    assert (off == without).all()
    assert apart(torn, without) > 2 and torn.std() > 10


def upper_half(black: bool = False) -> dict:
    """ComfyUI's own nodes that make a mask, white in the upper half of the picture or nowhere; the last of them is 912."""
    half = {"width": 128, "height": 64}
    nodes = {
        "910": ("SolidMask", {"value": 0.0, "width": 128, "height": 128}),
        "911": ("SolidMask", {"value": 0.0 if black else 1.0, **half}),
        "912": ("MaskComposite", {"destination": ["910", 0], "source": ["911", 0], "x": 0, "y": 0, "operation": "add"}),
    }
    return {n: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}} for n, (kind, inputs) in nodes.items()}


@pytest.mark.parametrize("kind", ["VSFPrompt", "VSFGuidance"])
def test_a_mask_says_where(server: ComfyServer, demo_prompt: dict, paper_prompt: dict, kind: str) -> None:
    """The wheels are in the lower half: with a mask on the upper one they stay, and a black one is off, bit for bit."""
    prompt = demo_prompt if kind == "VSFPrompt" else paper_prompt
    masked = changed(prompt, kind, mask=["912", 0])
    without, whole = (pictures(server, prompt)[title].astype(int) for title in (build_workflows.WITHOUT, build_workflows.WITH))
    upper = pictures(server, masked | upper_half())[build_workflows.WITH]
    assert (upper != without).any(), "the mask turned it off"
    assert np.abs(upper - without)[64:].mean() < 0.5 * np.abs(whole - without)[64:].mean()
    black = pictures(server, masked | upper_half(black=True))
    assert (black[build_workflows.WITHOUT] == black[build_workflows.WITH]).all()


def test_an_area_of_the_negative_says_where(server: ComfyServer, paper_prompt: dict) -> None:
    """Conditioning Set Area on the negative's own conditioning: the upper half, and the wheels stay."""
    area = {"width": 128, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    found = {title: picture.astype(int) for title, picture in pictures(server, paper_prompt).items()}
    upper = pictures(server, insert(paper_prompt, "ConditioningSetArea", "conditioning", **area))[build_workflows.WITH]
    without, whole = found[build_workflows.WITHOUT], found[build_workflows.WITH]
    assert (upper != without).any(), "the area turned it off"
    assert np.abs(upper - without)[64:].mean() < 0.5 * np.abs(whole - without)[64:].mean()


def test_a_padded_negative_works_with_a_warning(server: ComfyServer, paper_prompt: dict) -> None:
    """From ComfyUI's own text node: its padding cannot be told from words here, so the log names VSF Text Encode."""
    before = len(server.log())
    prompt = copy.deepcopy(paper_prompt)
    for node in prompt.values():
        if node["class_type"] == "VSFTextEncode":
            node["class_type"] = "CLIPTextEncode"
    check_pair(pictures(server, prompt), 128)
    assert "VSF Text Encode" in server.log()[before:]
