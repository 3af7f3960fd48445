"""How commands print: tables as the server made them, JSON, YAML, names; times and durations for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any


def colours() -> bool:
    """Whether standard output is a terminal that wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, code: str) -> str:
    """The text in an ANSI colour such as `32`, where colours are wanted."""
    return f"\033[{code}m{text}\033[0m" if colours() else text


def warn(message: str) -> None:
    """One line on standard error."""
    print(f"{paint('Warning', '33') if sys.stderr.isatty() else 'Warning'}: {message}", file=sys.stderr)


def print_rows(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: list[int] | None = None
) -> list[int]:
    """Columns three spaces apart. widths: of rows printed before, so that a watch stays aligned; returns them."""
    every = ([header] if header else []) + list(rows)
    widths = widths or []
    for row in every:
        for index, cell in enumerate(row):
            if index == len(widths):
                widths.append(0)
            widths[index] = max(widths[index], len(cell))
    for row in every:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    return widths


def print_objects(objects: list[dict[str, Any]], form: str, *, as_list: bool = False) -> None:
    """As JSON or YAML: one object as itself, several as a List, or as_list however many there are."""
    alone = len(objects) == 1 and not as_list
    value: Any = objects[0] if alone else {"apiVersion": "v1", "kind": "List", "items": objects}
    if form == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    import yaml

    print(
        yaml.dump(
            value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True
        ),
        end="",
    )
