"""Rules that one field keeps by itself: from a few words, in a range, present, of some form.

They are written as tables of paths (`containers[].securityContext.procMount`), compiled into a tree and followed only
where an object has something: a pod without a security context costs nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.laptop.apiserver.status import FieldError, invalid_value, required, unsupported_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kajitori.laptop.apiserver.validation.names import Messages

Object = dict[str, Any]
_INDEX = re.compile(r"\[\d+\](?=\.[^.\[]*$)")
_ADDRESS_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


class Rule(NamedTuple):
    """errors: of a value that is there, with its path. absent: of one that is not, or is empty; None: that is fine."""

    errors: Callable[[Any, str], list[FieldError]]
    absent: Callable[[str], list[FieldError]] | None = None


def _fine(_value: Any, _path: str) -> list[FieldError]:
    return []


def needed(rule: Rule | None = None, text: str = "", *, at: Callable[[str], str] = str) -> Rule:
    """The field must have a value, which keeps the rule."""
    return Rule(rule.errors if rule else _fine, lambda path: [required(at(path), text)])


def one_of(*supported: str, at: Callable[[str], str] = str) -> Rule:
    """One of these words."""
    return Rule(
        lambda value, path: [] if value in supported else [unsupported_value(at(path), value, supported)]
    )


def form(check: Callable[[str], Messages]) -> Rule:
    """A text about which `check` has nothing to say."""
    return Rule(lambda value, path: [invalid_value(path, value, message) for message in check(value)])


def within(low: int, high: int) -> Rule:
    """A number in a range, both ends of it included."""
    text = f"must be between {low} and {high}, inclusive"
    return Rule(lambda value, path: [] if low <= value <= high else [invalid_value(path, value, text)])


def positive(text: str) -> Rule:
    return Rule(lambda value, path: [] if value > 0 else [invalid_value(path, value, text)])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


ADDRESS = Rule(lambda value, path: [] if _is_address(value) else [invalid_value(path, value, _ADDRESS_TEXT)])


def above(path: str) -> str:
    """The field that holds this one: some rules name only that."""
    return path.rpartition(".")[0]


def unnumbered(path: str) -> str:
    """Without the last index: some rules do not say which item."""
    return _INDEX.sub("", path)


class _Node:
    __slots__ = ("inner", "rules", "wanted")

    def __init__(self) -> None:
        self.inner: dict[str, _Node] = {}
        self.rules: list[Rule] = []
        self.wanted: list[tuple[str, Rule]] = []


class Rules:
    """A compiled table of rules."""

    def __init__(self, table: Mapping[str, Rule]) -> None:
        self._root = _Node()
        for path, rule in table.items():
            node = self._root
            steps = path.replace("[]", ".[]").split(".")
            for step in steps[:-1]:
                node = node.inner.setdefault(step, _Node())
            if rule.absent is not None:
                node.wanted.append((steps[-1], rule))
            node.inner.setdefault(steps[-1], _Node()).rules.append(rule)

    def errors(self, obj: Object, path: str = "") -> list[FieldError]:
        """What an object breaks; path: where it is."""
        found: list[FieldError] = []
        self._follow(self._root, obj, path, found)
        return found

    def _follow(self, node: _Node, value: Any, path: str, found: list[FieldError]) -> None:
        if isinstance(value, dict):
            for name, rule in node.wanted:
                if value.get(name) in (None, "", [], {}) and rule.absent is not None:
                    found += rule.absent(f"{path}.{name}" if path else name)
            for name, inner in node.inner.items():
                if name in value:
                    self._judge(inner, value[name], f"{path}.{name}" if path else name, found)
        elif isinstance(value, list) and "[]" in node.inner:
            inner = node.inner["[]"]
            for index, item in enumerate(value):
                self._judge(inner, item, f"{path}[{index}]", found)

    def _judge(self, node: _Node, value: Any, path: str, found: list[FieldError]) -> None:
        for rule in node.rules:
            if rule.absent is None or value not in ("", [], {}):
                found += rule.errors(value, path)
        if node.inner:
            self._follow(node, value, path, found)
