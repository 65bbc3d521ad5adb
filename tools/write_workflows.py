"""Write the workflows that the repository has: workflows/*.json, the testbed's demo and the subgraph blueprint.

    python tools/write_workflows.py
"""

from __future__ import annotations

from pathlib import Path

import blueprint
import testbed_workflows
from build_workflows import ROOT, WORKFLOWS, build
from recipes import TEMPLATES
from workflow_graph import dump


def files() -> dict[Path, str]:
    """Every file, with its text."""
    workflows = {WORKFLOWS / f"{recipe.title}.json": dump(build(recipe)) for recipe in TEMPLATES}
    return workflows | testbed_workflows.demo_files() | blueprint.files()


def main() -> None:
    """Write them all."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
