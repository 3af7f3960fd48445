"""Rules of what says where a pod may run: tolerations, affinities, spreading; and of host aliases."""

from __future__ import annotations

import ipaddress
from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.metadata import selector_errors
from kajitori.laptop.apiserver.validation.names import (
    dns_subdomain,
    label_key,
    label_value,
)

Object = dict[str, Any]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def toleration_errors(tolerations: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        here = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        effect, value = toleration.get("effect", ""), toleration.get("value", "")
        if key:
            errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid_value(f"{here}.operator", operator, text))
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid_value(f"{here}.effect", effect, text))
        if operator in ("Equal", ""):
            messages = label_value(value)
            if messages:
                errors.append(invalid_value(f"{here}.operator", value, ";".join(messages)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid_value(f"{here}.operator", value, text))
        else:
            errors.append(unsupported_value(f"{here}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in _EFFECTS:
            errors.append(unsupported_value(f"{here}.effect", effect, _EFFECTS))
    return errors


_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def node_selector_term_errors(term: Object, path: str) -> list[FieldError]:
    """One term of a node selector, as affinities and volumes have them."""
    errors: list[FieldError] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values") or []
        if operator in ("In", "NotIn") and not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{here}.values", text))
        elif operator in ("Gt", "Lt") and len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{here}.values", text))
        elif operator not in _NODE_OPERATORS:
            errors.append(invalid_value(f"{here}.operator", operator, "not a valid selector operator"))
        key = expression.get("key", "")
        errors += [invalid_value(f"{here}.key", key, message) for message in label_key(key)]
    return errors


def _pod_term_errors(term: Object, path: str) -> list[FieldError]:
    errors = selector_errors(term.get("labelSelector"), f"{path}.labelSelector")
    errors += selector_errors(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    key = term.get("topologyKey", "")
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    errors += [invalid_value(f"{path}.topologyKey", key, message) for message in label_key(key)]
    return errors


def _weight_errors(weight: int, path: str) -> list[FieldError]:
    if 1 <= weight <= 100:
        return []
    return [invalid_value(f"{path}.weight", weight, "must be in the range 1-100")]


_HARD, _SOFT = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def affinity_errors(affinity: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    node: Object = affinity.get("nodeAffinity") or {}
    if _HARD in node:
        terms: list[Object] = node[_HARD].get("nodeSelectorTerms") or []
        here = f"{path}.nodeAffinity.{_HARD}.nodeSelectorTerms"
        if not terms:
            errors.append(required(here, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            errors += node_selector_term_errors(term, f"{here}[{index}]")
    for index, weighted in enumerate(node.get(_SOFT) or ()):
        here = f"{path}.nodeAffinity.{_SOFT}[{index}]"
        errors += _weight_errors(weighted.get("weight", 0), here)
        errors += node_selector_term_errors(weighted.get("preference") or {}, f"{here}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        rules: Object = affinity.get(name) or {}
        for index, term in enumerate(rules.get(_HARD) or ()):
            errors += _pod_term_errors(term, f"{path}.{name}.{_HARD}[{index}]")
        for index, weighted in enumerate(rules.get(_SOFT) or ()):
            here = f"{path}.{name}.{_SOFT}[{index}]"
            errors += _weight_errors(weighted.get("weight", 0), here)
            errors += _pod_term_errors(weighted.get("podAffinityTerm") or {}, f"{here}.podAffinityTerm")
    return errors


def spread_errors(constraints: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        here = f"{path}[{index}]"
        if constraint.get("maxSkew", 0) <= 0:
            text = "must be greater than zero"
            errors.append(invalid_value(f"{here}.maxSkew", constraint.get("maxSkew", 0), text))
        key, when = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        if not key:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            supported = ("DoNotSchedule", "ScheduleAnyway")
            errors.append(unsupported_value(f"{here}.whenUnsatisfiable", when, supported))
        if (key, when) in seen:
            errors.append(duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}"))
        seen.add((key, when))
        errors += selector_errors(constraint.get("labelSelector"), f"{here}.labelSelector")
    return errors


def host_alias_errors(aliases: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, alias in enumerate(aliases):
        address = alias.get("ip", "")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            errors.append(invalid_value(f"{path}[{index}].ip", address, text))
        for place, name in enumerate(alias.get("hostnames") or ()):
            errors += [
                invalid_value(f"{path}[{index}].hostnames[{place}]", name, text)
                for text in dns_subdomain(name)
            ]
    return errors
