"""JSONPath as Kubernetes writes it in printer columns and scale paths: `.spec.ports[0].name`,
`.status.conditions[?(@.type=="Ready")].status`, `.spec.hosts[*]`, `.metadata.labels['a\\.b/c']`.

A path is compiled once; a column shows the first value that it finds, and nothing where it finds none. Source:
the Kubernetes documentation, "JSONPath Support".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterable[Any]]

_FIELD = re.compile(r"\.?((?:[^.\[\]\\'\"]|\\.)+)")
_QUOTED = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\]")
_INDEX = re.compile(r"\[\s*(-?\d+)\s*\]")
_SLICE = re.compile(r"\[\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?\]")
_WILDCARD = re.compile(r"\.\*|\[\s*\*\s*\]")
_FILTER = re.compile(
    r"\[\?\(\s*@((?:\.[^\s=!<>()]+)+)\s*(?:(==|!=|<=|>=|<|>)\s*(?:'([^']*)'|\"([^\"]*)\"|([^\s)]+))\s*)?\)\]"
)
_DESCENT = re.compile(r"\.\.((?:[^.\[\]\\]|\\.)+)")


class InvalidPath(ValueError):
    """A text that is no JSONPath; the message says where it stops making sense."""


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _field(name: str) -> Step:
    def step(value: Any) -> Iterable[Any]:
        if isinstance(value, dict) and name in value:
            return (value[name],)
        return ()

    return step


def _index(number: int) -> Step:
    def step(value: Any) -> Iterable[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            return (value[number],)
        return ()

    return step


def _slice(bounds: slice) -> Step:
    return lambda value: value[bounds] if isinstance(value, list) else ()


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    return value.values() if isinstance(value, dict) else ()


def _descend(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if name in value:
                yield value[name]
            for item in value.values():
                yield from step(item)
        elif isinstance(value, list):
            for item in value:
                yield from step(item)

    return step


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _holds(found: Any, operator: str, wanted: Any) -> bool:
    if operator == "==":
        return found == wanted
    if operator == "!=":
        return found != wanted
    if isinstance(found, bool) or type(wanted) is not float or not isinstance(found, (int, float)):
        return False
    return {"<": found < wanted, ">": found > wanted, "<=": found <= wanted, ">=": found >= wanted}[operator]


def _filter(inner: str, operator: str | None, wanted: Any) -> Step:
    path = compile_path(inner)

    def step(value: Any) -> Iterable[Any]:
        items = value if isinstance(value, list) else ()
        if operator is None:
            return [item for item in items if any(True for _ in path(item))]
        return [item for item in items if any(_holds(found, operator, wanted) for found in path(item))]

    return step


def _steps(text: str) -> Iterator[Step]:
    position = 0
    while position < len(text):
        for form, make in _FORMS:
            match = form.match(text, position)
            if match:
                yield make(match)
                position = match.end()
                break
        else:
            raise InvalidPath(f"JSONPath {text!r}: {text[position:]!r} makes no sense")


def _make_filter(match: re.Match[str]) -> Step:
    inner, operator, single, double, bare = match.groups()
    quoted = single if single is not None else double
    return _filter(inner, operator, quoted if quoted is not None else _literal(bare or ""))


def _bound(text: str | None) -> int | None:
    return int(text) if text else None


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...] = (
    (_DESCENT, lambda match: _descend(_unescape(match.group(1)))),
    (_WILDCARD, lambda _match: _every),
    (_QUOTED, lambda match: _field(_unescape(match.group(1) or match.group(2) or ""))),
    (_INDEX, lambda match: _index(int(match.group(1)))),
    (_SLICE, lambda match: _slice(slice(*map(_bound, match.groups())))),
    (_FILTER, _make_filter),
    (_FIELD, lambda match: _field(_unescape(match.group(1)))),
)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], Iterator[Any]]:
    """find(value) of a path, with or without braces: all that it points at. Raises InvalidPath."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    steps = tuple(_steps(text.removeprefix("$")))

    def find(value: Any) -> Iterator[Any]:
        found: Iterable[Any] = (value,)
        for step in steps:
            found = [item for one in found for item in step(one)]
        return iter(found)

    return find


def first(path: str, value: Any) -> Any:
    """The first value that the path points at, or None."""
    return next(compile_path(path)(value), None)
