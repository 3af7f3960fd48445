"""Tables of custom resources, from their additionalPrinterColumns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.kinds.kind import Column
from kajitori.laptop.apiserver.tables.builtin import NAME
from kajitori.laptop.apiserver.tables.cells import age

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Object = dict[str, Any]


def custom_table(
    printer_columns: Sequence[Object],
) -> tuple[Sequence[Column], Callable[[Object, float], list[Any]]]:
    """(columns, cells of an object)."""

    def cells(obj: Object, now_seconds: float) -> list[Any]:
        return [obj["metadata"].get("name", ""), age(obj, now_seconds)]

    return (NAME, Column("Age", "date")), cells
