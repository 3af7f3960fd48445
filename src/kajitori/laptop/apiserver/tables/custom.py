"""Tables of custom resources, from their additionalPrinterColumns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver.tables.cells import age_of, name_of
from kajitori.laptop.apiserver.tables.columns import Column, columns_of
from kajitori.laptop.apiserver.tables.json_path import InvalidPath, compile_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Object = dict[str, Any]

_NAME = columns_of("Name")[0]
_AGE: Object = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _nothing(_obj: Any) -> Iterator[Any]:
    return iter(())


def _finder(path: str) -> Callable[[Any], Iterator[Any]]:
    try:
        return compile_path(path)
    except InvalidPath:
        return _nothing


def _shown(value: Any, kind: str, now_seconds: float) -> Any:
    """A value as its column's type shows it; None leaves the cell empty."""
    if value is None:
        return None
    if kind == "date":
        return age_of(value, now_seconds)
    if kind == "string":
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return int(value) if kind == "integer" else float(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return None


def custom_table(
    printer_columns: Sequence[Object],
) -> tuple[Sequence[Column], Callable[[Object, float], list[Any]]]:
    """(columns, cells of an object)."""
    declared = list(printer_columns) or [_AGE]
    columns = (_NAME, *map(_column, declared))
    finders = [(_finder(column.get("jsonPath", "")), column.get("type", "string")) for column in declared]

    def cells(obj: Object, now_seconds: float) -> list[Any]:
        row: list[Any] = [name_of(obj)]
        row += [_shown(next(find(obj), None), kind, now_seconds) for find, kind in finders]
        return row

    return columns, cells


def _column(declared: Object) -> Column:
    path = declared.get("jsonPath", "")
    return Column(
        declared.get("name", ""),
        declared.get("type", "string"),
        priority=declared.get("priority", 0),
        format=declared.get("format", ""),
        description=declared.get("description")
        or f"Custom resource definition column (in JSONPath format): {path}",
    )
