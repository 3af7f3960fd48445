"""The page about endpoints against the table that serves them."""

from __future__ import annotations

from pathlib import Path

from kajitori.gateway.operations import OPERATIONS, TELEMETRY_NAMES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "endpoints.md"


def test_every_path_and_operation_stands_in_the_documentation() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `/")]
    told = {cell.strip(" `") for row in rows for part in row.split("|")[1:2] for cell in part.split("`")}
    assert {path for operation in OPERATIONS for path in operation.paths} <= told
    names = {name.strip() for row in rows for name in row.split("|")[2].split(",")}
    assert {TELEMETRY_NAMES.get(operation.name, operation.name) for operation in OPERATIONS} <= names
