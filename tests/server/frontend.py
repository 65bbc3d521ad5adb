"""The real frontend, driven: open, look at, run.

Everything waits for a state of the frontend, and nothing sleeps.
"""

from __future__ import annotations

import contextlib
import json

import numpy as np
from comfy_server import ComfyServer
from playwright.sync_api import TimeoutError
from server_checks import pixels

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


def use_renderer(page, vue: bool) -> None:
    """The classic canvas or Nodes 2.0."""
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)


def load(page, workflow: dict, template: str | None = None) -> None:
    """Open a workflow as a dropped file is opened; or, under its name, as a template is, which comes into view as a whole."""
    name = [template, {"openSource": "template"}] if template else []
    page.evaluate("async ([graph, ...name]) => { await app.loadGraphData(graph, true, true, ...name) }", [workflow, *name])
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


def run(page, workflow: dict) -> tuple[int, dict]:
    """Press Run; the status and body of the frontend's own POST /prompt, which queues this workflow and no other."""
    wanted = sorted(node["type"] for node in active(workflow))
    queued = page.evaluate("async () => Object.values((await app.graphToPrompt()).output).map(n => n.class_type)")
    assert sorted(queued) == wanted, "another graph would be queued"
    status, body, sent = press_run(page)
    assert sorted(node["class_type"] for node in sent.values()) == wanted
    return status, body


def press_run(page) -> tuple[int, dict, dict]:
    """Press Run; the status and body of the frontend's own POST /prompt, and the prompt that it sent."""
    page.keyboard.press("Escape")  # older frontends list missing models in a dialog
    with page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
        page.get_by_test_id("queue-button").click()
    return answer.value.status, answer.value.json(), answer.value.request.post_data_json["prompt"]


def run_and_see(page, server: ComfyServer, vue: bool = False) -> dict[str, np.ndarray]:
    """Press Run and wait until every node that saves shows its picture; the pictures by the nodes' titles."""
    status, body, _ = press_run(page)
    assert status == 200, json.dumps(body)
    return see(page, server, body["prompt_id"], vue)


def see(page, server: ComfyServer, prompt_id: str, vue: bool) -> dict[str, np.ndarray]:
    """Wait for a queued prompt, in either renderer, as `run_and_see`."""
    found = {}
    for node, saved in server.wait(prompt_id, seconds=900).items():
        if "images" in saved:
            page.wait_for_function(SHOWS_FILE, arg=[node, saved["images"][0]["filename"], vue])
            title = page.evaluate("id => app.graph.getNodeById(id).title", int(node))
            found[title] = pixels(server.picture(saved["images"][0]))
    return found


def set_widgets(page, kind: str, **values: object) -> None:
    """Set widgets of every node of a type."""
    page.evaluate("""([kind, values]) => {
        for (const node of app.graph.nodes.filter(n => n.type === kind))
            for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value
    }""", [kind, values])  # fmt: skip


def select(page, kind: str) -> None:
    """Select the node of this type, with the keyboard on the canvas."""
    page.evaluate("""kind => {
        app.canvas.selectNode(app.graph.nodes.find(n => n.type === kind))
        app.canvas.canvas.focus()
    }""", kind)  # fmt: skip


def open_search(page) -> None:
    """The node search on the empty canvas, ready for words. Two clicks that a busy machine sees too far apart are no double
    click: then once more, as one would."""
    search_box(page).wait_for(state="hidden")
    for patience in (5_000, 10_000, 20_000, 120_000):
        page.mouse.dblclick(1000, 900)
        with contextlib.suppress(TimeoutError):
            return search_box(page).wait_for(timeout=patience)
    raise AssertionError("a double click on the empty canvas opens no search")


def search_box(page):
    """Where the words go."""
    return page.get_by_role("search").get_by_role("combobox").or_(page.locator(".comfy-vue-node-search-container input")).first


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
