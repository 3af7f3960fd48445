"""Label and field selectors: parsed once a request, asked once an object.

Label selectors follow the Kubernetes grammar (`a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>3`).
Field selectors know only the fields that a kind declares; an unknown one is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.validation.names import label_key, label_value
from kajitori.model.selection import holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


_SYMBOLS = frozenset({"==", "!=", "=", "!", ">", "<", ",", "(", ")"})
_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", "in": "In", "notin": "NotIn", ">": "Gt", "<": "Lt"}


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [match[1] or match[2] for match in _TOKEN.finditer(text)]
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _word(self, expected: str) -> str:
        token = self._take()
        if not token or token in _SYMBOLS:
            raise _unfit(f"found '{token}', expected: {expected}")
        return token

    def parse(self) -> tuple[Requirement, ...]:
        requirements: list[Requirement] = []
        if (first := self._peek()) in _SYMBOLS and first != "!":
            raise status.bad_request(f"found '{first}', expected: !, identifier, or 'end of string'")
        while self._peek():
            requirements.append(self._requirement())
            separator = self._take()
            if not separator:
                break
            if separator != ",":
                raise status.bad_request(f"found '{separator}', expected: ',' or 'end of string'")
            following = self._peek()
            if not following or (following in _SYMBOLS and following != "!"):
                raise status.bad_request(f"found '{following}', expected: identifier after ','")
        return tuple(requirements)

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._take()
        key = self._word("identifier")
        _check_key(key)
        if absent:
            return Requirement(key, "DoesNotExist")
        if self._peek() in ("", ","):
            return Requirement(key, "Exists")
        sign = self._take()
        operator = _OPERATORS.get(sign)
        if operator is None:
            raise _unfit(f"found '{sign}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._values() if sign in ("in", "notin") else frozenset({self._value()})
        _check_values(key, operator, values)
        return Requirement(key, operator, values)

    def _value(self) -> str:
        return "" if self._peek() in ("", ",") else self._word("identifier")

    def _values(self) -> frozenset[str]:
        opening = self._take()
        if opening != "(":
            raise _unfit(f"found '{opening}' expected: '('")
        if self._peek() not in (",", ")") and (not self._peek() or self._peek() in _SYMBOLS):
            raise _unfit(f"found '{self._peek()}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            empty = self._peek() in (",", ")")
            values.add("" if empty else self._word("',', or identifier"))
            separator = self._take()
            if separator == ")":
                return frozenset(values)
            if separator != ",":
                raise _unfit(f"found '{separator}', expected: ',' or ')'")


def _unfit(text: str) -> status.StatusError:
    return status.bad_request(f"unable to parse requirement: {text}")


def _check_key(key: str) -> None:
    if problems := label_key(key):
        raise _unfit(str(status.invalid_value("<nil>", key, "; ".join(problems))))


def _check_values(key: str, operator: str, values: frozenset[str]) -> None:
    errors: list[status.FieldError] = []
    listed = sorted(values)
    if operator in ("Gt", "Lt") and not _is_integer(listed[0]):
        words = "for 'Gt', 'Lt' operators, the value must be an integer"
        errors.append(status.invalid_value("values[0]", listed[0], words))
    for index, value in enumerate(listed):
        if problems := label_value(value):
            errors.append(status.invalid_value(f"values[{index}][{key}]", value, "; ".join(problems)))
    if errors:
        texts = [str(error) for error in errors]
        raise _unfit(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _is_integer(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[0-9]+", text)) and -(1 << 63) <= int(text) < 1 << 63


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
    for part in filter(None, re.split(r"(?<!\\),", text)):
        match = _FIELD.fullmatch(part)
        if match is None:
            raise status.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        requirements.append(FieldRequirement(match[1], _unescaped(match[3]), match[2] != "!="))
    return tuple(requirements)


_FIELD = re.compile(r"(.*?)(==|!=|=)(.*)", re.DOTALL)


def _unescaped(text: str) -> str:
    """A value of a field selector: a backslash goes before a backslash, a comma and an equals sign."""
    if "\\" not in text and "=" not in text:
        return text
    characters = iter(text)
    found: list[str] = []
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if not escaped:
                raise status.bad_request("invalid field selector: invalid escape sequence: \\")
            if escaped not in "\\,=":
                raise status.bad_request(f"invalid field selector: invalid escape sequence: \\{escaped}")
            found.append(escaped)
        elif character in ",=":
            raise status.bad_request(
                f"invalid field selector: unescaped character in value: {ord(character)}"
            )
        else:
            found.append(character)
    return "".join(found)


_ALWAYS_SELECTABLE = frozenset({"metadata.name", "metadata.namespace"})


class Selector:
    """Which objects a list or watch wants: namespace, labels, fields."""

    __slots__ = (
        "_as_stored",
        "_kind",
        "_others",
        "_sets",
        "_traces",
        "fields",
        "labels",
        "name",
        "namespace",
    )

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
            if requirement.path not in getters and requirement.path not in _ALWAYS_SELECTABLE:
                raise _unknown_field(requirement.path, kind)
        self.fields = tuple(remaining)
        self._as_stored = kind.conversion is None and (kind.custom or kind.storage == kind.resource)
        self._traces = {f: getters[f.path].trace(f.value) for f in remaining if f.path in getters}

    @property
    def everything(self) -> bool:
        """Whether neither labels nor fields are asked for."""
        return not self.labels and not self.fields

    def select(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those of the entries of its namespace that it matches."""
        if self.everything:
            return iter(entries)
        if self.fields or self._others or len(self._sets) != 1:
            return filter(self.matches, entries)
        ((key, values, wanted),) = self._sets
        return (entry for entry in entries if (entry.labels.get(key) in values) is wanted)

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
        elif self._as_stored:
            getter = self._kind.field_selectors[field.path]
            obj = entry.decoded
            if obj is None:
                # Most of a long list is told by what its bytes lack.
                trace = self._traces[field]
                if trace is not None and trace not in entry.body:
                    return not field.equal
                value = getter.read(entry.body)
            else:
                value = getter(obj)
        else:
            kind = self._kind
            shown = kind.conversion.shown(kind, entry) if kind.conversion else kind.from_stored(entry.peek())
            value = kind.field_selectors[field.path](shown)
        return (value == field.value) is field.equal


def _unknown_field(path: str, kind: Kind) -> status.StatusError:
    if kind.resource.qualified_name == "jobs.batch":
        return status.bad_request(f'field label "{path}" not supported for Job')
    if kind.custom or set(kind.field_selectors) - _ALWAYS_SELECTABLE:
        return status.bad_request(f"field label not supported: {path}")
    return status.bad_request(
        f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )
