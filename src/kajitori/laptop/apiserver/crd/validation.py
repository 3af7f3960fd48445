"""Validation against a structural schema, compiled once a version into functions that walk only what is there.

Words and reasons are those of kube-apiserver 1.36: `spec.replicas in body should be greater than or equal to 0`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern
from kajitori.laptop.apiserver.crd.formats import FLOAT_RANGES, INTEGER_RANGES, STRING_FORMATS
from kajitori.laptop.apiserver.crd.paths import ROOT, Path, Problem, spelled
from kajitori.laptop.apiserver.json_values import json_type, same
from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    invalid_type,
    invalid_value,
    required,
    too_long,
    too_many,
    unsupported_value,
)

Check = Callable[[Any, Path, list[Problem]], None]


def compile_validator(schema: dict[str, Any]) -> Check | None:
    """The walk that checks a value of this schema; None: anything goes."""
    checks: list[Check] = []
    kinds = _kinds_of(schema)
    checks += _value_checks(schema)
    checks += _container_checks(schema)
    checks += _combinations(schema)
    if not kinds and not checks:
        return None
    nullable = bool(schema.get("nullable"))
    among = _enum_checks(schema)

    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        if value is None and nullable:
            return
        if kinds and not _is_of(value, kinds):
            problems.append(Problem(path, _wrong_type(value, path, ",".join(kinds))))
            for one in among:
                one(value, path, problems)
            if kinds == ("integer",) and type(value) is float:
                problems.append(_unfit_number(path, "integer", ""))
            return
        for one in checks:
            one(value, path, problems)

    return check


def _kinds_of(schema: dict[str, Any]) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    return (schema["type"],) if schema.get("type") else ()


def _is_of(value: Any, kinds: tuple[str, ...]) -> bool:
    found = json_type(value)
    if found in kinds:
        return True
    if found == "integer":
        return "number" in kinds
    return found == "number" and "integer" in kinds and value == int(value)


def _say(path: Path, words: str) -> str:
    return f"{spelled(path)} in body {words}"


def _wrong_type(value: Any, path: Path, wanted: str) -> FieldError:
    found = json_type(value)
    return invalid_type(spelled(path), found, _say(path, f'must be of type {wanted}: "{found}"'))


# --- values


def _value_checks(schema: dict[str, Any]) -> list[Check]:
    checks = [*_number_checks(schema), *_string_checks(schema), *_size_checks(schema)]
    return checks + _enum_checks(schema)


def _enum_checks(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    choices: list[Any] | None = schema.get("enum")
    if choices:
        # Upstream prints strings quoted and other values as JSON.
        texts = [
            choice if isinstance(choice, str) else msgspec.json.encode(choice).decode() for choice in choices
        ]

        def check_enum(value: Any, path: Path, problems: list[Problem]) -> None:
            if not any(same(value, choice) for choice in choices):
                problems.append(Problem(path, unsupported_value(spelled(path), value, texts)))

        checks.append(check_enum)
    return checks


def _number_checks(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    for key, exclusive_key, above in (
        ("minimum", "exclusiveMinimum", True),
        ("maximum", "exclusiveMaximum", False),
    ):
        if schema.get(key) is not None:
            checks.append(_bound(schema[key], exclusive=bool(schema.get(exclusive_key)), above=above))
    factor = schema.get("multipleOf")
    if factor:

        def check_multiple(value: Any, path: Path, problems: list[Problem]) -> None:
            if _is_number(value) and abs(value / factor - round(value / factor)) > 1e-9:
                words = _say(path, f"should be a multiple of {_number(factor)}")
                problems.append(Problem(path, invalid_value(spelled(path), value, words)))

        checks.append(check_multiple)
    bounds = INTEGER_RANGES.get(schema.get("format") or "") or FLOAT_RANGES.get(schema.get("format") or "")
    if bounds is not None and schema.get("type") in ("integer", "number"):
        checks.append(_range(schema["type"], schema["format"], *bounds))
    return checks


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _bound(limit: float, *, exclusive: bool, above: bool) -> Check:
    side = "greater than" if above else "less than"
    words = f"should be {side}{'' if exclusive else ' or equal to'} {_number(limit)}"

    def check_bound(value: Any, path: Path, problems: list[Problem]) -> None:
        if not _is_number(value):
            return
        distance = value - limit if above else limit - value
        if distance < 0 or (exclusive and distance == 0):
            problems.append(Problem(path, invalid_value(spelled(path), value, _say(path, words))))

    return check_bound


def _range(kind: str, form: str, least: float, most: float) -> Check:
    def check_range(value: Any, path: Path, problems: list[Problem]) -> None:
        if _is_number(value) and not least <= value <= most:
            problems.append(_unfit_number(path, kind, form))

    return check_range


def _unfit_number(path: Path, kind: str, form: str) -> Problem:
    of_form = f"with format {form}" if form else "(default format)"
    words = f"Checked value must be of type {kind} {of_form} in {spelled(path)}"
    return Problem(path, invalid_value(ROOT, "", words))


def _string_checks(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    least, most = schema.get("minLength"), schema.get("maxLength")
    pattern, form = schema.get("pattern"), schema.get("format") or ""

    if least is not None or most is not None:

        def check_length(value: Any, path: Path, problems: list[Problem]) -> None:
            if not isinstance(value, str):
                return
            if least is not None and len(value) < least:
                words = _say(path, f"should be at least {least} chars long")
                problems.append(Problem(path, invalid_value(spelled(path), value, words)))
            if most is not None and len(value) > most:
                problems.append(Problem(path, too_long(spelled(path), most)))

        checks.append(check_length)
    if pattern:
        checks.append(_pattern(pattern))
    fits = STRING_FORMATS.get(form) if schema.get("type") in (None, "", "string") else None
    if fits is not None:

        def check_format(value: Any, path: Path, problems: list[Problem]) -> None:
            if isinstance(value, str) and not fits(value):
                words = _say(path, f"must be of type {form}: {msgspec.json.encode(value).decode()}")
                problems.append(Problem(path, invalid_type(spelled(path), value, words)))

        checks.append(check_format)
    return checks


def _pattern(pattern: str) -> Check:
    try:
        search = compile_pattern(pattern).search
    except EvaluationError:

        def refuse(value: Any, path: Path, problems: list[Problem]) -> None:
            words = _say(path, f"cannot be matched against {pattern!r}: no valid regular expression")
            problems.append(Problem(path, invalid_value(spelled(path), value, words)))

        return refuse

    def check_pattern(value: Any, path: Path, problems: list[Problem]) -> None:
        if isinstance(value, str) and search(value) is None:
            words = _say(path, f"should match '{pattern}'")
            problems.append(Problem(path, invalid_value(spelled(path), value, words)))

    return check_pattern


def _size_checks(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    for container, least, most, word in (
        (list, schema.get("minItems"), schema.get("maxItems"), "items"),
        (dict, schema.get("minProperties"), schema.get("maxProperties"), "properties"),
    ):
        if least is not None or most is not None:
            checks.append(_size(container, least, most, word))
    return checks


def _size(container: type, least: int | None, most: int | None, word: str) -> Check:
    def check_size(value: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, container):
            return
        count = len(value)  # pyright: ignore[reportArgumentType]
        if least is not None and count < least:
            words = _say(path, f"should have at least {least} {word}")
            problems.append(Problem(path, invalid_value(spelled(path), count, words)))
        if most is not None and count > most:
            problems.append(Problem(path, too_many(spelled(path), count, most)))

    return check_size


# --- containers


def _container_checks(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    properties: dict[str, Any] = schema.get("properties") or {}
    children = {
        name: walk for name, child in properties.items() if (walk := compile_validator(child)) is not None
    }
    needed: tuple[str, ...] = tuple(schema.get("required") or ())
    if children or needed:
        checks.append(_fields(children, needed))
    additional = schema.get("additionalProperties")
    entry = compile_validator(additional) if isinstance(additional, dict) else None
    if entry is not None:
        checks.append(_entries(entry, frozenset(properties)))
    if isinstance(schema.get("items"), dict):
        item = compile_validator(schema["items"])
        if item is not None:
            checks.append(_items(item))
    unique = _uniqueness(schema)
    if unique is not None:
        checks.append(unique)
    return checks


def _fields(children: dict[str, Check], needed: tuple[str, ...]) -> Check:
    def check_fields(value: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, dict):
            return
        for name in needed:
            if name not in value:
                place = (path, name)
                problems.append(Problem(place, required(spelled(place)), missing=True))
        for name, child in value.items():
            walk = children.get(name)
            if walk is not None:
                walk(child, (path, name), problems)

    return check_fields


def _entries(entry: Check, known: frozenset[str]) -> Check:
    def check_entries(value: Any, path: Path, problems: list[Problem]) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                if key not in known:
                    entry(child, (path, key), problems)

    return check_entries


def _items(item: Check) -> Check:
    def check_items(value: Any, path: Path, problems: list[Problem]) -> None:
        if isinstance(value, list):
            for index, child in enumerate(value):
                item(child, (path, index), problems)

    return check_items


def _uniqueness(schema: dict[str, Any]) -> Check | None:
    """Lists that are sets hold a value once, lists that are maps a key once."""
    list_type = schema.get("x-kubernetes-list-type")
    keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
    if list_type not in ("set", "map"):
        return None

    def check_unique(value: Any, path: Path, problems: list[Problem]) -> None:
        if not isinstance(value, list):
            return
        seen: set[bytes] = set()
        for index, item in enumerate(value):
            shown: Any = item
            if list_type == "map":
                if not isinstance(item, dict):
                    continue
                shown = {key: item[key] for key in keys if key in item}
            mark = msgspec.json.encode(shown, order="sorted")
            if mark in seen:
                place = (path, index)
                problems.append(Problem(place, duplicate(spelled(place), shown)))
            seen.add(mark)

    return check_unique


# --- combinations


def _combinations(schema: dict[str, Any]) -> list[Check]:
    checks: list[Check] = []
    for key, maker in (("allOf", _all_of), ("anyOf", _any_of), ("oneOf", _one_of)):
        if schema.get(key):
            checks.append(maker([compile_validator(part) for part in schema[key]]))
    if schema.get("not"):
        checks.append(_none_of(compile_validator(schema["not"])))
    return checks


def _passes(check: Check | None, value: Any, path: Path) -> bool:
    found: list[Problem] = []
    if check is not None:
        check(value, path, found)
    return not found


def _composite(path: Path, words: str) -> Problem:
    return Problem(path, invalid_value(ROOT, "", f'"{spelled(path)}" {words}'))


def _all_of(parts: list[Check | None]) -> Check:
    def check_all(value: Any, path: Path, problems: list[Problem]) -> None:
        before = len(problems)
        for part in parts:
            if part is not None:
                part(value, path, problems)
        if len(problems) > before:
            problems.append(_composite(path, "must validate all the schemas (allOf)"))

    return check_all


def _any_of(parts: list[Check | None]) -> Check:
    def check_any(value: Any, path: Path, problems: list[Problem]) -> None:
        if not any(_passes(part, value, path) for part in parts):
            problems.append(_composite(path, "must validate at least one schema (anyOf)"))

    return check_any


def _one_of(parts: list[Check | None]) -> Check:
    def check_one(value: Any, path: Path, problems: list[Problem]) -> None:
        count = sum(_passes(part, value, path) for part in parts)
        if count != 1:
            found = "none valid" if count == 0 else f"{count} valid alternatives"
            problems.append(_composite(path, f"must validate one and only one schema (oneOf). Found {found}"))

    return check_one


def _none_of(part: Check | None) -> Check:
    def check_not(value: Any, path: Path, problems: list[Problem]) -> None:
        if _passes(part, value, path):
            problems.append(_composite(path, "must not validate the schema (not)"))

    return check_not
