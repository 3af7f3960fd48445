"""Which table a built-in resource has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.tables import cluster, networking, pods, storage, workloads
from kajitori.laptop.apiserver.tables.cells import age, name_of
from kajitori.laptop.apiserver.tables.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kajitori.laptop.apiserver.tables.columns import Column

Object = dict[str, Any]

_TABLES = {
    ("", "pods"): (pods.COLUMNS, pods.cells),
    **workloads.TABLES,
    **networking.TABLES,
    **cluster.TABLES,
    **storage.TABLES,
}
_PLAIN_COLUMNS = columns_of("Name, Age")


def _plain(obj: Object, now_seconds: float) -> list[Any]:
    return [name_of(obj), age(obj, now_seconds)]


def table_of(group: str, plural: str) -> tuple[Sequence[Column], Callable[[Object, float], list[Any]]]:
    """(columns, cells of an object) of a resource; those without a table of their own show name and age."""
    return _TABLES.get((group, plural), (_PLAIN_COLUMNS, _plain))
