"""Which table a built-in resource has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.kinds.kind import Column
from kajitori.laptop.apiserver.tables.cells import age

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Object = dict[str, Any]
NAME = Column("Name", format="name", description="Name must be unique within a namespace.")


def _plain(obj: Object, now_seconds: float) -> list[Any]:
    return [obj["metadata"].get("name", ""), age(obj, now_seconds)]


def table_of(group: str, plural: str) -> tuple[Sequence[Column], Callable[[Object, float], list[Any]]]:
    """(columns, cells of an object) of a resource; those without a table of their own show name and age."""
    return (NAME, Column("Age")), _plain
