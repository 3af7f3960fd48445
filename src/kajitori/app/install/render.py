"""All objects of an installation for given values, in the order in which they are applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kajitori.app.install.blueprint import blueprint, namespace_object
from kajitori.app.install.definitions import bundled_definitions
from kajitori.app.install.templating import fill


def render(values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """Everything but the definitions; the namespace comes first. values: completed ones."""
    return [namespace_object(namespace), *fill(blueprint(), values, namespace)]


def render_all(values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """With the definitions in front."""
    return [*bundled_definitions(), *render(values, namespace)]
