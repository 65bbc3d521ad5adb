"""The shipped workflows in the real frontend, in a headless Chromium: opened as an artist opens them, looked at, and run.

Screenshots go to artefacts/ (ignored by git).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import build_workflows
import testbed_workflows
from comfy_server import PACK, ComfyServer
from frontend import PICTURE_IN, active, load, run, run_and_see, use_renderer, wait_for_graph
from recipes import Recipe
from server_checks import (
    EVERY_RELEASED,
    EVERY_TEMPLATE,
    LOADERS,
    PICTURE_RECIPES,
    RENDERERS,
    WIDE_MODEL,
    check_only_models_missing,
    check_pair,
)

WHOLE = ("SD3.5 Large Turbo", "SDXL Lightning")  # run at 1024 px: a plain loader and a checkpoint's, both kinds of latent

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


@EVERY_TEMPLATE
def test_shipped_workflow_from_the_template_browser(recipe: Recipe, page, server: ComfyServer, artefacts: Path) -> None:
    """Templates > EXTENSIONS > our pack > card, in both renderers; every node is known, all is in view and readable, and
    only the model files are missing when it runs."""
    workflow = build_workflows.build(recipe)
    for vue in (False, True):
        use_renderer(page, vue)
        page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        page.get_by_role("dialog").get_by_text(PACK, exact=True).first.click()  # a node has it too
        card = page.get_by_test_id(f"template-workflow-{recipe.title}")
        card.scroll_into_view_if_needed()
        page.wait_for_function(f"card => {PICTURE_IN}(card)", arg=card.element_handle())
        page.screenshot(path=artefacts / "templates.png")
        card.click()
        wait_for_graph(page, workflow)
        assert page.get_by_text("Missing Node").count() == 0
        status, body = run(page, workflow)
        assert status == (200 if recipe.box else 400)
        if recipe.box:  # what needs no model runs: the mask is seen
            server.wait(body["prompt_id"])
        check_only_models_missing(body["node_errors"])
        wrong = {found["class_type"] for found in body["node_errors"].values()}
        assert wrong == {node["type"] for node in active(workflow)} & LOADERS
        page.wait_for_function("() => app.graph.nodes.some(node => node.has_errors)")
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
    """Loaders and words are swapped (the testbed knows few) and nothing else: steps and settings are the shipped ones, and the
    size is for two, on the canvas. At 1024 px the others would take a CPU minutes and show nothing more: their size is held by
    what the frontend sends, above. In Nodes 2.0 each is small.

    Videos are run by test_workflows.py.
    """
    words = dict(zip(("positive", "negative"), testbed_workflows.PAIRS[0], strict=True))
    side = testbed_workflows.SIZE * testbed_workflows.shrink(recipe)
    for vue in (False, True):
        small = vue or not recipe.title.endswith(WHOLE)
        made = dataclasses.replace(recipe, **words, seed=7 + vue, size=(side, side) if small else recipe.size)
        twin = testbed_workflows.twin(build_workflows.with_comparison(build_workflows.build(made)))
        if not small:
            twin = testbed_workflows.with_values(twin, {"UNETLoader": [WIDE_MODEL]})  # with room for this size
        use_renderer(page, vue)
        load(page, twin)
        check_pair(run_and_see(page, server, vue), made.size[0] // testbed_workflows.shrink(recipe))
        page.screenshot(path=artefacts / f"{recipe.title} - twin - {'nodes2' if vue else 'canvas'}.png")


@RENDERERS
def test_demo_in_both_renderers(vue: bool, page, server: ComfyServer, artefacts: Path) -> None:
    """The demo workflow, run with the button; both pictures show up in their nodes."""
    use_renderer(page, vue)
    demo = json.loads(testbed_workflows.DEMO.read_text(encoding="utf-8"))
    load(page, testbed_workflows.with_values(demo, {"PrimitiveInt": [31 + vue]}))
    check_pair(run_and_see(page, server, vue), testbed_workflows.SIZE)
    page.screenshot(path=artefacts / f"demo - {'nodes2' if vue else 'canvas'}.png")
