"""Fixtures that tests of several folders share, and the order in which workers take tests.

A worker keeps one API server of each kind and changes from ours to the real one once: tests of ours come first. Tests
of a module stay together where they share a cluster. What takes longest begins first, so that workers end together.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test asserts speed, so no example has a deadline. In CI the examples are the same each time: a change is judged by
# what it changed. Everybody else looks for new ones.
settings.register_profile(
    "kajitori", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("kajitori")

pytest_plugins = ["tests.servers"]

ROOT = Path(__file__).parent
# Folders whose modules have clusters of their own.
WHOLE_CLUSTERS = ("world", "install", "faults", "docs")


def _server(item: pytest.Item) -> str:
    """`embedded`, `real`, `both`, or empty for a test that needs neither of the shared servers."""
    if "places" in getattr(item, "fixturenames", ()):
        return "both"
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return str(parameters.get("place", ""))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places: list[tuple[int, int, pytest.Item]] = []
    for number, item in enumerate(items):
        module = (
            item.path.relative_to(ROOT / "tests").as_posix() if "tests" in item.path.parts else item.path.name
        )
        server = _server(item)
        rank = {"embedded": 2, "real": 3, "both": 4}.get(server, 1)
        if server or module.startswith(WHOLE_CLUSTERS):
            rank = rank if server else 0
            if item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(f"{server} {module}"))
        places.append((rank, number, item))
    items[:] = [item for _, _, item in sorted(places, key=lambda place: place[:2])]
