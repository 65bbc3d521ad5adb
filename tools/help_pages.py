"""Write the nodes' help pages in the languages of locales/: web/docs/<node>/<language>.md, where ComfyUI looks first.

    python tools/help_pages.py

Names, descriptions and inputs are the node translations' own (locales/<language>/nodeDefs.json); the rest is in
help/<language>.json. The English pages, web/docs/<node>.md, are written by hand. Templates cannot be translated: ComfyUI serves
a pack's workflow the same in every language.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS, LOCALES, TEXTS = ROOT / "web" / "docs", ROOT / "locales", Path(__file__).resolve().parent / "help"
STARTS = {  # VSF Guidance's starting values, `scale` and `bias`; where they are from is on the English page
    "SD3.5 Large Turbo": (2.0, 0.2), "Flux.1 schnell": (2.5, 0.2), "Flux.1 dev": (3.8, 0.2), "Wan 2.1, 2.2": (1.7, 0.2),
    "Qwen-Image": (1.0, 0.08), "": (1.75, 0.0),
}  # fmt: skip


def page(node_id: str, node: dict, texts: dict, names: dict[str, str]) -> str:
    """One page. node: its entry in nodeDefs.json; names: of all nodes, as the language has them."""
    own, headings, join = texts.get(node_id, {}), texts["headings"], texts["join"]
    parts = [f"# {node['display_name']}", node["description"]]
    if "steps" in own:
        parts.append("\n".join(f"{number}. {step}" for number, step in enumerate(own["steps"], 1)))
    for key in (key for key in own if key.startswith("picture")):  # "picture-mask" is of <node>-mask.jpg
        parts += [f"![{node['display_name']}]({node_id}{key.removeprefix('picture')}.jpg)", own[key]]

    def section(heading: str, lines: list[str]) -> None:
        if lines:
            parts.extend([f"## {headings[heading]}", "\n".join(f"- {line}" for line in lines)])

    section("when", own.get("when", []))
    section("inputs", [f"**{one['name']}** (`{key}`){join}{one['tooltip']}" for key, one in node["inputs"].items()])
    if node_id == "VSFGuidance":
        values = [(model or texts["every_other"], *value) for model, value in STARTS.items()]
        section("starts", [f"**{model}**{join}{scale:g}, {bias:g}" for model, scale, bias in values])
    section("cannot", own.get("cannot", []))
    section("nothing", own.get("nothing", []))
    section("which", [f"**{names[key]}**{join}{text}" for key, text in texts["which"].items()])
    return "\n\n".join(parts) + "\n"


def files() -> dict[Path, str]:
    """Every page with its text."""
    found = {}
    for folder in sorted(path for path in LOCALES.iterdir() if path.is_dir()):
        nodes = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))
        texts = json.loads((TEXTS / f"{folder.name}.json").read_text(encoding="utf-8"))
        names = {key: node["display_name"] for key, node in nodes.items()}
        for node_id, node in nodes.items():
            found[DOCS / node_id / f"{folder.name}.md"] = page(node_id, node, texts, names)
    return found


def main() -> None:
    """Write them all."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
