"""Columns of a table, and the short text that declares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A table column; priority 1 shows with `-o wide`."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""

    def definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


def columns_of(text: str) -> tuple[Column, ...]:
    """Columns of a short text: `Name, Desired:integer, Images*`; `*` shows with `-o wide` only."""
    return tuple(_column(part.strip()) for part in text.split(","))


def _column(text: str) -> Column:
    name, _, kind = text.rstrip("*").partition(":")
    return Column(
        name,
        kind or "string",
        priority=1 if text.endswith("*") else 0,
        format="name" if name == "Name" else "",
    )
