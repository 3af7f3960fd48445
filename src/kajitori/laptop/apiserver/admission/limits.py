"""LimitRanges: what containers get where they say nothing, and how much a container, pod or claim may ask for. Pure.

Source: behaviour of kube-apiserver 1.36, whose texts these are.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kajitori.model.pod_resources import Amount, Amounts, amount, amounts, pod_limits, pod_requests

if TYPE_CHECKING:
    from collections.abc import Iterable

Object = dict[str, Any]
ANNOTATION = "kubernetes.io/limit-ranger"


def _of_type(limit_range: Object, kind: str) -> list[Object]:
    return [
        limit for limit in (limit_range.get("spec") or {}).get("limits") or () if limit.get("type") == kind
    ]


def add_defaults(pod: Object, limit_ranges: Iterable[Object]) -> None:
    """Requests and limits for containers that have none, with an annotation that tells of it; in place."""
    for limit_range in limit_ranges:
        requests: Object = {}
        limits: Object = {}
        for limit in _of_type(limit_range, "Container"):
            requests.update(limit.get("defaultRequest") or {})
            limits.update(limit.get("default") or {})
        if requests or limits:
            _add(pod, requests, limits)


def _add(pod: Object, requests: Object, limits: Object) -> None:
    told: list[str] = []
    for field, shown in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            resources: Object = dict(container.get("resources") or {})
            for what, word, defaults in (("requests", "request", requests), ("limits", "limit", limits)):
                given: Object = resources.get(what) or {}
                missing = sorted(name for name in defaults if name not in given)
                if missing:
                    resources[what] = {**given, **{name: defaults[name] for name in missing}}
                    told.append(f"{', '.join(missing)} {word} for {shown} {container.get('name', '')}")
            container["resources"] = resources
    if told:
        metadata: Object = pod["metadata"]
        annotations = dict(metadata.get("annotations") or {})
        annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"
        metadata["annotations"] = annotations


def pod_problems(pod: Object, limit_range: Object) -> list[str]:
    """How a pod breaks one LimitRange."""
    problems: list[str] = []
    spec: Object = pod["spec"]
    for limit in (limit_range.get("spec") or {}).get("limits") or ():
        if limit.get("type") == "Container":
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                resources: Object = container.get("resources") or {}
                asked, most = amounts(resources.get("requests")), amounts(resources.get("limits"))
                problems += _problems("Container", limit, asked, most)
        elif limit.get("type") == "Pod":
            problems += _problems(
                "Pod", limit, pod_requests(pod, overhead=False), pod_limits(pod, overhead=False)
            )
    return problems


def claim_problems(claim: Object, limit_range: Object) -> list[str]:
    """How a PersistentVolumeClaim breaks one LimitRange."""
    problems: list[str] = []
    asked = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    kind = "PersistentVolumeClaim"
    for limit in _of_type(limit_range, kind):
        for name, text in (limit.get("min") or {}).items():
            problems += _least(kind, name, text, asked, {})
        for name, text in (limit.get("max") or {}).items():
            given = asked.get(name)
            start = f"maximum {name} usage per {kind} is {text}"
            if given is None:
                problems.append(f"{start}.  No request is specified")
            elif given.value > amount(text).value:
                problems.append(f"{start}, but request is {given}")
    return problems


def _problems(kind: str, limit: Object, asked: Amounts, most: Amounts) -> list[str]:
    problems: list[str] = []
    for name, text in (limit.get("min") or {}).items():
        problems += _least(kind, name, text, asked, most)
    for name, text in (limit.get("max") or {}).items():
        problems += _most(kind, name, text, asked, most)
    for name, text in (limit.get("maxLimitRequestRatio") or {}).items():
        problems += _ratio(kind, name, text, asked, most)
    return problems


def _least(kind: str, name: str, text: str, asked: Amounts, most: Amounts) -> list[str]:
    least, request, limit = amount(text).value, asked.get(name), most.get(name)
    start = f"minimum {name} usage per {kind} is {text}"
    if request is None:
        return [f"{start}.  No request is specified"]
    if request.value < least:
        return [f"{start}, but request is {request}"]
    if limit is not None and limit.value < least:
        return [f"{start}, but limit is {limit}"]
    return []


def _most(kind: str, name: str, text: str, asked: Amounts, most: Amounts) -> list[str]:
    bound, request, limit = amount(text).value, asked.get(name), most.get(name)
    start = f"maximum {name} usage per {kind} is {text}"
    if limit is None:
        return [f"{start}.  No limit is specified"]
    if limit.value > bound:
        return [f"{start}, but limit is {limit}"]
    if request is not None and request.value > bound:
        return [f"{start}, but request is {request}"]
    return []


def _ratio(kind: str, name: str, text: str, asked: Amounts, most: Amounts) -> list[str]:
    request, limit = asked.get(name), most.get(name)
    start = f"{name} max limit to request ratio per {kind} is {text}"
    if _is_nothing(request):
        return [f"{start}, but no request is specified or request is 0"]
    if _is_nothing(limit):
        return [f"{start}, but no limit is specified or limit is 0"]
    assert request is not None and limit is not None
    ratio = Fraction(limit.value, request.value)
    if ratio > amount(text).value:
        return [f"{start}, but provided ratio is {float(ratio):f}"]
    return []


def _is_nothing(value: Amount | None) -> bool:
    return value is None or value.value == 0


def aggregate(problems: list[str]) -> str:
    """Several problems as one message, each once."""
    unique = list(dict.fromkeys(problems))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
