"""Short names for what the tests do with the pack."""
from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tiny
import vsf_pack
from vsf_pack.nodes.glue.reading.conditioning import WORDS
from vsf_pack.nodes.vsf_guidance import VSFGuidance

T = TypeVar("T")

EVERY = bool(os.environ.get("VSF_EVERY"))
"""Whether to test what a plain run leaves out because it is the same code once more: `python dev.py versions` does."""


def apart(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread: Playwright's browser, in another test, keeps an event loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def node_classes() -> dict[str, type]:
    """id -> class, through the pack's entry point."""
    async def load() -> list[type]:
        return await (await vsf_pack.comfy_entrypoint()).get_node_list()
    return {node.GET_SCHEMA().node_id: node for node in apart(asyncio.run, load())}


def negative(length: int = 5, seed: int = 2, **options) -> list:
    """A negative as VSFTextEncode gives it: random tokens, all of them words."""
    return tiny.conditioning(length, seed, **{WORDS: length}, **options)


def guide(model, conditioning: list, scale: float = 2.0, bias: float = 0.0, start: float = 0.0, end: float = 1.0):
    """The node itself."""
    return VSFGuidance.execute(model, conditioning, scale, bias, start, end).args[0]
