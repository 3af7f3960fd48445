"""Pieces that many tables share: ages, label texts, lists that are cut short."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kajitori.base.duration import format_age

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Object = dict[str, Any]
NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@lru_cache(maxsize=8192)
def unix_seconds(text: str) -> float | None:
    """Unix time of an RFC 3339 text; None for anything else."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        return None


def age_of(text: Any, now_seconds: float) -> str:
    """Time since an RFC 3339 text, as people read it."""
    if not isinstance(text, str) or not text:
        return UNKNOWN
    moment = unix_seconds(text)
    return UNKNOWN if moment is None else format_age(now_seconds - moment)


def age(obj: Object, now_seconds: float) -> str:
    return age_of(obj["metadata"].get("creationTimestamp"), now_seconds)


def name_of(obj: Object) -> str:
    return obj["metadata"].get("name", "")


def labels_text(labels: dict[str, str] | None) -> str:
    """`app=web,tier=front`, sorted; `<none>` for none."""
    if not labels:
        return NONE
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(selector: Object | None, *, empty: str = NONE) -> str:
    """A label selector as one writes it on the command line."""
    if selector is None:
        return empty
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        key, operator = term.get("key", ""), term.get("operator", "")
        if operator in _OPERATORS:
            parts.append((key, f"{key} {_OPERATORS[operator]} ({','.join(sorted(term.get('values', ())))})"))
        else:
            parts.append((key, f"!{key}" if operator == "DoesNotExist" else key))
    return ",".join(text for _, text in sorted(parts)) or empty


def containers_and_images(spec: Object) -> list[str]:
    """Names and images of the containers of a pod spec, as two cells."""
    containers: Sequence[Object] = spec.get("containers", ())
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
    ]


def cut_short(items: Iterable[str], limit: int = 3, *, empty: str = UNSET, separator: str = ",") -> str:
    """The first few of a list, and how many more there are."""
    every = list(items)
    text = separator.join(every[:limit])
    if len(every) > limit:
        return f"{text} + {len(every) - limit} more..."
    return text or empty


def truth(value: Any) -> str:
    return "<unset>" if value is None else ("True" if value else "False")


def is_default_class(obj: Object, annotation: str) -> bool:
    return (obj["metadata"].get("annotations") or {}).get(annotation) == "true"
