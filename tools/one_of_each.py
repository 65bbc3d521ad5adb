"""A pytest plugin of `dev.py check coverage`: of a test that goes over models in several settings, one for each model."""
from __future__ import annotations

from typing import Any

import pytest

SETTINGS = ("settings", "setting", "length", "batch", "cfg")


def _what(item: pytest.Item) -> tuple[Any, ...]:
    """A test without its settings."""
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    own = tuple((name, str(getattr(value, "name", value))) for name, value in params.items() if name not in SETTINGS)
    return item.nodeid.partition("[")[0], own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    first = {_what(item): item for item in reversed(items)}
    left_out = [item for item in items if first[_what(item)] is not item]
    items[:] = [item for item in items if first[_what(item)] is item]
    config.hook.pytest_deselected(items=left_out)
