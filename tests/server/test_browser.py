"""The shipped workflows in the real frontend, in a headless Chromium: opened as an artist opens them, and run.

Screenshots go to artefacts/ (ignored by git).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import build_workflows
import pytest
import testbed_workflows
from comfy_server import PACK, ComfyServer
from playwright.sync_api import TimeoutError
from recipes import Recipe
from server_checks import (
    EVERY_RECIPE,
    EVERY_RELEASED,
    LOADERS,
    PICTURE_RECIPES,
    WIDE_MODEL,
    check_only_models_missing,
    check_pair,
    pixels,
)

WHOLE = ("SD3.5 Large Turbo", "SDXL Lightning")  # run at 1024 px: a plain loader and a checkpoint's, both kinds of latent
RENDERERS = pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])


STARTED = """() => {
    const manager = window.app?.extensionManager
    return manager?.spinner === false && manager.workflow?.activeWorkflow && app.graph.nodes.length > 0
}"""
"""The spinner turns until the frontend has put its own graph up, which it does last and would do over one of ours."""

HAS_GRAPH = """nodes => {
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker
    const found = app.graph.nodes.map(n => `${n.id} ${n.type}`).sort()
    return JSON.stringify(found) === JSON.stringify(nodes) && !tracker?.constructor.isLoadingGraph
}"""


PICTURE_IN = "(element => [...element.querySelectorAll('img')].some(i => i.complete && i.naturalWidth))"

SHOWS_FILE = """([node, file, vue]) => {
    const pictures = vue ? document.querySelectorAll(`[data-node-id="${node}"] img`) : app.graph.getNodeById(+node).imgs ?? []
    return [...pictures].some(i => i.complete && i.naturalWidth && i.src.includes(encodeURIComponent(file)))
}"""
"""The node shows this file: in Nodes 2.0 as an element, on the canvas as the picture that it draws."""


@pytest.fixture
def page(browser, server: ComfyServer) -> Iterator:
    """The frontend in a fresh profile with the classic canvas, its start over and no dialog open."""
    context = browser.new_context(viewport={"width": 1900, "height": 1100})
    context.request.post(f"{server.address}/settings/Comfy.VueNodes.Enabled", data="false")  # the server keeps settings
    tab = context.new_page()
    tab.set_default_timeout(300_000)  # a busy machine is slow to draw
    tab.goto(server.address)
    tab.wait_for_function(STARTED)
    yield tab
    context.close()


def use_renderer(page, vue: bool) -> None:
    """The classic canvas or Nodes 2.0."""
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)


def load(page, workflow: dict) -> None:
    """Open a workflow as a dropped file is opened."""
    page.evaluate("async workflow => { await app.loadGraphData(workflow) }", workflow)
    wait_for_graph(page, workflow)


def wait_for_graph(page, workflow: dict) -> None:
    """Until the frontend shows this workflow's nodes, all of which it knows, and has loaded it to the end."""
    with contextlib.suppress(TimeoutError):  # the comparison says what is there instead
        page.wait_for_function(HAS_GRAPH, arg=sorted(f"{node['id']} {node['type']}" for node in workflow["nodes"]))
    assert types_in_graph(page) == types_of(workflow)


def active(workflow: dict) -> list[dict]:
    """The nodes that run: no notes, and nothing that is bypassed."""
    return [node for node in workflow["nodes"] if node["mode"] == 0 and node["type"] != "MarkdownNote"]


def types_of(workflow: dict) -> list[str]:
    """The types of a workflow's nodes."""
    return sorted(node["type"] for node in workflow["nodes"])


def types_in_graph(page) -> list[str]:
    """The types of all nodes, and with a mark those that the frontend does not know."""
    return sorted(
        page.evaluate("() => app.graph.nodes.map(n => n.type + (n.has_errors && !n.constructor.nodeData ? ' (missing)' : ''))")
    )


def screenshot(page, path: Path) -> None:
    """A picture of the whole graph, without the dialogs beside it."""
    for _ in range(3):
        page.keyboard.press("Escape")
    page.evaluate("""() => {
        const edge = (pick, way) => Math[way](...app.graph.nodes.map(pick))
        const [left, top] = [0, 1].map(i => edge(n => n.pos[i], 'min') - 40)
        const [right, bottom] = [0, 1].map(i => edge(n => n.pos[i] + n.size[i], 'max') + 40)
        app.canvas.ds.fitToBounds?.([left, top - 60, right - left, bottom - top + 60])
        app.canvas.setDirty(true, true)
        return new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))
    }""")
    page.screenshot(path=path)


def run(page, server: ComfyServer, workflow: dict) -> tuple[int, dict]:
    """Press Run; the status and body of the frontend's own POST /prompt, which queues this workflow and no other."""
    wanted = sorted(node["type"] for node in active(workflow))
    queued = page.evaluate("async () => Object.values((await app.graphToPrompt()).output).map(n => n.class_type)")
    assert sorted(queued) == wanted, "another graph would be queued"
    page.keyboard.press("Escape")  # older frontends list missing models in a dialog
    with page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
        page.get_by_test_id("queue-button").click()
    assert sorted(n["class_type"] for n in answer.value.request.post_data_json["prompt"].values()) == wanted
    return answer.value.status, answer.value.json()


@EVERY_RECIPE
def test_shipped_workflow_from_the_template_browser(
    recipe: Recipe, page, server: ComfyServer, artefacts: Path
) -> None:
    """Templates > EXTENSIONS > our pack > card; every node is known, and only the model files are missing when it runs."""
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK, exact=True).first.click()
    card = page.get_by_test_id(f"template-workflow-{recipe.title}")
    card.scroll_into_view_if_needed()
    page.wait_for_function(f"card => {PICTURE_IN}(card)", arg=card.element_handle())
    page.screenshot(path=artefacts / "templates.png")
    card.click()
    workflow = build_workflows.build(recipe)
    wait_for_graph(page, workflow)
    page.screenshot(path=artefacts / f"{recipe.title} - opened.png")
    assert page.get_by_text("Missing Node").count() == 0
    status, body = run(page, server, workflow)
    assert status == 400
    check_only_models_missing(body["node_errors"])
    assert {found["class_type"] for found in body["node_errors"].values()} == \
           {node["type"] for node in active(workflow)} & LOADERS  # fmt: skip
    screenshot(page, artefacts / f"{recipe.title}.png")


@EVERY_RECIPE
def test_frontend_and_tools_make_the_same_prompt(recipe: Recipe, page, object_info: dict) -> None:
    """`to_api` says what the frontend sends; and what the frontend saves keeps every value of ours."""
    workflow = build_workflows.build(recipe)
    load(page, workflow)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    made = testbed_workflows.to_api(workflow, object_info)
    assert {number: node["inputs"] for number, node in sent.items()} == {
        number: node["inputs"] for number, node in made.items()
    }
    saved = page.evaluate("() => app.graph.serialize()")
    for node in saved["nodes"]:
        before = next(old for old in workflow["nodes"] if old["id"] == node["id"])
        # newer frontends leave out an empty list
        assert node.get("widgets_values", []) == before["widgets_values"] or not before["widgets_values"]
        assert node["properties"].get("cnr_id") == before["properties"].get("cnr_id")


@EVERY_RELEASED
def test_workflow_of_an_earlier_release_opens(file: Path, page, object_info: dict) -> None:
    """Every node is known, and the frontend reads each value as the release meant it."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    load(page, workflow)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    made = testbed_workflows.to_api(workflow, object_info)
    assert {n: node["inputs"] for n, node in sent.items()} == {n: node["inputs"] for n, node in made.items()}


@PICTURE_RECIPES
def test_twin_runs_to_the_end(recipe: Recipe, page, server: ComfyServer, artefacts: Path) -> None:
    """Loaders and words are swapped (the testbed knows few) and nothing else: steps and settings are the shipped ones, and the
    size is for two. At 1024 px the others would take a CPU minutes and show nothing more: their size is held by what the
    frontend sends, above.

    There is no twin for videos: the testbed has no video model. test_workflows.py takes them up to the missing files.
    """
    recipe = dataclasses.replace(recipe, **dict(zip(("positive", "negative"), testbed_workflows.PAIRS[0], strict=True)))
    if not recipe.title.endswith(WHOLE):
        recipe = dataclasses.replace(recipe, size=(testbed_workflows.SIZE * testbed_workflows.shrink(recipe),) * 2)
    twin = testbed_workflows.twin(build_workflows.with_comparison(build_workflows.build(recipe)))
    twin = testbed_workflows.with_values(twin, {"UNETLoader": [WIDE_MODEL]})  # the testbed's, with room for this size
    load(page, twin)
    status, body = run(page, server, twin)
    assert status == 200, json.dumps(body)
    outputs = server.wait(body["prompt_id"], seconds=900)
    titles = {str(node["id"]): node.get("title") for node in twin["nodes"]}
    found = {titles[node]: pixels(server.picture(saved["images"][0])) for node, saved in outputs.items()}
    check_pair(found, recipe.size[0] // testbed_workflows.shrink(recipe))
    screenshot(page, artefacts / f"{recipe.title} - twin.png")


@RENDERERS
def test_demo_in_both_renderers(vue: bool, page, server: ComfyServer, artefacts: Path) -> None:
    """The demo workflow, run with the button; both pictures show up in their nodes."""
    use_renderer(page, vue)
    demo = json.loads(testbed_workflows.DEMO.read_text(encoding="utf-8"))
    demo = testbed_workflows.with_values(demo, {"PrimitiveInt": [31 + vue]})
    load(page, demo)
    status, body = run(page, server, demo)
    assert status == 200, json.dumps(body)
    saved = {node: found["images"][0]["filename"] for node, found in server.wait(body["prompt_id"]).items()}
    assert len(saved) == 2
    for node, file in saved.items():
        page.wait_for_function(SHOWS_FILE, arg=[node, file, vue])
    screenshot(page, artefacts / f"demo - {'nodes2' if vue else 'canvas'}.png")


def test_help_page_opens(page, artefacts: Path) -> None:
    """The button with the i on a selected node shows our page, and not the node's description in its place."""
    load(page, testbed_workflows.demo())
    page.evaluate("() => app.canvas.selectNode(app.graph.nodes.find(n => n.type === 'VSFPrompt'))")
    with page.expect_response(lambda r: r.url.endswith("/docs/VSFPrompt.md") and r.ok):
        page.get_by_test_id("info-button").click()
    page.get_by_role("heading", name="VSF Prompt (with negative)", exact=True).first.wait_for()
    page.screenshot(path=artefacts / "help.png")


DRAG = """([from, output, to, input]) => {
    const slot = (node, list, name) => node[list].findIndex(s => s.name === name)
    const [a, b] = [app.graph.getNodeById(from), app.graph.getNodeById(to)]
    const places = [a.getConnectionPos(false, slot(a, 'outputs', output)), b.getConnectionPos(true, slot(b, 'inputs', input))]
    const {left, top} = app.canvas.canvas.getBoundingClientRect()
    const [scale, [x, y]] = [app.canvas.ds.scale, app.canvas.ds.offset]
    return [...places].map(p => [left + (p[0] + x) * scale, top + (p[1] + y) * scale])
}"""
"""Where a wire begins and ends on the page: (node, output's name, node, input's name)."""


def drag(page, *wire) -> None:
    """Pull a wire from an output to an input, with the mouse."""
    start, end = page.evaluate(DRAG, list(wire))
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_one_node_and_four_wires(page, server: ComfyServer, artefacts: Path) -> None:
    """A graph without a prompt; VSF Prompt is the first that the search for "negative prompt" finds, and takes four wires."""
    demo = testbed_workflows.demo()
    of_type = {node["type"]: node for node in demo["nodes"] if node["mode"] == 0}
    page.evaluate("() => app.graph.clear()")
    ids = page.evaluate("""async types => Object.fromEntries(types.map(([type, x, y, values]) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        values.forEach((value, i) => { node.widgets[i].value = value })
        return [type, node.id]
    }))""", [["UNETLoader", 0, 0, of_type["UNETLoader"]["widgets_values"]],
             ["VSFTestbedCLIPLoader", 0, 160, of_type["VSFTestbedCLIPLoader"]["widgets_values"]],
             ["VAELoader", 0, 280, of_type["VAELoader"]["widgets_values"]],
             ["EmptySD3LatentImage", 0, 400, [128, 128, 1]], ["CLIPTextEncode", 420, 420, [""]],
             ["KSampler", 900, 0, [7, "fixed", 8, 1.0, "euler", "simple", 1.0]],
             ["VAEDecode", 1240, 0, []], ["SaveImage", 1240, 140, ["VSF/searched"]]])  # fmt: skip
    page.evaluate("""ids => {
        const node = type => app.graph.getNodeById(ids[type])
        const join = (a, output, b, input) => node(a).connect(output, node(b), input)
        join('VSFTestbedCLIPLoader', 0, 'CLIPTextEncode', 'clip')
        join('CLIPTextEncode', 0, 'KSampler', 'negative')
        join('EmptySD3LatentImage', 0, 'KSampler', 'latent_image')
        join('KSampler', 0, 'VAEDecode', 'samples')
        join('VAELoader', 0, 'VAEDecode', 'vae')
        join('VAEDecode', 0, 'SaveImage', 'images')
        app.canvas.ds.scale = 0.8
        app.canvas.ds.offset = [350, 200]
        app.canvas.setDirty(true, true)
    }""", ids)  # fmt: skip
    page.mouse.dblclick(1000, 900)  # on the empty canvas: the search
    page.keyboard.type("negative prompt")
    page.get_by_text("VSF Prompt (with negative)").first.wait_for()
    page.screenshot(path=artefacts / "search.png")
    page.keyboard.press("Enter")
    page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'VSFPrompt')")
    page.get_by_text("VSF Contrast").first.wait_for(state="hidden")  # the search is closed
    page.mouse.move(1010, 890)
    page.mouse.click(1000, 900)  # newer frontends let a new node hang on the mouse until then
    page.wait_for_function("() => !app.graph.nodes.find(n => n.type === 'VSFPrompt').flags.ghost")
    prompt = page.evaluate("""() => {
        const node = app.graph.nodes.find(n => n.type === 'VSFPrompt')
        node.pos = [440, 0]
        for (const [name, value] of [['prompt', 'a red car in the center, day'], ['negative', 'wheels']])
            node.widgets.find(w => w.name === name).value = value
        app.canvas.setDirty(true, true)
        return new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn(node.id))))
    }""")  # fmt: skip
    before = page.evaluate("() => app.graph.links.size ?? Object.keys(app.graph.links).length")
    page.screenshot(path=artefacts / "before the wires.png")
    drag(page, ids["UNETLoader"], "MODEL", prompt, "model")
    drag(page, ids["VSFTestbedCLIPLoader"], "CLIP", prompt, "clip")
    drag(page, prompt, "MODEL", ids["KSampler"], "model")
    drag(page, prompt, "positive", ids["KSampler"], "positive")
    assert page.evaluate("() => app.graph.links.size ?? Object.keys(app.graph.links).length") == before + 4
    pictures = []
    for strength in (1.0, 0.0):
        page.evaluate("""([id, value]) => {
            app.graph.getNodeById(id).widgets.find(w => w.name === 'strength').value = value
        }""", [prompt, strength])  # fmt: skip
        status, body = run(page, server, page.evaluate("() => app.graph.serialize()"))
        assert status == 200, json.dumps(body)
        [saved] = server.wait(body["prompt_id"]).values()
        page.wait_for_function(SHOWS_FILE, arg=[str(ids["SaveImage"]), saved["images"][0]["filename"], False])
        screenshot(page, artefacts / f"one node and four wires, strength {strength:g}.png")
        pictures.append(pixels(server.picture(saved["images"][0])))
    assert (pictures[0] != pictures[1]).any(), "the negative does nothing"
