"""Workflows in ComfyUI's API format with named slots, and the rows of the table that they make.

A slot is a name in braces inside any input's text: "{prompt}", "{negative}", "{seed}", or one that the command line names. A
text that is nothing but a slot becomes the value with its own type, so that a seed is a number; elsewhere the value's text is
put in, as in "remove the {negative}". "{{name}}" stands for the text "{name}".
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import BenchError
from .pairs import Pair

SLOT = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
OF_PAIRS = ("prompt", "negative", "seed")  # filled anew for each picture
SETTINGS = ("output", "paper")  # of a row, and no slots


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a workflow, the values of its slots, the node whose picture counts, the paper's row beside it."""
    name: str
    workflow: dict[str, Any]
    values: dict[str, Any]
    output: str | None = None
    paper: str | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture to make. Rows that ask for the very same picture share the job's key."""
    row: Row
    pair: Pair
    seed: int

    @property
    def prompt(self) -> dict[str, Any]:
        """The workflow with its slots filled."""
        of_pair = {"prompt": self.pair.prompt, "negative": self.pair.missing_element, "seed": self.seed}
        return fill(self.row.workflow, self.row.values | of_pair)

    @functools.cached_property
    def key(self) -> str:
        """A name for the picture: the filled workflow's hash. Titles and the order of nodes do not count."""
        plain = {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in self.prompt.items()}
        return digest([plain, self.row.output])


def digest(value: object) -> str:
    """A JSON value's hash, as a file's name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:32]


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow in API format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"The workflow {path} cannot be read: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("nodes"), list):
        raise BenchError(f"{path} is a workflow as ComfyUI saves it; expected the API format. "
                         "Open it in ComfyUI and take File > Export (API).")
    if not isinstance(found, dict) or not found or not all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in found.values()
    ):
        raise BenchError(f"{path} is not a workflow in API format: expected an object of nodes, each with class_type and "
                         "inputs. In ComfyUI: File > Export (API).")
    return found


def texts(value: object) -> Iterator[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def slots(workflow: dict[str, Any]) -> set[str]:
    """The names of a workflow's slots."""
    found = (match[2] for node in workflow.values() for text in texts(node["inputs"]) for match in SLOT.finditer(text))
    return {name for name in found if name}


def replaced(value: Any, change: Callable[[str], Any]) -> Any:
    """The same JSON value with every text changed."""
    if isinstance(value, dict):
        return {key: replaced(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


def fill(workflow: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The workflow with its slots filled; the given one stays as it is."""
    def change(text: str) -> Any:
        whole = SLOT.fullmatch(text)
        if whole and whole[2]:
            return values[whole[2]]
        return SLOT.sub(lambda match: "{" + match[1] + "}" if match[1] else str(values[match[2]]), text)

    return {node: entry | {"inputs": replaced(entry["inputs"], change)} for node, entry in workflow.items()}


def find_node(workflow: dict[str, Any], wanted: str, name: str) -> str:
    """A node's id, by its id or title."""
    titles = {node: entry.get("_meta", {}).get("title", entry["class_type"]) for node, entry in workflow.items()}
    found = [wanted] if wanted in workflow else [node for node, title in titles.items() if title == wanted]
    if len(found) != 1:
        known = ", ".join(f"{node} ({title})" for node, title in titles.items())
        raise BenchError(f"Row {name}: output={wanted} should name one node by its id or title; {len(found)} have it. "
                         f"The nodes: {known}.")
    return found[0]


def leading_to(workflow: dict[str, Any], output: str) -> dict[str, Any]:
    """Only the nodes that the output needs, so that the server makes no other picture."""
    wanted, pending = set(), [output]
    while pending:
        node = pending.pop()
        if node in wanted:
            continue
        wanted.add(node)
        links = [value for value in workflow[node]["inputs"].values() if isinstance(value, list) and len(value) == 2]
        pending += [str(link[0]) for link in links if str(link[0]) in workflow and isinstance(link[1], int)]
    return {node: entry for node, entry in workflow.items() if node in wanted}


def make_row(name: str, path: Path, own: dict[str, Any], common: dict[str, Any], seeds: int) -> Row:
    """A row from the command line: `own` are its settings and slots, `common` those that all rows may use."""
    if taken := sorted(set(OF_PAIRS) & set(own | common)):
        raise BenchError(f"Row {name}: {', '.join(taken)} cannot be set, as the prompt pairs and --seeds fill it.")
    workflow, settings = read_workflow(path), common | own
    output = settings.get("output")
    if output is not None:
        output = find_node(workflow, str(output), name)
        workflow = leading_to(workflow, output)
    found = slots(workflow)
    if "prompt" not in found:
        raise BenchError(f"Row {name}: {path} has no slot {{prompt}}"
                         f"{' on the way to its output' if output else ''}. Write {{prompt}} where the prompt's text is.")
    if "seed" not in found and seeds > 1:
        raise BenchError(f"Row {name}: {path} has no slot {{seed}}, so that its {seeds} seeds would give one picture. Write "
                         '"{seed}" in place of the seed\'s number, or take --seeds 1.')
    values = {key: value for key, value in settings.items() if key in found}
    if unknown := sorted(found - set(values) - set(OF_PAIRS)):
        raise BenchError(f"Row {name}: {path} has slots that nothing fills: {', '.join(unknown)}. Known are "
                         f"{', '.join(OF_PAIRS)}; give others as NAME=VALUE after the row, or write {{{{name}}}} for a text.")
    if unused := sorted(set(own) - found - set(SETTINGS)):
        raise BenchError(f"Row {name}: {path} has no slot {', '.join(unused)}. It has: {', '.join(sorted(found))}.")
    return Row(name, workflow, values, output, None if settings.get("paper") is None else str(settings["paper"]))
