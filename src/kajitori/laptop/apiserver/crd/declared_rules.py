"""What rules and defaults in a schema must be: rules compile and can be told old from new, defaults are valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.cel.errors import CompileError
from kajitori.base.cel.estimate import Shape
from kajitori.laptop.apiserver.crd.embedded import compile_embedded, embedded_errors
from kajitori.laptop.apiserver.crd.paths import Problem
from kajitori.laptop.apiserver.crd.pruning import compile_pruner
from kajitori.laptop.apiserver.crd.rule_costs import Costs, message_cost, rule_cost, shape_of
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
    invalid_value,
    required,
    unsupported_value,
)

if TYPE_CHECKING:
    from kajitori.base.cel.types import Type

Schema = dict[str, Any]


def rule_words(rule: Schema, schema: Schema, place: str) -> list[FieldError]:
    """What is wrong with a rule before it is compiled; schema: the node that it is about."""
    errors: list[FieldError] = []
    text, message = str(rule.get("rule") or ""), str(rule.get("message") or "")
    if not text.strip():
        errors.append(required(f"{place}.rule", "rule is not specified"))
    elif message and not message.strip():
        errors.append(invalid_value(f"{place}.message", message, "must be non-empty if specified"))
    elif _has_line_breaks(message.strip()):
        errors.append(invalid_value(f"{place}.message", message, "must not contain line breaks"))
    elif _has_line_breaks(text.strip()) and not message.strip():
        words = "message must be specified if rule contains line breaks"
        errors.append(required(f"{place}.message", words))
    expression = str(rule.get("messageExpression") or "")
    if expression and not expression.strip():
        words = "messageExpression must be non-empty if specified"
        errors.append(required(f"{place}.messageExpression", words))
    reason = rule.get("reason")
    if reason is not None and reason not in REASONS:
        errors.append(unsupported_value(f"{place}.reason", reason, sorted(REASONS)))
    path = str(rule.get("fieldPath") or "")
    if path and not path.strip():
        errors.append(invalid_value(f"{place}.fieldPath", path, "must be non-empty if specified"))
    if _has_line_breaks(path):
        errors.append(invalid_value(f"{place}.fieldPath", path, "must not contain line breaks"))
    if path and not _leads_somewhere(path, schema):
        errors.append(invalid_value(f"{place}.fieldPath", path, "must be a valid path"))
    return errors


def _has_line_breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def _leads_somewhere(path: str, schema: Schema) -> bool:
    try:
        names = split_field_path(path)
    except ValueError:
        return False
    node: Any = schema
    for name in names:
        node = (node.get("properties") or {}).get(name) or node.get("additionalProperties")
        if not isinstance(node, dict):
            return False
    return True


@dataclass(frozen=True, slots=True)
class RulePlace:
    """Where rules stand. unmatched: the field from which on there is no old value, empty if there is.

    occurs: how often there can be data of their schema; None: there is no bound.
    """

    field: str
    root: bool
    unmatched: str
    occurs: int | None


def check_rules(schema: Schema, at: RulePlace, costs: Costs, errors: list[FieldError]) -> None:
    """Compile the rules of a node and count what they cost."""
    field, unmatched = at.field, at.unmatched
    resource = at.root or bool(schema.get("x-kubernetes-embedded-resource"))
    self_type, shape = type_of(schema, root=at.root), shape_of(schema, root=resource) or Shape()
    for index, rule in enumerate(schema["x-kubernetes-validations"]):
        place = f"{field}.x-kubernetes-validations[{index}]"
        compares = False
        try:
            compiled = compile_rule(
                {"rule": rule["rule"], "optionalOldSelf": rule.get("optionalOldSelf")}, self_type
            )
            compares = compiled.compares
            errors += costs.rule(f"{place}.rule", rule_cost(rule, self_type, shape, at.occurs), "rule")
        except CompileError as error:
            errors.append(_unfit(f"{place}.rule", rule, "cel expression must evaluate to a bool", "", error))
        else:
            problems = _message_expression(rule, self_type, place)
            if rule.get("messageExpression") and not problems:
                cost = message_cost(rule, self_type, shape)
                problems = costs.rule(f"{place}.messageExpression", cost, "messageExpression")
            errors += problems
        if compares and unmatched:
            words = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {unmatched}"
            errors.append(invalid_value(f"{place}.rule", rule["rule"], words))
        elif not compares and rule.get("optionalOldSelf") is not None:
            words = "may not be set if oldSelf is not used in rule"
            errors.append(invalid_value(f"{place}.optionalOldSelf", rule["optionalOldSelf"], words))


def _message_expression(rule: Schema, self_type: Type, place: str) -> list[FieldError]:
    if not rule.get("messageExpression"):
        return []
    try:
        compile_rule({**rule, "reason": None, "fieldPath": ""}, self_type)
    except CompileError as error:
        words = "messageExpression must evaluate to a string"
        return [_unfit(f"{place}.messageExpression", rule, words, "messageExpression ", error)]
    return []


def _unfit(place: str, rule: Schema, type_words: str, subject: str, error: CompileError) -> FieldError:
    """The whole rule is shown, under the names that the server's own source gives its parts."""
    of_wrong_type = error.problem.startswith("must evaluate to a")
    words = type_words if of_wrong_type else f"{subject}compilation failed: {error.message}"
    shown = {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
    text = msgspec.json.encode(shown).decode()
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return FieldError("FieldValueInvalid", place, f"Invalid value: {text}: {words}")


def check_default(schema: Schema, field: str, errors: list[FieldError], *, root: bool) -> None:
    """A default must be a valid value as it stands, with nothing in it that would be pruned."""
    place = f"{field}.default"
    value = schema["default"]
    without = {key: kept for key, kept in schema.items() if key != "default"}
    if root:
        without["x-kubernetes-embedded-resource"] = True
    prune = compile_pruner(without)
    if prune is not None and not same(prune(value, None, []), value):
        errors.append(invalid_value(place, value, "must not have unknown fields"))
    problems: list[Problem] = []
    validate = compile_validator(without)
    if validate is not None:
        validate(value, None, problems)
    embedded = compile_embedded({"properties": {"default": without}})
    if embedded is not None:
        errors += [
            FieldError(error.reason, f"{field}.{error.field}", error.message)
            for error in embedded_errors(embedded, {"default": value})
        ]
    if problems:
        # The texts name what is below the default, the fields all of the way.
        errors += [_below(place, problem) for problem in problems]
        return
    check = compile_rules(without, root=root)
    if check is not None:
        check(value, MISSING, (None, place), problems)
    errors += [problem.error for problem in problems]


def _below(place: str, problem: Problem) -> FieldError:
    field = problem.error.field
    message = problem.error.message
    if problem.missing:
        # Nothing more is said about a field of an object that is not there.
        message = "Required value"
    return FieldError(problem.error.reason, f"{place}.{field}" if field else place, message)
