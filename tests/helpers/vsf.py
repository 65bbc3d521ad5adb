"""Short names for what the tests do with the pack."""
from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import tiny
import vsf_pack
from vsf_pack.nodes.glue.conditioning import WORDS
from vsf_pack.nodes.vsf_guidance import VSFGuidance


def node_classes() -> dict[str, type]:
    """id -> class, through the pack's entry point. In a thread: Playwright's browser keeps an event loop on this one."""
    async def load() -> list[type]:
        return await (await vsf_pack.comfy_entrypoint()).get_node_list()
    with ThreadPoolExecutor(1) as pool:
        return {node.GET_SCHEMA().node_id: node for node in pool.submit(asyncio.run, load()).result()}


def negative(length: int = 5, seed: int = 2, **options) -> list:
    """A negative as VSFTextEncode gives it: random tokens, all of them words."""
    return tiny.conditioning(length, seed, **{WORDS: length}, **options)


def guide(model, conditioning: list, scale: float = 2.0, bias: float = 0.0, start: float = 0.0, end: float = 1.0):
    """The node itself."""
    return VSFGuidance.execute(model, conditioning, scale, bias, start, end).args[0]
