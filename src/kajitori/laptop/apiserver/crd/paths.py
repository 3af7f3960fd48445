"""Places inside an object, as linked lists: growing one costs nothing, and only an error spells it out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from kajitori.laptop.apiserver.status import FieldError

Path = tuple[Any, Any] | None
ROOT: Final = "<nil>"
"""How a place is spelled that has no path."""


class MapKey(str):
    """A key of a map with free keys: `[key]` in the paths of rules, where fields are `.name`."""

    __slots__ = ()


class Problem(NamedTuple):
    """What is wrong, and where.

    missing: something is not there, so its parent is what would have to change. rule: it broke a rule, and is told
    in a warning where it is let pass. lasting: it is not let pass, whether or not its place has changed.
    """

    path: Path
    error: FieldError
    missing: bool = False
    rule: bool = False
    lasting: bool = False


def spelled(path: Path) -> str:
    """`spec.list[1].name`; the root is empty."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        if isinstance(step, int | MapKey):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}")
    return "".join(reversed(parts)).removeprefix(".")


def steps(path: Path) -> list[Any]:
    found: list[Any] = []
    while path is not None:
        path, step = path
        found.append(step)
    return found[::-1]
