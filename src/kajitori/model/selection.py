"""Which objects a selector chooses: labels of pods, nodes and namespaces against the requirements of the API. Pure.

Source: the API reference, LabelSelectorRequirement and NodeSelectorRequirement. All requirements of a selector must
hold; one without any chooses everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kajitori.api.kubernetes.core_v1 import NodeSelectorTerm
from kajitori.api.kubernetes.meta_v1 import LabelSelector


def holds(operator: str, wanted: Collection[str], value: str | None) -> bool:
    """Whether a label's value (None: there is no such label) meets a requirement; an unknown operator never does.

    wanted: the requirement's values. `Gt` and `Lt` compare integers, with the first of them.
    """
    match operator:
        case "In":
            return value is not None and value in wanted
        case "NotIn":
            return value is None or value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(operator, wanted, value)
        case _:
            return False


def _compares(operator: str, wanted: Collection[str], value: str | None) -> bool:
    try:
        number, bound = int(value or ""), int(next(iter(wanted), ""))
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the labels meet every requirement."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        holds(requirement.operator, requirement.values, labels.get(requirement.key))
        for requirement in selector.match_expressions
    )


def is_empty(selector: LabelSelector) -> bool:
    """Whether it has no requirement, and so chooses everything."""
    return not selector.match_labels and not selector.match_expressions


def node_term_holds(term: NodeSelectorTerm, labels: Mapping[str, str], node_name: str) -> bool:
    """All requirements of one term of a node selector; a term without any holds nowhere."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(
        holds(requirement.operator, requirement.values, labels.get(requirement.key))
        for requirement in term.match_expressions
    ) and all(
        requirement.key == "metadata.name" and holds(requirement.operator, requirement.values, node_name)
        for requirement in term.match_fields
    )


def query_text(selector: Mapping[str, Any]) -> str:
    """A LabelSelector, as JSON has it, in the form of the query parameter `labelSelector`."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key", ""), ",".join(sorted(expression.get("values") or ()))
        match expression.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)
