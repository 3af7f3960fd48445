"""What each metric of an autoscaler proposes, as its kind of source computes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec

from kajitori.base.quantity import format_quantity, parse_quantity
from kajitori.laptop.controllers.autoscaling.replicas import (
    NotComputable,
    Proposal,
    Tolerances,
    by_average,
    by_share,
    by_utilization,
    by_value,
    thousandths,
)
from kajitori.laptop.controllers.autoscaling.views import AutoscalerView, Object, Reading, ScaledPod

_FAILED = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}


class Outcome(msgspec.Struct, frozen=True):
    """replicas: None where nothing could be computed; then reason, text and error say why.

    name: of the metric, as reasons of a change name it. status: the entry of `status.currentMetrics`.
    """

    replicas: int | None
    name: str = ""
    status: Object = {}
    reason: str = ""
    text: str = ""
    error: str = ""


class Scene(msgspec.Struct, frozen=True):
    """wanted, present: replicas of the scale's spec and of its status. pods: those of its selector."""

    namespace: str
    wanted: int
    present: int
    pods: Sequence[ScaledPod]
    tolerances: Tolerances
    now: float


def tolerances_of(autoscaler: AutoscalerView) -> Tolerances:
    behavior = autoscaler.spec.behavior or {}
    found: dict[str, float] = {}
    for field, rules in (("down", behavior.get("scaleDown")), ("up", behavior.get("scaleUp"))):
        text = (rules or {}).get("tolerance")
        if text is not None:
            found[field] = float(parse_quantity(text))
    return Tolerances(**found)


def compute(metric: Object, reading: Reading, scene: Scene) -> Outcome:
    """What the metric asks for."""
    kind = metric["type"]
    source: Object = metric[kind[0].lower() + kind[1:]]
    kinds = {
        "Resource": _resource,
        "ContainerResource": _resource,
        "Pods": _pods,
        "Object": _object,
        "External": _external,
    }
    try:
        return kinds[kind](kind, source, reading, scene)
    except NotComputable as error:
        return Outcome(
            None, reason=_FAILED[kind], text=str(error), error=f"{_failure(kind, source)}: {error}"
        )


def _failure(kind: str, source: Object) -> str:
    match kind:
        case "Resource":
            return f"failed to get {source['name']} resource metric value"
        case "ContainerResource":
            return f"failed to get {source['container']} container metric value"
        case "External":
            return f"failed to get {source['metric']['name']} external metric value"
        case _:
            return f"failed to get {kind.lower()} metric value"


def _resource(kind: str, source: Object, reading: Reading, scene: Scene) -> Outcome:
    name, container, target = source["name"], source.get("container", ""), source["target"]
    is_average = target.get("averageValue") is not None
    prefix = f"failed to get {name} {'usage' if is_average else 'utilization'}: "
    pods, samples, current, now = scene.pods, reading.pods, scene.wanted, scene.now
    try:
        if reading.failure:
            raise NotComputable(f"unable to get metrics for resource {name}: {reading.failure}")
        if is_average:
            wanted = thousandths(target["averageValue"])
            proposal = by_average(pods, samples, current, wanted, scene.tolerances, now, name)
            label = f"{name} resource"
        else:
            wanted = target.get("averageUtilization", 0)
            proposal = by_utilization(pods, samples, current, wanted, scene.tolerances, now, name, container)
            of = "container resource" if kind == "ContainerResource" else "resource"
            label = f"{name} {of} utilization (percentage of request)"
    except NotComputable as error:
        raise NotComputable(prefix + str(error)) from error
    shown: Object = {"averageValue": _quantity(proposal.usage, binary=name == "memory")}
    if proposal.utilization is not None:
        shown["averageUtilization"] = proposal.utilization
    entry: Object = {"name": name, "current": shown}
    if container:
        entry["container"] = container
    return Outcome(proposal.replicas, label, _status(kind, entry))


def _pods(kind: str, source: Object, reading: Reading, scene: Scene) -> Outcome:
    name = source["metric"]["name"]
    if reading.failure:
        raise NotComputable(f"unable to get metric {name}: {reading.failure}")
    wanted = thousandths(source["target"]["averageValue"])
    proposal = by_average(scene.pods, reading.pods, scene.wanted, wanted, scene.tolerances, scene.now)
    entry = {"metric": source["metric"], "current": {"averageValue": _quantity(proposal.usage)}}
    return Outcome(proposal.replicas, f"pods metric {name}", _status(kind, entry))


def _object(kind: str, source: Object, reading: Reading, scene: Scene) -> Outcome:
    name, described, target = source["metric"]["name"], source["describedObject"], source["target"]
    is_value = target.get("type") == "Value"
    try:
        if reading.failure:
            where = f"{described['kind']} {scene.namespace}/{described['name']}"
            raise NotComputable(f"unable to get metric {name}: {where} {reading.failure}")
        proposal, current = _of_one_value(is_value, sum(reading.values), target, scene)
    except NotComputable as error:
        if is_value:
            raise
        raise NotComputable(f"failed to get {name} object metric: {error}") from error
    label = f"{described['kind']} metric {name}" if is_value else _external_name(source)
    entry = {"describedObject": described, "metric": source["metric"], "current": current}
    return Outcome(proposal.replicas, label, _status(kind, entry))


def _external(kind: str, source: Object, reading: Reading, scene: Scene) -> Outcome:
    name, target = source["metric"]["name"], source["target"]
    is_value = target.get("averageValue") is None
    try:
        if reading.failure:
            where = f"{scene.namespace}/{name}/{_selector_text(source['metric'].get('selector'))}"
            raise NotComputable(f"unable to get external metric {where}: {reading.failure}")
        proposal, current = _of_one_value(is_value, sum(reading.values), target, scene)
    except NotComputable as error:
        prefix = (
            f"failed to get external metric {name}" if is_value else f"failed to get {name} external metric"
        )
        raise NotComputable(f"{prefix}: {error}") from error
    entry = {"metric": source["metric"], "current": current}
    return Outcome(proposal.replicas, _external_name(source), _status(kind, entry))


def _of_one_value(is_value: bool, usage: int, target: Object, scene: Scene) -> tuple[Proposal, Object]:
    if is_value:
        wanted = thousandths(target["value"])
        proposal = by_value(scene.pods, usage, scene.wanted, wanted, scene.tolerances)
        return proposal, {"value": _quantity(proposal.usage)}
    wanted = thousandths(target["averageValue"])
    proposal = by_share(usage, scene.present, wanted, scene.tolerances)
    return proposal, {"averageValue": _quantity(proposal.usage)}


def _status(kind: str, entry: Object) -> Object:
    return {"type": kind, kind[0].lower() + kind[1:]: entry}


def _quantity(value: int, *, binary: bool = False) -> str:
    amount = Fraction(value, 1000)
    return format_quantity(amount, binary=binary and amount >= 1024)


def _external_name(source: Object) -> str:
    return f"external metric {source['metric']['name']}({_selector_text(source['metric'].get('selector'))})"


def _selector_text(selector: Object | None) -> str:
    """As the real controller prints one."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{}},}}"
