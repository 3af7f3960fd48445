"""`LabelSelector` objects: whether they select labels, and their text form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.model.selection import holds, query_text

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches; None matches nothing, an empty one everything."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(
        holds(
            expression.get("operator", ""), expression.get("values") or (), labels.get(expression.get("key"))
        )
        for expression in selector.get("matchExpressions") or ()
    )


def selector_text(selector: Any) -> str:
    """As the query parameter `labelSelector` has it. Accepts a plain map of labels too."""
    if not isinstance(selector, dict):
        return ""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return query_text(selector)
