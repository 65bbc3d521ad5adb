"""What an artist does, in the real frontend: find VSF Prompt, wire it, run, see, read its help, change their mind, save."""

from __future__ import annotations

import json
import re
from pathlib import Path

import blueprint
import pytest
import testbed_workflows
from comfy_server import ComfyServer
from frontend import (
    STARTED,
    drag,
    load,
    open_search,
    press_run,
    run_and_see,
    search_box,
    select,
    set_widgets,
    types_of,
    use_renderer,
    wait_for_graph,
)
from playwright.sync_api import expect
from server_checks import RENDERERS, check_pair

LANGUAGES = ("zh", "zh-TW", "ja", "ko")
ROOT = Path(__file__).resolve().parents[2]
LOCALES = {name: json.loads((ROOT / "locales" / name / "nodeDefs.json").read_text(encoding="utf-8")) for name in LANGUAGES}
WORDS = (
    *("VSF", "negative prompt", "schnell", "distilled", "lightning", "turbo", "remove", "remove object", "without", "unwanted"),
    *("\u8d1f\u9762\u63d0\u793a\u8bcd", "\u53bb\u9664", "\u8ca0\u9762\u63d0\u793a\u8a5e", "\u79fb\u9664\u7269\u4ef6"),
    *("\u30cd\u30ac\u30c6\u30a3\u30d6\u30d7\u30ed\u30f3\u30d7\u30c8", "\u524a\u9664"),
    *("\ub124\uac70\ud2f0\ube0c \ud504\ub86c\ud504\ud2b8", "\uc81c\uac70"),
)  # fmt: skip
TITLE = "VSF Prompt (with negative)"
NODE = re.compile(rf"^\s*{re.escape(TITLE)}(?! subgraph)")
MODE = "kind => app.graph.nodes.find(n => n.type === kind).mode"
MUTED, BYPASSED = 2, 4


@pytest.fixture
def demo() -> dict:
    """The demo workflow in four steps."""
    return testbed_workflows.demo(steps=4)


@pytest.fixture
def paper(demo: dict, object_info: dict) -> dict:
    """The same with VSF Guidance, in API form: its node hands a model on, and can be bypassed."""
    return testbed_workflows.paper_form(testbed_workflows.to_api(demo, object_info))


def test_every_word_finds_it(page, artefacts: Path) -> None:
    """And before what else is ours."""
    open_search(page)
    box, found = search_box(page), page.get_by_role("search").get_by_text(TITLE)
    first = page.get_by_role("search").get_by_role("option").filter(has_text=re.compile("VSF")).first
    for word in WORDS:
        box.fill("no node has this name")
        found.first.wait_for(state="hidden")
        box.fill(word)
        found.first.wait_for()
        expect(first, word).to_have_text(NODE, timeout=60_000)
    page.screenshot(path=artefacts / "search.png")


STOCK = """async types => {
    app.graph.clear()
    const ids = Object.fromEntries(types.map(([type, x, y, values]) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        values.forEach((value, i) => { node.widgets[i].value = value })
        return [type, node.id]
    }))
    const node = type => app.graph.getNodeById(ids[type])
    const join = (a, output, b, input) => node(a).connect(output, node(b), input)
    join('VSFTestbedCLIPLoader', 0, 'CLIPTextEncode', 'clip')
    join('CLIPTextEncode', 0, 'KSampler', 'negative')
    join('EmptySD3LatentImage', 0, 'KSampler', 'latent_image')
    join('KSampler', 0, 'VAEDecode', 'samples')
    join('VAELoader', 0, 'VAEDecode', 'vae')
    join('VAEDecode', 0, 'SaveImage', 'images')
    app.canvas.ds.scale = 0.8
    app.canvas.ds.offset = [150, 200]
    app.canvas.setDirty(true, true)
    return ids
}"""
"""A text-to-image graph without a prompt, of [type, x, y, widgets]; the nodes' numbers by type."""

LINKS = "() => app.graph.links.size ?? Object.keys(app.graph.links).length"
DRAWN = "() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


def stock_graph(page, demo: dict) -> dict[str, int]:
    """That graph with the testbed's models."""
    files = {node["type"]: node["widgets_values"] for node in demo["nodes"] if node["mode"] == 0}
    return page.evaluate(STOCK, [
        ["UNETLoader", 0, 0, files["UNETLoader"]], ["VSFTestbedCLIPLoader", 0, 160, files["VSFTestbedCLIPLoader"]],
        ["VAELoader", 0, 280, files["VAELoader"]], ["EmptySD3LatentImage", 0, 400, [128, 128, 1]],
        ["CLIPTextEncode", 420, 420, [""]], ["KSampler", 900, 0, [7, "fixed", 4, 1.0, "euler", "simple", 1.0]],
        ["VAEDecode", 1240, 0, []], ["SaveImage", 1240, 140, ["VSF/searched"]],
    ])  # fmt: skip


def add_by_search(page, words: str, is_new: str) -> int:
    """Search, take the first that is found, put it down; its number. is_new: JavaScript, whether `n` is that node."""
    open_search(page)
    search_box(page).fill(words)
    page.get_by_role("search").get_by_role("option").filter(has_text=re.compile(re.escape(words), re.I)).first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => app.graph.nodes.some(n => {is_new})")
    page.get_by_role("search").first.wait_for(state="hidden")
    page.mouse.move(1010, 890)
    page.mouse.click(1000, 900)  # newer frontends let a new node hang on the mouse until then
    page.wait_for_function(f"() => !app.graph.nodes.find(n => {is_new}).flags.ghost")
    number = page.evaluate(f"""() => {{
        const node = app.graph.nodes.find(n => {is_new})
        node.pos = [440, 0]
        for (const [name, value] of [['prompt', 'a red car in the center, day'], ['negative', 'wheels']])
            node.widgets.find(w => w.name === name).value = value
        app.canvas.setDirty(true, true)
        return node.id
    }}""")
    page.evaluate(DRAWN)
    return number


def test_one_node_and_four_wires(page, server: ComfyServer, demo: dict, artefacts: Path) -> None:
    """From a text-to-image graph without a prompt to a picture without wheels; at strength 0 it is another."""
    ids = stock_graph(page, demo)
    prompt = add_by_search(page, "VSF Prompt", "n.type === 'VSFPrompt'")
    before = page.evaluate(LINKS)
    drag(page, ids["UNETLoader"], "MODEL", prompt, "model")
    drag(page, ids["VSFTestbedCLIPLoader"], "CLIP", prompt, "clip")
    drag(page, prompt, "MODEL", ids["KSampler"], "model")
    drag(page, prompt, "positive", ids["KSampler"], "positive")
    assert page.evaluate(LINKS) == before + 4
    pictures = []
    for strength in (1.0, 0.0):
        set_widgets(page, "VSFPrompt", strength=strength)
        [picture] = run_and_see(page, server).values()
        page.get_by_text("acted in 4 of 4 steps" if strength else "off: strength 0").first.wait_for()
        page.screenshot(path=artefacts / f"one node and four wires, strength {strength:g}.png")
        pictures.append(picture)
    assert (pictures[0] != pictures[1]).any(), "the negative does nothing"


@RENDERERS
def test_the_blueprint_is_added_and_runs(vue: bool, page, server: ComfyServer, demo: dict, artefacts: Path) -> None:
    """Found by its name; its five wires; the prompt that is sent is VSF Prompt's, with what its boxes say."""
    use_renderer(page, vue)
    ids = stock_graph(page, demo)
    page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", ids["CLIPTextEncode"])
    set_widgets(page, "KSampler", seed=51 + vue)
    added = add_by_search(page, blueprint.NAME, f"n.title === '{blueprint.NAME}'")
    page.evaluate("""([ids, added]) => {
        const node = id => app.graph.getNodeById(id)
        node(ids.UNETLoader).connect(0, node(added), 'model')
        node(ids.VSFTestbedCLIPLoader).connect(0, node(added), 'clip')
        for (const name of ['model', 'positive', 'negative']) node(added).connect(name, node(ids.KSampler), name)
    }""", [ids, added])  # fmt: skip
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    [inner] = [node["inputs"] for node in sent.values() if node["class_type"] == "VSFPrompt"]
    assert (inner["prompt"], inner["negative"], inner["strength"]) == ("a red car in the center, day", "wheels", 1)
    assert len(run_and_see(page, server, vue)) == 1
    page.screenshot(path=artefacts / f"blueprint - {'nodes2' if vue else 'canvas'}.png")


def test_help_page_with_its_picture(page, demo: dict, artefacts: Path) -> None:
    """The button with the i on a selected node shows our page, and not the node's description in its place."""
    load(page, demo)
    select(page, "VSFPrompt")
    page.get_by_test_id("info-button").click()
    page.get_by_role("heading", name=TITLE, exact=True).first.wait_for()
    page.wait_for_function("() => [...document.images].some(i => i.src.includes('docs/VSFPrompt.jpg') && i.naturalWidth)")
    page.screenshot(path=artefacts / "help.png")
    page.get_by_test_id("info-button").click()


def test_an_error_is_shown_on_the_node_that_has_it(page, server: ComfyServer, demo: dict, artefacts: Path) -> None:
    """A curve that is none: VSF Prompt's error, with VSF's message behind "View details". The next run is clean."""
    load(page, demo)
    set_widgets(page, "VSFPrompt", curve="sideways")
    page.evaluate("() => app.api.addEventListener('execution_error', e => { window.vsfError = e.detail }, {once: true})")
    status, body, _ = press_run(page)
    assert status == 200, json.dumps(body)
    page.wait_for_function("() => window.vsfError")
    error = page.evaluate("() => window.vsfError")
    assert error["node_type"] == "VSFPrompt" and error["exception_message"].startswith("VSF: ")
    page.get_by_role("button", name="View details").first.click()
    page.get_by_text("VSF: set `curve`").first.wait_for()
    page.screenshot(path=artefacts / "error.png")
    set_widgets(page, "VSFPrompt", curve="constant")
    check_pair(run_and_see(page, server), testbed_workflows.SIZE)


def toggle(page, key: str, mode: int) -> None:
    """A key that changes the mode of VSF Guidance, as a step of its own that can be undone. The frontend notes a step in the
    frame after the key, and the key's command may come later than that: a mouse button let go has it look once more."""
    page.keyboard.press(key)
    page.wait_for_function(f"kind => ({MODE})(kind) === {mode}", arg="VSFGuidance")
    page.evaluate("() => { window.dispatchEvent(new MouseEvent('mouseup')) }")


def test_bypass_mute_and_undo(page, server: ComfyServer, paper: dict, artefacts: Path) -> None:
    """VSF Guidance bypassed: both pictures are the same. Muted: the picture with it is not made. Undone: all is as it was."""
    page.evaluate("async prompt => { await app.loadApiJson(prompt, 'paper') }", paper)
    page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'VSFGuidance')")
    check_pair(run_and_see(page, server), testbed_workflows.SIZE)
    select(page, "VSFGuidance")
    toggle(page, "Control+b", BYPASSED)
    one, other = run_and_see(page, server).values()
    assert (one == other).all()
    page.screenshot(path=artefacts / "bypassed.png")
    toggle(page, "Control+b", 0)
    toggle(page, "Control+m", MUTED)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")  # not queued: its picture would be a step, too
    assert sent and "VSFGuidance" not in {node["class_type"] for node in sent.values()}
    page.keyboard.press("Control+z")
    page.wait_for_function(f"kind => ({MODE})(kind) === 0", arg="VSFGuidance")


def test_saved_and_opened_after_a_reload(page, server: ComfyServer, demo: dict) -> None:
    """Saved under a name, the page loaded anew, opened from there: its words are as they were left."""
    load(page, demo)
    set_widgets(page, "VSFPrompt", prompt="a green tree on the right, day", negative="apples", strength=1.25)
    page.evaluate("() => { app.extensionManager.command.execute('Comfy.SaveWorkflowAs') }")
    box = page.get_by_role("dialog").get_by_role("textbox").last
    box.fill("kept")
    with page.expect_response(lambda r: "workflows%2Fkept" in r.url and r.request.method == "POST" and r.ok):
        box.press("Enter")
    page.reload()
    page.wait_for_function(STARTED)
    kept = page.request.get(f"{server.address}/api/userdata/workflows%2Fkept.json")
    assert kept.ok
    page.evaluate("async text => { await app.loadGraphData(JSON.parse(text)) }", kept.text())
    wait_for_graph(page, demo)
    values = page.evaluate("() => app.graph.nodes.find(n => n.type === 'VSFPrompt').widgets.map(w => w.value)")
    assert values[:3] == ["a green tree on the right, day", "apples", 1.25]


DROP = """async ([name, bytes]) => {
    const data = new DataTransfer()
    data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}))
    app.canvas.canvas.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))
}"""


def test_a_picture_dropped_in_brings_its_workflow(page, server: ComfyServer, demo: dict, artefacts: Path) -> None:
    """A PNG that ComfyUI saved, with VSF Prompt and its words inside."""
    load(page, testbed_workflows.with_values(demo, {"PrimitiveInt": [61]}))
    status, body, _ = press_run(page)
    assert status == 200, json.dumps(body)
    saved = next(found["images"][0] for found in server.wait(body["prompt_id"]).values() if "images" in found)
    page.evaluate("() => app.graph.clear()")
    page.evaluate(DROP, [saved["filename"], list(server.picture(saved))])
    wait_for_graph(page, demo)
    assert page.evaluate("() => app.graph.nodes.find(n => n.type === 'VSFPrompt').widgets[1].value") == "wheels"
    page.screenshot(path=artefacts / "dropped.png")


@pytest.mark.parametrize("language", LANGUAGES)
def test_language(language: str, browser, server: ComfyServer, demo: dict, artefacts: Path) -> None:
    """The node's title, its inputs' names and its help page are the translation's."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    setting = f"{server.address}/settings/Comfy.Locale"
    context.request.post(setting, data=json.dumps(language))  # the server keeps it
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(server.address)
        page.wait_for_function(STARTED)
        use_renderer(page, True)
        load(page, demo)
        node = LOCALES[language]["VSFPrompt"]
        number = next(node["id"] for node in demo["nodes"] if node["type"] == "VSFPrompt")
        shown = page.locator(f'[data-node-id="{number}"]')
        shown.get_by_text(node["display_name"]).first.wait_for()
        for name in ("model", "prompt", "negative", "strength"):
            shown.get_by_text(node["inputs"][name]["name"], exact=True).first.wait_for()
        select(page, "VSFPrompt")
        with page.expect_response(lambda r: r.url.endswith(f"/docs/VSFPrompt/{language}.md") and r.ok):
            page.get_by_test_id("info-button").click()
        page.get_by_role("heading", name=node["display_name"], exact=True).first.wait_for()
        page.screenshot(path=artefacts / f"language - {language}.png")
        assert types_of(demo) == sorted(page.evaluate("() => app.graph.nodes.map(n => n.type)"))
    finally:
        context.request.post(setting, data='"en"')
        context.close()
