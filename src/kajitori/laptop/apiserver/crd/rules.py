"""Rules of a schema (`x-kubernetes-validations`): CEL over the value at their place, and over what it was before.

A rule that reads `oldSelf` compares two states: it runs on updates only, where the old value at its place can be
told (list items by their keys), unless `optionalOldSelf` says that it copes without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kajitori.base.cel import CompileError, EvaluationError, Program, compile_expression
from kajitori.base.cel.syntax import RESERVED
from kajitori.base.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    ObjectType,
    Type,
    list_of,
    map_of,
    optional_of,
)
from kajitori.base.cel.values import NOTHING, Optional
from kajitori.laptop.apiserver.crd.paths import ROOT, MapKey, Path, Problem, spelled
from kajitori.laptop.apiserver.json_values import json_type
from kajitori.laptop.apiserver.status import FieldError

MISSING: Final = object()
STEPS_OF_AN_OBJECT: Final = 1_000_000
"""Turns of loops that one evaluation of a rule may take."""

REASONS: Final = {
    "FieldValueInvalid": "Invalid value: ",
    "FieldValueForbidden": "Forbidden: ",
    "FieldValueRequired": "Required value: ",
    "FieldValueDuplicate": "Duplicate value",
}
# In the names of fields the words of literals and of membership are reserved too.
_RESERVED: Final = RESERVED | {"true", "false", "null", "in"}
_SCALARS: Final = {"integer": INT, "number": DOUBLE, "boolean": BOOL, "string": STRING}
_STRING_FORMATS: Final = {
    "date-time": TIMESTAMP,
    "date": TIMESTAMP,
    "duration": DURATION,
    "byte": BYTES,
}

CheckRules = Callable[[Any, Any, Path, list[Problem]], None]


def field_name(name: str) -> str:
    """How expressions spell a property whose name is no identifier: `a-b` is `a__dash__b`."""
    if name in _RESERVED:
        return f"__{name}__"
    return (
        name.replace("__", "__underscores__")
        .replace(".", "__dot__")
        .replace("-", "__dash__")
        .replace("/", "__slash__")
    )


def _schema_or_empty(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def type_of(schema: dict[str, Any], *, root: bool = False) -> Type:
    """The type that expressions see a value of this schema as."""
    if schema.get("x-kubernetes-int-or-string"):
        return DYN
    kind = schema.get("type") or ""
    if kind == "array":
        return list_of(type_of(_schema_or_empty(schema.get("items"))))
    if kind in _SCALARS:
        found = _STRING_FORMATS.get(schema.get("format") or "") if kind == "string" else None
        return found or _SCALARS[kind]
    if kind != "object":
        return DYN
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return map_of(STRING, type_of(additional))
    # What is kept unseen cannot be asked for.
    resource = root or bool(schema.get("x-kubernetes-embedded-resource"))
    return _object_type(schema.get("properties") or {}, resource=resource)


def is_seen(schema: Any) -> bool:
    """Whether expressions see values of the schema: not where it leaves open what they are."""
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type") or ""
    if schema.get("x-kubernetes-int-or-string") or kind in _SCALARS:
        return True
    if kind == "array":
        return is_seen(schema.get("items"))
    additional = schema.get("additionalProperties")
    return kind == "object" and (not isinstance(additional, dict) or is_seen(additional))


def _object_type(properties: dict[str, Any], *, resource: bool) -> Type:
    names = {field_name(name): name for name in properties} | {name: name for name in properties}
    known: dict[str, tuple[str, Type]] = {}
    if resource:
        known |= {"apiVersion": ("apiVersion", STRING), "kind": ("kind", STRING)}
        known["metadata"] = ("metadata", _METADATA)

    def find(name: str) -> tuple[str, Type] | None:
        if name not in known and name in names and is_seen(properties[names[name]]):
            known[name] = (names[name], type_of(properties[names[name]]))
        return known.get(name)

    return ObjectType("object", find=find)


_METADATA: Final = ObjectType(
    "object", find={"name": ("name", STRING), "generateName": ("generateName", STRING)}.get
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule. compares: it reads oldSelf. optional: it copes without an old value."""

    program: Program
    text: str
    message: str
    message_program: Program | None
    reason: str
    field: tuple[str, ...]
    compares: bool
    optional: bool

    def check(self, value: Any, old: Any, path: Path, problems: list[Problem]) -> None:
        if self.compares and old is MISSING and not self.optional:
            return
        before: Any = old if old is not MISSING else None
        if self.optional:
            before = Optional(True, old) if old is not MISSING else NOTHING
        place = path
        for step in self.field:
            place = (place, step)
        try:
            holds = self.program.run([value, before], steps=STEPS_OF_AN_OBJECT)
        except EvaluationError as error:
            stuck = _stuck(error, self.message or self.text, value, path)
            problems.append(Problem(path, stuck, rule=True, lasting=True))
            return
        if holds is not True:
            # Whether this still matters on an update is for the rule's own value to say, so that stays its path.
            failure = _failure(self.reason, place, self._words(value, before), value)
            problems.append(Problem(path, failure, rule=True, lasting=self.compares))

    def _words(self, value: Any, before: Any) -> str:
        if self.message_program is not None:
            try:
                words = self.message_program.run([value, before], steps=STEPS_OF_AN_OBJECT)
            except EvaluationError:
                words = ""
            if isinstance(words, str) and words.strip() and "\n" not in words:
                return words
        return self.message or f"failed rule: {self.text}"


def _failure(reason: str, path: Path, words: str, value: Any) -> FieldError:
    """Values that are maps and lists are not shown: they may be large."""
    shown = "" if isinstance(value, dict | list) else f"{msgspec.json.encode(value).decode()}: "
    if reason == "FieldValueInvalid":
        words = shown + words
    elif reason == "FieldValueDuplicate":
        words = f": {shown.removesuffix(': ')}" if shown else ""
    return FieldError(reason, spelled(path) or ROOT, REASONS[reason] + words)


def _stuck(error: EvaluationError, rule: str, value: Any, path: Path) -> FieldError:
    """A rule that has no answer for a value: of that only the type is shown."""
    words = f'"{json_type(value)}": {error.message} evaluating rule: {rule}'
    return FieldError("FieldValueInvalid", spelled(path) or ROOT, f"Invalid value: {words}")


def variables_of(declared: Mapping[str, Any], self_type: Type) -> dict[str, Type]:
    """What the expressions of a rule see."""
    optional = bool(declared.get("optionalOldSelf"))
    return {"self": self_type, "oldSelf": optional_of(self_type) if optional else self_type}


def compile_rule(declared: Mapping[str, Any], self_type: Type) -> Rule:
    """A rule over a value of `self_type`. Raises CompileError; `rule_problem` words it."""
    text = str(declared.get("rule") or "").strip()
    optional = bool(declared.get("optionalOldSelf"))
    variables = variables_of(declared, self_type)
    program = compile_expression(text, variables, result=BOOL)
    expression = declared.get("messageExpression")
    message_program = compile_expression(expression, variables, result=STRING) if expression else None
    return Rule(
        program=program,
        text=text,
        message=str(declared.get("message") or "").strip(),
        message_program=message_program,
        reason=declared.get("reason") or "FieldValueInvalid",
        field=split_field_path(declared.get("fieldPath") or ""),
        compares="oldSelf" in program.uses,
        optional=optional,
    )


def split_field_path(text: str) -> tuple[str, ...]:
    """The steps of `.a.b` or `.a['b.c']`. Raises ValueError if it is no such path."""
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == ".":
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] in "_-"):
                end += 1
            found.append(text[at + 1 : end])
        elif text.startswith("['", at):
            close = text.find("']", at)
            end = close + 2
            found.append(text[at + 2 : close])
            if close < 0:
                raise ValueError(f"{text!r} has no closing bracket")
        else:
            raise ValueError(f"{text!r} must start with a dot, such as .field")
        if not found[-1]:
            raise ValueError(f"{text!r} has an empty field name")
        at = end
    return tuple(found)


def compile_rules(schema: dict[str, Any], *, root: bool = False) -> CheckRules | None:
    """The walk that checks the rules of this schema and below it; None: there are none.

    Rules that do not compile are left out: definitions that have such are refused when they are made.
    """
    own: list[Rule] = []
    if schema.get("x-kubernetes-validations"):
        self_type = type_of(schema, root=root)
        for declared in schema["x-kubernetes-validations"]:
            try:
                own.append(compile_rule(declared, self_type))
            except (CompileError, ValueError):
                continue
    below = _below(schema)
    if not own and below is None:
        return None

    def check(value: Any, old: Any, path: Path, problems: list[Problem]) -> None:
        if value is None:
            return
        for rule in own:
            rule.check(value, old, path, problems)
        if below is not None:
            below(value, old, path, problems)

    return check


def _below(schema: dict[str, Any]) -> CheckRules | None:
    if isinstance(schema.get("items"), dict):
        item = compile_rules(schema["items"])
        return None if item is None else _item_rules(item, schema)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        entry = compile_rules(additional)
        return None if entry is None else _entry_rules(entry)
    properties: dict[str, Any] = schema.get("properties") or {}
    children = {
        name: walk for name, child in properties.items() if (walk := compile_rules(child)) is not None
    }
    return _field_rules(children) if children else None


def _field_rules(children: dict[str, CheckRules]) -> CheckRules:
    def check(value: Any, old: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, dict):
            return
        before = old if isinstance(old, dict) else {}
        for name, walk in children.items():
            if name in value:
                walk(value[name], before.get(name, MISSING), (path, name), problems)

    return check


def _entry_rules(entry: CheckRules) -> CheckRules:
    def check(value: Any, old: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, dict):
            return
        before = old if isinstance(old, dict) else {}
        for key, child in value.items():
            entry(child, before.get(key, MISSING), (path, MapKey(key)), problems)

    return check


def _item_rules(item: CheckRules, schema: dict[str, Any]) -> CheckRules:
    keys: tuple[str, ...] = ()
    if schema.get("x-kubernetes-list-type") == "map":
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())

    def key_of(value: Any) -> tuple[Any, ...] | None:
        if not isinstance(value, dict):
            return None
        return tuple(str(value.get(key)) for key in keys)

    def check(value: Any, old: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, list):
            return
        before: dict[Any, Any] = {}
        if keys and isinstance(old, list):
            before = {key_of(entry): entry for entry in old}
        for index, child in enumerate(value):
            item(child, before.get(key_of(child), MISSING) if before else MISSING, (path, index), problems)

    return check
