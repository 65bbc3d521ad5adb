"""The testbed's exact scorer as a judge: an OpenAI-compatible server on loopback, for a run without a vision model.

    python -m benchmarks.neggenbench.testbed_judge --write-pairs 16 pairs.json    prompt pairs that the testbed knows
    python -m benchmarks.neggenbench.testbed_judge --port 8190                    then: --judge-url http://127.0.0.1:8190/v1

It reads the scene from question 1, decodes the picture of the request, and answers by testbed/score.py.
"""
from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "testbed"))

import scenes  # noqa: E402
import score  # noqa: E402

SINGULAR = ("handle", "roof")  # of the parts
QUESTION = re.compile(r"Question 1: Is there a (\w+) (\w+) (in the center|on the left|on the right), (\w+), whether or not")


def pair(found: scenes.Pair) -> dict[str, str]:
    """A testbed pair in the authors' format."""
    be = "Is" if found.negative in SINGULAR else "Are"
    return {
        "prompt": found.positive,
        "missing_element": found.negative,
        "question_1": f"Is there {found.positive}, whether or not its {found.negative} can be seen?",
        "question_2": f"{be} the {found.negative} of the {found.scene.subject} missing or not visible?",
    }


def scene(questions: str) -> scenes.Scene:
    """The scene that question 1 names. Its place does not matter: the scorer looks for the subject."""
    found = QUESTION.search(questions)
    if not found:
        raise ValueError(f"question 1 names no scene of the testbed: {questions[:200]!r}")
    colour, subject, place, background = found.groups()
    return scenes.Scene(subject, colour, place.split()[-1], background)


class Scorer:
    """The scorer behind POST /v1/chat/completions."""

    def __init__(self) -> None:
        self.scorer = score.load()

    def verdict(self, png: bytes, wanted: scenes.Scene) -> dict[str, Any]:
        """What the scorer sees in a picture."""
        with Image.open(io.BytesIO(png)) as image:
            found = score.score(self.scorer, np.array(image.convert("RGB"))[None], [wanted])
        kept, absent = bool(found.subject_kept[0]), bool(found.part_absent[0])
        return {"reasoning": f"The scorer {'sees' if kept else 'does not see'} the {wanted.subject} and "
                             f"{'does not see' if absent else 'sees'} its {scenes.PARTS[wanted.subject]}.",
                "answer_1": kept, "answer_2": absent, "quality": float(found.quality[0])}

    async def answer(self, request: web.Request) -> web.Response:
        """One chat completion. Tokens are counted as words, and 85 for the picture."""
        body = await request.json()
        content = {part["type"]: part for part in body["messages"][-1]["content"]}
        questions, address = content["text"]["text"], content["image_url"]["image_url"]["url"]
        try:
            found = self.verdict(base64.b64decode(address.partition(",")[2]), scene(questions))
        except ValueError as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)
        text = json.dumps(found)
        words = 85 + sum(len(str(message["content"]).split()) for message in body["messages"][:-1]) + len(questions.split())
        return web.json_response({
            "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": words, "completion_tokens": len(text.split())},
        })


def app() -> web.Application:
    """The server, its limit on a request's size raised to what a large picture takes."""
    found = web.Application(client_max_size=64 * 2**20)
    found.router.add_post("/v1/chat/completions", Scorer().answer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8190)
    parser.add_argument("--write-pairs", nargs=2, metavar=("COUNT", "FILE"), help="write prompt pairs and end")
    options = parser.parse_args()
    if options.write_pairs:
        count, file = options.write_pairs
        entries = [pair(found) for found in scenes.prompt_pairs(int(count))]
        Path(file).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        return
    web.run_app(app(), host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
