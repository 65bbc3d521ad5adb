"""A run's folder: pictures and answers under the hash of what they were made from, so that nothing is made twice."""
from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

from PIL import Image


def write(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        new.write_bytes(data)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """The same for a JSON value."""
    write(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def plain_png(data: bytes) -> bytes:
    """A picture's pixels alone. ComfyUI's files carry the workflow, and with it the answer that the judge should find."""
    with Image.open(io.BytesIO(data)) as image:
        found = io.BytesIO()
        pixels = image.convert("RGB")
        pixels.info.clear()
        pixels.save(found, "PNG")
    return found.getvalue()


class Store:
    """The folder's pictures and answers. A picture counts as there when its PNG is; what is told of it is written before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, key: str) -> Path:
        """Where a picture lies, or will lie."""
        return self.folder / "images" / f"{key}.png"

    def has_picture(self, key: str) -> bool:
        """Whether it has been made."""
        return self.picture(key).is_file()

    def keep_picture(self, key: str, png: bytes, told: dict[str, Any]) -> None:
        """Keep a picture and how it was made."""
        write_json(self.picture(key).with_suffix(".json"), told)
        write(self.picture(key), png)

    def told(self, key: str) -> dict[str, Any]:
        """How a picture was made."""
        return json.loads(self.picture(key).with_suffix(".json").read_text(encoding="utf-8"))

    def picture_hash(self, key: str) -> str:
        """The hash of a picture's file."""
        return hashlib.sha256(self.picture(key).read_bytes()).hexdigest()[:32]

    def answer(self, key: str) -> dict[str, Any] | None:
        """A judge's answer, if it has been given."""
        path = self.folder / "answers" / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def keep_answer(self, key: str, answer: dict[str, Any]) -> None:
        """Keep a judge's answer."""
        write_json(self.folder / "answers" / f"{key}.json", answer)
