"""Label and field selectors: parsed once a request, asked once an object.

Label selectors follow the Kubernetes grammar (`a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>3`).
Field selectors know only the fields that a kind declares; an unknown one is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kajitori.laptop.apiserver import status
from kajitori.model.selection import holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.store import Entry

_TOKEN = re.compile(r"\s*(?:(==|!=|=|!|>|<|,|\(|\))|([^\s=!<>,()]+))")


class Requirement(NamedTuple):
    """operator: as in `kajitori.model.selection.holds`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return holds(self.operator, self.values, labels.get(self.key))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None:
                raise _unparsable(f"unexpected character {stripped[position]!r}")
            self._tokens.append(match[1] or match[2])
            position = match.end()
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _word(self, expected: str) -> str:
        token = self._take()
        if not token or token in ("==", "!=", "=", "!", ">", "<", ",", "(", ")"):
            raise _unparsable(f"found '{token}', expected: {expected}")
        return token

    def parse(self) -> tuple[Requirement, ...]:
        requirements: list[Requirement] = []
        while self._peek():
            requirements.append(self._requirement())
            separator = self._take()
            if not separator:
                break
            if separator != ",":
                raise _unparsable(f"found '{separator}', expected: ',' or 'end of string'")
            if not self._peek():
                raise _unparsable("found '', expected: identifier after ','")
        return tuple(requirements)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._word("identifier"), "DoesNotExist")
        key = self._word("identifier")
        operator = self._peek()
        if operator in ("", ","):
            return Requirement(key, "Exists")
        self._take()
        if operator in ("=", "=="):
            return Requirement(key, "In", frozenset({self._value()}))
        if operator == "!=":
            return Requirement(key, "NotIn", frozenset({self._value()}))
        if operator in ("in", "notin"):
            return Requirement(key, "In" if operator == "in" else "NotIn", self._values())
        if operator in (">", "<"):
            bound = self._word("integer")
            if not re.fullmatch(r"-?\d+", bound):
                raise _unparsable(f"found '{bound}', expected: integer")
            return Requirement(key, "Gt" if operator == ">" else "Lt", frozenset({bound}))
        raise _unparsable(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _value(self) -> str:
        return "" if self._peek() in ("", ",") else self._word("identifier")

    def _values(self) -> frozenset[str]:
        if self._take() != "(":
            raise _unparsable(f"found '{self._tokens[self._next - 1]}', expected: '('")
        values: set[str] = set()
        while True:
            values.add("" if self._peek() in (",", ")") else self._word("identifier"))
            separator = self._take()
            if separator == ")":
                return frozenset(values)
            if separator != ",":
                raise _unparsable(f"found '{separator}', expected: ',' or ')'")


def _unparsable(text: str) -> status.StatusError:
    return status.bad_request(f"unable to parse requirement: {text}")


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """A label selector's requirements; all must hold. Raises StatusError 400."""
    return _Parser(text).parse() if text.strip() else ()


class FieldRequirement(NamedTuple):
    path: str
    value: str
    equal: bool


def parse_fields(text: str) -> tuple[FieldRequirement, ...]:
    """A field selector's requirements; all must hold. Raises StatusError 400."""
    requirements: list[FieldRequirement] = []
    for part in filter(None, (piece.strip() for piece in re.split(r"(?<!\\),", text))):
        match = re.fullmatch(r"([^=!]+?)\s*(==|=|!=)\s*(.*)", part)
        if match is None:
            raise status.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        value = re.sub(r"\\([\\,=])", r"\1", match[3])
        requirements.append(FieldRequirement(match[1], value, match[2] != "!="))
    return tuple(requirements)


class Selector:
    """Which objects a list or watch wants: namespace, labels, fields."""

    __slots__ = ("_kind", "_others", "_sets", "fields", "labels", "name", "namespace")

    def __init__(
        self,
        namespace: str,
        labels: tuple[Requirement, ...],
        fields: tuple[FieldRequirement, ...],
        kind: Kind,
    ) -> None:
        self.namespace = namespace
        self.labels = labels
        # Nearly all requirements ask whether a value is one of some: those are compared without a call.
        self._sets = [
            (requirement.key, requirement.values, requirement.operator == "In")
            for requirement in labels
            if requirement.operator in ("In", "NotIn")
        ]
        self._others = [r for r in labels if r.operator not in ("In", "NotIn")]
        self.name = ""
        getters = kind.field_selectors
        self._kind = kind
        remaining: list[FieldRequirement] = []
        for requirement in fields:
            if requirement.path == "metadata.name" and requirement.equal and requirement.value:
                self.name = requirement.value
            remaining.append(requirement)
            if requirement.path not in getters and requirement.path not in (
                "metadata.name",
                "metadata.namespace",
            ):
                raise _unknown_field(requirement.path, getters)
        self.fields = tuple(remaining)

    @property
    def everything(self) -> bool:
        """Whether neither labels nor fields are asked for."""
        return not self.labels and not self.fields

    def matches(self, entry: Entry) -> bool:
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.labels:
            labels = entry.labels
            for key, values, wanted in self._sets:
                if (labels.get(key) in values) is not wanted:
                    return False
            for requirement in self._others:
                if not requirement.matches(labels):
                    return False
        return not self.fields or all(self._field_matches(entry, field) for field in self.fields)

    def _field_matches(self, entry: Entry, field: FieldRequirement) -> bool:
        if field.path == "metadata.name":
            value = entry.name
        elif field.path == "metadata.namespace":
            value = entry.namespace
        else:
            value = self._kind.field_selectors[field.path](self._kind.from_stored(entry.peek()))
        return (value == field.value) is field.equal


def _unknown_field(path: str, getters: Mapping[str, object]) -> status.StatusError:
    if set(getters) - {"metadata.name", "metadata.namespace"}:
        return status.bad_request(f"field label not supported: {path}")
    return status.bad_request(
        f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )
