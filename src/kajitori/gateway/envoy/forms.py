"""A part of a resource, and the forms in which it may go out: whole, as an answer that says why not, as it was, not at all. Pure."""

from __future__ import annotations

import enum
from typing import Any, cast

Resource = dict[str, Any]
# What it stands in (a host, a filter chain, a policy), and what it is there.
Part = tuple[str, str]
# What is said of the resource itself.
REST: Part = ("", "")
# How the names of resources begin that are only tried.
PROBE = "kajitori.probe"


class Form(enum.Enum):
    """What is there of a part.

    FULL: all. ANSWER: an error for what it matches. BEFORE: as it was, if it was. OUT: nothing.
    """

    FULL = 1
    ANSWER = 2
    BEFORE = 3
    OUT = 4


def without(value: Resource, *names: str) -> Resource:
    """The value without some of its fields."""
    return {key: item for key, item in value.items() if key not in names}


def strings_in(value: Any) -> set[str]:
    """All strings in it."""
    found: set[str] = set()
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            found.add(item)
        elif isinstance(item, dict):
            left += cast("dict[str, Any]", item).values()
        elif isinstance(item, list):
            left += cast("list[Any]", item)
    return found
