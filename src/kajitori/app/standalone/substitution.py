"""Variables of the environment in a configuration file, written as shells and envsubst write them.

`$NAME` and `${NAME}` are the value, `${NAME:-text}` and `${NAME:=text}` stand for text where the variable is empty or
not set (without the colon: only where it is not set), `${NAME:+text}` for text where it is; `$$` is a dollar sign. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<operator>:?[-=+])(?P<text>[^}]*))?\})"
)


class Substituted(msgspec.Struct, frozen=True):
    """missing: names that are not set and have no text to stand for them, in the order in which they stand."""

    text: str
    missing: tuple[str, ...] = ()


def substitute(text: str, variables: Mapping[str, str]) -> Substituted:
    """The text with its variables replaced. What only looks like one, such as `${1}`, stays as it is."""
    missing: dict[str, None] = {}

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["plain"] or match["name"]
        operator, alternative = match["operator"] or "", match["text"] or ""
        found = variables.get(name)
        if operator.endswith("+"):
            return alternative if (found if operator.startswith(":") else found is not None) else ""
        if found is None or (not found and operator.startswith(":")):
            if not operator:
                missing[name] = None
            return alternative
        return found

    return Substituted(_VARIABLE.sub(value, text), tuple(missing))
