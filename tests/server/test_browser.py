"""The shipped workflows in the real frontend, in a headless Chromium: opened as an artist opens them, and run.

Screenshots go to artefacts/ (ignored by git).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import build_workflows
import pytest
import testbed_workflows
from comfy_server import PACK, ComfyServer
from recipes import Recipe
from server_checks import (
    EVERY_RECIPE,
    LOADERS,
    PICTURE_RECIPES,
    WIDE_MODEL,
    check_only_models_missing,
    check_pair,
    pixels,
)

LONG = ("Z-Image", "Krea 2", "Qwen-Image")  # at 1024 px and more, 8 steps
RENDERERS = pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])


@pytest.fixture
def page(browser, server: ComfyServer) -> Iterator:
    """The frontend in a fresh profile, with an empty graph and no dialog open."""
    context = browser.new_context(viewport={"width": 1900, "height": 1100})
    tab = context.new_page()
    tab.set_default_timeout(180_000)  # a busy machine is slow to draw
    tab.goto(server.address)
    tab.wait_for_function("window.app?.extensionManager && window.app.graph")
    use_renderer(tab, False)  # the server keeps this setting
    yield tab
    context.close()


def use_renderer(page, vue: bool) -> None:
    """The classic canvas or Nodes 2.0."""
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)


def load(page, workflow: dict) -> None:
    """Open a workflow as a dropped file is opened."""
    page.evaluate("async workflow => { await app.loadGraphData(workflow) }", workflow)


def screenshot(page, path: Path) -> None:
    """A picture of the whole graph, without the dialogs beside it."""
    for _ in range(3):
        page.keyboard.press("Escape")
    page.evaluate("""() => {
        const edge = (pick, way) => Math[way](...app.graph.nodes.map(pick))
        const [left, top] = [0, 1].map(i => edge(n => n.pos[i], 'min') - 40)
        const [right, bottom] = [0, 1].map(i => edge(n => n.pos[i] + n.size[i], 'max') + 40)
        app.canvas.ds.fitToBounds?.([left, top - 60, right - left, bottom - top + 60])
    }""")
    page.wait_for_timeout(700)
    page.screenshot(path=path)


def run(page, server: ComfyServer) -> tuple[int, dict]:
    """Press Run; the status and body of the frontend's own POST /prompt."""
    page.keyboard.press("Escape")  # older frontends list missing models in a dialog
    with page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
        page.get_by_test_id("queue-button").click()
    return answer.value.status, answer.value.json()


def types_in_graph(page) -> list[str]:
    """The types of all nodes, and with a mark those that the frontend does not know."""
    return sorted(
        page.evaluate("() => app.graph.nodes.map(n => n.type + (n.has_errors && !n.constructor.nodeData ? ' (missing)' : ''))")
    )


@EVERY_RECIPE
def test_shipped_workflow_from_the_template_browser(
    recipe: Recipe, page, server: ComfyServer, artefacts: Path
) -> None:
    """Templates > EXTENSIONS > our pack > card; every node is known, and only the model files are missing when it runs."""
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK, exact=True).first.click()
    card = page.get_by_test_id(f"template-workflow-{recipe.title}")
    card.wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=artefacts / "templates.png")
    card.click()
    workflow = build_workflows.build(recipe)
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
    assert types_in_graph(page) == sorted(node["type"] for node in workflow["nodes"])
    page.wait_for_timeout(1000)
    page.screenshot(path=artefacts / f"{recipe.title} - opened.png")
    assert page.get_by_text("Missing Node").count() == 0
    status, body = run(page, server)
    assert status == 400
    check_only_models_missing(body["node_errors"])
    assert {found["class_type"] for found in body["node_errors"].values()} == \
           {node["type"] for node in workflow["nodes"]} & LOADERS  # fmt: skip
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


@PICTURE_RECIPES
def test_twin_runs_to_the_end(recipe: Recipe, page, server: ComfyServer, artefacts: Path) -> None:
    """The loaders are swapped and nothing else: size, steps, prompts and settings are the shipped ones. Three that would take a
    CPU minutes, and show nothing that the others do not, are made smaller too.

    There is no twin for videos: the testbed has no video model. test_workflows.py takes them up to the missing files.
    """
    if recipe.title.startswith(LONG):
        recipe = dataclasses.replace(recipe, size=(testbed_workflows.SIZE,) * 2)
    twin = testbed_workflows.twin(build_workflows.build(recipe))
    load(page, testbed_workflows.with_values(twin, {"UNETLoader": [WIDE_MODEL]}))  # the testbed's, with room for this size
    status, body = run(page, server)
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
    load(page, testbed_workflows.with_values(demo, {"PrimitiveInt": [31 + vue]}))
    status, body = run(page, server)
    assert status == 200, json.dumps(body)
    server.wait(body["prompt_id"])
    page.wait_for_function("() => app.graph.nodes.filter(n => n.type === 'SaveImage' && n.imgs?.length).length === 2"
                           " || document.querySelectorAll('[data-testid*=node] img, .lg-node img').length >= 2")  # fmt: skip
    screenshot(page, artefacts / f"demo - {'nodes2' if vue else 'canvas'}.png")


def test_help_page_opens(page, artefacts: Path) -> None:
    """The button with the i on a selected node shows our page, and not the node's description in its place."""
    load(page, testbed_workflows.demo())
    page.evaluate("() => app.canvas.selectNode(app.graph.nodes.find(n => n.type === 'VSFGuidance'))")
    with page.expect_response(lambda r: r.url.endswith("/docs/VSFGuidance.md") and r.ok):
        page.get_by_test_id("info-button").click()
    page.wait_for_timeout(500)
    page.screenshot(path=artefacts / "help.png")
