"""What rules and defaults in a schema must be: rules compile and can be told old from new, defaults are valid."""

from __future__ import annotations

from typing import Any

from kajitori.base.cel.errors import CompileError
from kajitori.laptop.apiserver.crd.defaulting import compile_defaulter
from kajitori.laptop.apiserver.crd.paths import Problem
from kajitori.laptop.apiserver.crd.pruning import compile_pruner
from kajitori.laptop.apiserver.crd.rules import (
    MISSING,
    REASONS,
    compile_rule,
    compile_rules,
    split_field_path,
    type_of,
)
from kajitori.laptop.apiserver.crd.validation import compile_validator
from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)

Schema = dict[str, Any]


def check_rules(schema: Schema, field: str, errors: list[FieldError], *, root: bool, matched: bool) -> None:
    declared: list[Schema] = schema.get("x-kubernetes-validations") or []
    if not declared:
        return
    self_type = type_of(schema, root=root)
    for index, rule in enumerate(declared):
        place = f"{field}.x-kubernetes-validations[{index}]"
        text = str(rule.get("rule") or "")
        if not text.strip():
            errors.append(required(f"{place}.rule", "rule is not specified"))
            continue
        reason = rule.get("reason")
        if reason is not None and reason not in REASONS:
            errors.append(unsupported_value(f"{place}.reason", reason, sorted(REASONS)))
        message = rule.get("message")
        if message is not None and (not str(message).strip() or str(message).strip().count("\n") > 0):
            errors.append(
                invalid_value(
                    f"{place}.message", message, "message must be non-empty if specified, and one line"
                )
            )
        if message is None and "\n" in text.strip() and not rule.get("messageExpression"):
            errors.append(
                required(f"{place}.message", "message must be specified if rule contains line breaks")
            )
        _check_field_path(rule.get("fieldPath") or "", schema, place, errors)
        try:
            compiled = compile_rule(
                {**rule, "messageExpression": None, "reason": None, "fieldPath": ""}, self_type
            )
        except CompileError as error:
            errors.append(invalid_value(f"{place}.rule", text, f"compilation failed: {error.message}"))
            continue
        if compiled.compares and not matched:
            errors.append(
                invalid_value(
                    f"{place}.rule",
                    text,
                    "oldSelf cannot be used on the uncorrelatable portion of the schema: items of a list that has no "
                    "x-kubernetes-list-type of map",
                )
            )
        _check_message_expression(rule, self_type, place, errors)


def _check_message_expression(rule: Schema, self_type: Any, place: str, errors: list[FieldError]) -> None:
    expression = rule.get("messageExpression")
    if not expression:
        return
    try:
        compile_rule({**rule, "reason": None, "fieldPath": ""}, self_type)
    except CompileError as error:
        errors.append(
            invalid_value(
                f"{place}.messageExpression",
                expression,
                f"messageExpression compilation failed: {error.message}",
            )
        )


def _check_field_path(text: str, schema: Schema, place: str, errors: list[FieldError]) -> None:
    if not text:
        return
    try:
        names = split_field_path(text)
    except ValueError as error:
        errors.append(invalid_value(f"{place}.fieldPath", text, f"fieldPath must be a valid path: {error}"))
        return
    node: Schema = schema
    for name in names:
        additional = node.get("additionalProperties")
        child: Any = (node.get("properties") or {}).get(name) or additional
        if not isinstance(child, dict):
            errors.append(
                invalid_value(
                    f"{place}.fieldPath",
                    text,
                    f"fieldPath must be a valid path: does not refer to a valid field: {name}",
                )
            )
            return
        node = child


def check_default(schema: Schema, field: str, errors: list[FieldError], *, root: bool) -> None:
    """A default must be a valid value, with nothing in it that would be pruned."""
    place = f"{field}.default"
    if root:
        errors.append(forbidden_field(place, "must not be set at the root"))
        return
    value = schema["default"]
    without = {key: kept for key, kept in schema.items() if key != "default"}
    prune = compile_pruner(without)
    if prune is not None and not same(prune(value, None, []), value):
        errors.append(invalid_value(place, value, "must not have unknown fields"))
        return
    complete = compile_defaulter(without)
    completed = value if complete is None else complete(value)
    problems: list[Problem] = []
    validate = compile_validator(without)
    path = (None, place)
    if validate is not None:
        validate(completed, path, problems)
    check = None if problems else compile_rules(without)
    if check is not None:
        check(completed, MISSING, path, problems)
    errors += [problem.error for problem in problems]
