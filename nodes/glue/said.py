"""What a VSF node did, as a few lines on the node itself and in the log."""
from __future__ import annotations

import logging
import sys
from typing import Any

log = logging.getLogger("vsf")


def say(node: str | None, text: str) -> None:
    """Show a text on a node of the graph, by its id, as ComfyUI's own nodes do (server.py, send_progress_text): both renderers
    draw it below the inputs. Where no server runs, or the id is not known, the log alone has it."""
    log.info("VSF: %s", text)
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None and node is not None:
        server.send_progress_text(text.replace("\n", ".\n"), node)  # Nodes 2.0 runs lines together


def node_id(node: Any) -> str | None:
    """The id in the graph of the V3 node class that is being executed, if its schema asks for it (io.Hidden.unique_id)."""
    return getattr(getattr(node, "hidden", None), "unique_id", None)
