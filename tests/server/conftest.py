"""The real ComfyUI server with the pack and the testbed, and a real browser on it: each started once for all tests here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "artefacts"
sys.path += [str(ROOT / "tools"), str(Path(__file__).parent)]

from comfy_server import PACK, PACK_SOURCE, TESTBED_MODELS, TESTBED_SOURCE, ComfyServer  # noqa: E402
from frontend import STARTED, search_box, use_renderer  # noqa: E402
from server_checks import WIDE_MODEL  # noqa: E402
from testbed_lora import write_lora  # noqa: E402

WIDE_GRID = 84  # 1328 px, the widest of the workflows: 83 x 83 image tokens


def write_wide_model(target: Path) -> None:
    """The testbed's denoiser with room for big pictures, so that a shipped workflow runs with its own size.

    The table of positions (sine and cosine of a position's row and column) goes on beyond the trained ones; its middle, which
    is what a 128 px picture takes, stays as it is. All other weights are the testbed's.
    """
    import torch
    from comfy.ldm.modules.diffusionmodules.mmdit import get_2d_sincos_pos_embed_torch
    from safetensors.torch import load_file, save_file

    weights = load_file(TESTBED_SOURCE / "weights" / TESTBED_MODELS["diffusion_models"])
    table = weights.get("pos_embed")
    if table is not None and table.shape[1] < WIDE_GRID**2:
        side = round(table.shape[1] ** 0.5)
        centre = (side - 1) / 2
        wide = get_2d_sincos_pos_embed_torch(table.shape[2], WIDE_GRID, WIDE_GRID, centre, centre + (WIDE_GRID - side) / 2)
        middle = slice((WIDE_GRID - side) // 2, (WIDE_GRID + side) // 2)
        kept = wide.reshape(WIDE_GRID, WIDE_GRID, -1)[middle, middle].flatten(0, 1)
        assert torch.allclose(kept, table[0].float(), atol=0.02), "the testbed's table of positions has another formula"
        weights["pos_embed"] = wide[None].to(table.dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, target)


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """A folder that git ignores, for screenshots and logs to look at."""
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, artefacts: Path) -> Iterator[ComfyServer]:
    """ComfyUI with the pack under its registry name, the testbed's pack and models, the wide model, a LoRA and ComfyUI's
    own example picture, which every installation has."""
    base = tmp_path_factory.mktemp("comfyui")
    write_wide_model(base / "models" / "diffusion_models" / WIDE_MODEL)
    write_lora(base / "models")
    (base / "input").mkdir()
    shutil.copyfile(Path(os.environ["COMFYUI_PATH"]) / "input" / "example.png", base / "input" / "example.png")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"Comfy.TutorialCompleted": true}')  # else the first page opens the template browser by itself
    arguments = ("--cpu", "--use-pytorch-cross-attention")  # the attention that a GPU takes by default, here on a CPU
    with ComfyServer(base, {PACK: PACK_SOURCE}, arguments=arguments) as running:
        yield running
        shutil.copyfile(running.log_file, artefacts / "server.log")


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict:
    """What the server says of every node."""
    return server.get_json("/object_info")


def find_browser() -> str | None:
    """A Chromium on this machine: VSF_BROWSER, then the usual names on the path."""
    names = (
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
        "microsoft-edge",
        "msedge",
    )
    return os.environ.get("VSF_BROWSER") or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium. Without one the browser tests are skipped, but never in CI."""
    from playwright.sync_api import Error, sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
    path = find_browser()
    with sync_playwright() as playwright:
        try:
            ways = [{"executable_path": path}] if path else [{"channel": "chrome"}, {"channel": "msedge"}, {}]
            for way in ways:
                try:
                    running = playwright.chromium.launch(args=flags, **way)
                    break
                except Error as error:
                    trouble = error
            else:
                raise trouble
        except Error as error:
            text = f"no Chromium, Chrome or Edge could be started (VSF_BROWSER names one): {str(error).splitlines()[0]}"
            if os.environ.get("CI"):
                pytest.fail(text)
            pytest.skip(text)
        yield running
        running.close()


@pytest.fixture(scope="session")
def tab(browser, server: ComfyServer) -> Iterator:
    """The frontend in a fresh profile, its start over: one page for all tests."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(120_000)  # a busy machine is slow to draw
    opened.goto(server.address)
    opened.wait_for_function(STARTED)
    yield opened
    context.close()


@pytest.fixture
def page(tab):
    """That page with the classic canvas, and no dialog, message or tab of another test's."""
    for _ in range(3):
        tab.keyboard.press("Escape")
    search_box(tab).wait_for(state="hidden")
    use_renderer(tab, False)
    tab.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")  # of the help, of an error
    tab.evaluate("""async () => {
        const {openWorkflows, activeWorkflow, closeWorkflow} = app.extensionManager.workflow
        for (const other of openWorkflows.filter(one => one !== activeWorkflow)) await closeWorkflow(other)
    }""")
    return tab
