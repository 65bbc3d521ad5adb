"""The shipped workflows in the real frontend, in a headless Chromium: opened as an artist opens them, looked at, and run.

Screenshots go to artefacts/ (ignored by git).
"""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import build_workflows
import testbed_workflows
from comfy_server import PACK, ComfyServer
from frontend import PICTURE_IN, active, load, run, run_and_see, see, use_renderer, wait_for_graph
from recipes import RECIPES, TEMPLATES, Recipe
from server_checks import (
    EVERY_RELEASED,
    EVERY_TEMPLATE,
    LOADERS,
    PICTURE_RECIPES,
    RENDERERS,
    WIDE_MODEL,
    check_only_models_missing,
    check_pair,
    small,
)

WHOLE = "SD3.5 Large Turbo"  # run at 1024 px

PLACES = """vue => {
    const {left, top} = app.canvas.canvas.getBoundingClientRect(), [scale, [x, y]] = [app.canvas.ds.scale, app.canvas.ds.offset]
    const drawn = node => {
        const [a, b, width, height] = node.boundingRect
        return [left + (a + x) * scale, top + (b + y) * scale, width * scale, height * scale]
    }
    const shown = node => {
        const {left, top, width, height} = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect()
        return [left, top, width, height]
    }
    return app.graph.nodes.map(node => [node.title, ...(vue ? shown : drawn)(node)])
}"""
"""Title, left, top, width, height of each node on the page, as this renderer has it."""

TOAST = "() => [...document.querySelectorAll('[role=alert], [data-testid*=error-overlay]')].map(e => e.getBoundingClientRect())"


def overlap(one: list, other: list) -> bool:
    """Whether two rectangles (left, top, width, height) have more than a line in common."""
    return all(one[i] + one[i + 2] - 1 > other[i] and other[i] + other[i + 2] - 1 > one[i] for i in (0, 1))


def check_layout(page, vue: bool) -> None:
    """Text is drawn, no node lies on another, all are in the window, and no message lies on VSF Prompt."""
    assert not page.evaluate("() => app.canvas.low_quality"), "too far away: the canvas draws no text"
    places = page.evaluate(PLACES, vue)
    for number, (title, *place) in enumerate(places):
        for other, *another in places[:number]:
            assert not overlap(place, another), f"{title} lies on {other}"
        assert place[0] >= 0 and place[0] + place[2] <= 1600 and place[1] >= 0 and place[1] + place[3] <= 1000, title
    for toast in page.evaluate(TOAST):
        for title, *place in places:
            if title.startswith("VSF Prompt"):
                assert not overlap(place, [toast[side] for side in ("x", "y", "width", "height")])


def test_template_browser(page, artefacts: Path) -> None:
    """Templates > EXTENSIONS > our pack: every card with its picture; the first, clicked, is its workflow."""
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_role("dialog").get_by_text(PACK, exact=True).first.click()  # a node has it too
    for recipe in reversed(TEMPLATES):
        card = page.get_by_test_id(f"template-workflow-{recipe.title}")
        card.scroll_into_view_if_needed()
        page.wait_for_function(f"card => {PICTURE_IN}(card)", arg=card.element_handle())
    page.screenshot(path=artefacts / "templates.png")
    card.click()
    wait_for_graph(page, build_workflows.build(recipe))


@EVERY_TEMPLATE
def test_shipped_workflow(recipe: Recipe, page, server: ComfyServer, artefacts: Path) -> None:
    """As the template browser loads it, in both renderers: every node is known, all is in view and readable, and only the
    model files are missing when it runs."""
    workflow = server.get_json(f"/api/workflow_templates/{PACK}/{urllib.parse.quote(recipe.title)}.json")
    assert workflow == build_workflows.build(recipe)
    load(page, workflow, recipe.title)
    assert page.get_by_text("Missing Node").count() == 0
    status, body = run(page, workflow)
    assert status == (200 if recipe.box else 400)
    if recipe.box:  # what needs no model runs: the mask is seen
        server.wait(body["prompt_id"])
    check_only_models_missing(body["node_errors"])
    wrong = {found["class_type"] for found in body["node_errors"].values()}
    assert wrong == {node["type"] for node in active(workflow)} & LOADERS
    page.wait_for_function("() => app.graph.nodes.some(node => node.has_errors)")
    for vue in (False, True):
        if vue:
            use_renderer(page, True)
            load(page, workflow, recipe.title)
        page.screenshot(path=artefacts / f"{recipe.title} - {'nodes2' if vue else 'canvas'}.png")
        check_layout(page, vue)


@EVERY_TEMPLATE
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
        values = before["widgets_values"]  # newer frontends leave out an empty list; an input that came later is behind them
        assert node.get("widgets_values", [])[: len(values)] == values or not values
        assert node["properties"].get("cnr_id") == before["properties"].get("cnr_id")


@EVERY_RELEASED
def test_workflow_of_an_earlier_release_opens(file: Path, page, object_info: dict) -> None:
    """Every node is known, and the frontend reads each value as the release meant it."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    load(page, workflow)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    made = testbed_workflows.to_api(workflow, object_info)
    assert {n: node["inputs"] for n, node in sent.items()} == {n: node["inputs"] for n, node in made.items()}


@EVERY_RELEASED
def test_workflow_of_an_earlier_release_runs(file: Path, page, server: ComfyServer, artefacts: Path) -> None:
    """With the testbed's models at the testbed's size, by the button."""
    size = [testbed_workflows.SIZE] * 2
    small = {"EmptySD3LatentImage": size, "EmptyLatentImage": size, "PrimitiveInt": [41]}
    load(page, testbed_workflows.with_values(testbed_workflows.twin(json.loads(file.read_text(encoding="utf-8"))), small))
    check_pair(run_and_see(page, server), testbed_workflows.SIZE)
    page.screenshot(path=artefacts / f"{file.parts[-3]} {file.stem}.png")


@PICTURE_RECIPES
def test_twin_runs_and_is_seen(recipe: Recipe, page, server: ComfyServer, artefacts: Path) -> None:
    """Loaders and words are swapped (the testbed knows few), the comparison is on, and the size is for two: at 1024 px each
    would take a CPU minutes and show nothing more. Steps and settings are the shipped ones. The pictures are seen in both
    renderers.

    Videos are run by test_workflows.py.
    """
    twin = small(recipe)
    load(page, twin)
    status, body = run(page, twin)
    assert status == 200, json.dumps(body)
    for vue in (False, True):
        use_renderer(page, vue)
        found = see(page, server, body["prompt_id"], vue)
        page.screenshot(path=artefacts / f"{recipe.title} - twin - {'nodes2' if vue else 'canvas'}.png")
        check_pair(found, testbed_workflows.SIZE)


def test_a_twin_of_the_shipped_size(page, server: ComfyServer, artefacts: Path) -> None:
    """As its template is, without the comparison."""
    recipe = next(recipe for recipe in RECIPES if recipe.model == WHOLE)
    twin = testbed_workflows.twin(build_workflows.build(recipe))
    load(page, testbed_workflows.with_values(twin, {"UNETLoader": [WIDE_MODEL]}))
    [picture] = run_and_see(page, server).values()
    assert picture.shape == (*reversed(recipe.size), 3) and picture.std() > 10
    page.screenshot(path=artefacts / f"{recipe.title} - whole.png")


@RENDERERS
def test_demo_in_both_renderers(vue: bool, page, server: ComfyServer, artefacts: Path) -> None:
    """The demo workflow, run with the button; both pictures show up in their nodes."""
    use_renderer(page, vue)
    demo = json.loads(testbed_workflows.DEMO.read_text(encoding="utf-8"))
    load(page, testbed_workflows.with_values(demo, {"PrimitiveInt": [31 + vue]}))
    check_pair(run_and_see(page, server, vue), testbed_workflows.SIZE)
    page.screenshot(path=artefacts / f"demo - {'nodes2' if vue else 'canvas'}.png")
