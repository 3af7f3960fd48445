"""How many replicas bring a metric to its target. Pure.

The ratio of usage to target, times the pods that it was measured on, rounded up; nothing changes while the ratio
is near 1. Pods without a measurement, and pods that are not ready, count against a change in its own direction:
as idle when growing, as busy when shrinking. Source: Kubernetes' documentation of horizontal pod autoscaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from kajitori.base.clock import parse_rfc3339
from kajitori.base.quantity import parse_quantity
from kajitori.laptop.controllers.autoscaling.views import RequestingContainer, Sample, ScaledPod

# How long after its start a pod's CPU is not believed while it is not ready, and how late its first readiness
# may be.
CPU_START_SECONDS = 300.0
READINESS_DELAY_SECONDS = 30.0
_MOST = 2**31 - 1

_RatioOf = Callable[[Mapping[str, Sample]], float]


class NotComputable(Exception):
    """The message says what is missing."""


class Tolerances(msgspec.Struct, frozen=True):
    """By how much the ratio may differ from 1 without a change."""

    down: float = 0.1
    up: float = 0.1

    def allow(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Proposal(msgspec.Struct, frozen=True):
    """usage: in thousandths, for the status. utilization: in percent, where the target is one."""

    replicas: int
    usage: int
    utilization: int | None = None


class _Groups(msgspec.Struct, frozen=True):
    ready: int
    samples: dict[str, Sample]
    unready: list[str]
    missing: list[str]


def thousandths(text: str | int) -> int:
    """A quantity as the API counts it, rounded up."""
    value = parse_quantity(text) * 1000
    return -(-value.numerator // value.denominator)


def _group(pods: Sequence[ScaledPod], samples: Mapping[str, Sample], resource: str, now: float) -> _Groups:
    ready = 0
    kept = dict(samples)
    unready: list[str] = []
    missing: list[str] = []
    for pod in pods:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp is not None or pod.status.phase == "Failed":
            kept.pop(name, None)
        elif pod.status.phase == "Pending":
            unready.append(name)
        elif name not in samples:
            missing.append(name)
        elif resource == "cpu" and not _is_believable(pod, samples[name], now):
            unready.append(name)
        else:
            ready += 1
    for name in unready:
        kept.pop(name, None)
    if not kept:
        raise NotComputable("did not receive metrics for targeted pods (pods might be unready)")
    return _Groups(ready, kept, unready, missing)


def _is_believable(pod: ScaledPod, sample: Sample, now: float) -> bool:
    """Whether a pod's CPU is that of its work and not of its start."""
    condition, started = pod.ready_condition, pod.status.start_time
    if condition is None or started is None:
        return False
    changed = parse_rfc3339(condition.last_transition_time) if condition.last_transition_time else 0.0
    if parse_rfc3339(started) + CPU_START_SECONDS > now:
        return condition.status != "False" and sample.time >= changed + sample.window_seconds
    return condition.status != "False" or parse_rfc3339(started) + READINESS_DELAY_SECONDS <= changed


def by_average(
    pods: Sequence[ScaledPod],
    samples: Mapping[str, Sample],
    current: int,
    target: int,
    tolerances: Tolerances,
    now: float,
    resource: str = "",
) -> Proposal:
    """Each pod shall use `target` (thousandths). Raises NotComputable."""
    _require(pods)
    groups = _group(pods, samples, resource, now)
    usage = _mean(groups.samples)
    busy = dict.fromkeys(groups.missing, target)

    def ratio_of(values: Mapping[str, Sample]) -> float:
        return _mean(values) / target

    replicas = _settle(groups, usage / target, busy, ratio_of, current, tolerances)
    return Proposal(replicas, usage)


def by_utilization(
    pods: Sequence[ScaledPod],
    samples: Mapping[str, Sample],
    current: int,
    target: int,
    tolerances: Tolerances,
    now: float,
    resource: str,
    container: str = "",
) -> Proposal:
    """Each pod shall use `target` percent of what it asks for. Raises NotComputable."""
    _require(pods)
    groups = _group(pods, samples, resource, now)
    requests = {pod.metadata.name: _request(pod, resource, container) for pod in pods}
    utilization, usage = _utilization(groups.samples, requests)
    busy = {name: requests[name] * max(100, target) // 100 for name in groups.missing}

    def ratio_of(values: Mapping[str, Sample]) -> float:
        return _utilization(values, requests)[0] / target

    replicas = _settle(groups, utilization / target, busy, ratio_of, current, tolerances)
    return Proposal(replicas, usage, utilization)


def _settle(
    groups: _Groups,
    ratio: float,
    busy: Mapping[str, int],
    ratio_of: _RatioOf,
    current: int,
    tolerances: Tolerances,
) -> int:
    """The replicas for the ratio, after those without a sample were counted against the change."""
    grows_unready = bool(groups.unready) and ratio > 1.0
    if not grows_unready and not groups.missing:
        return current if tolerances.allow(ratio) else _up(ratio * groups.ready)
    values = dict(groups.samples)
    if ratio < 1.0:
        values |= {name: Sample(value) for name, value in busy.items()}
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, Sample(0))
    if grows_unready:
        values |= dict.fromkeys(groups.unready, Sample(0))
    again = ratio_of(values)
    if tolerances.allow(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    replicas = _up(again * len(values))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return current
    return replicas


def by_value(
    pods: Sequence[ScaledPod], usage: int, current: int, target: int, tolerances: Tolerances
) -> Proposal:
    """One value for all shall be `target`. Raises NotComputable."""
    ratio = usage / target
    if current == 0:
        return Proposal(_up(ratio), usage)
    if tolerances.allow(ratio):
        return Proposal(current, usage)
    if not pods:
        text = "no pods returned by selector while calculating replica count"
        raise NotComputable(f"unable to calculate ready pods: {text}")
    ready = sum(pod.status.phase == "Running" and pod.is_ready for pod in pods)
    return Proposal(_up(ratio * ready), usage)


def by_share(usage: int, current: int, target: int, tolerances: Tolerances) -> Proposal:
    """One value for all, of which each of `current` replicas shall have `target`."""
    if current == 0:
        return Proposal(_up(usage / target), usage)
    replicas = current
    if not tolerances.allow(usage / (target * current)):
        replicas = _up(usage / target)
    return Proposal(replicas, -(-usage // current))


def _require(pods: Sequence[ScaledPod]) -> None:
    if not pods:
        raise NotComputable("no pods returned by selector while calculating replica count")


def _up(value: float) -> int:
    return min(_MOST, math.ceil(value))


def _mean(samples: Mapping[str, Sample]) -> int:
    return sum(sample.value for sample in samples.values()) // len(samples)


def _utilization(samples: Mapping[str, Sample], requests: Mapping[str, int]) -> tuple[int, int]:
    """Percent of the requests, and the mean usage."""
    known = [name for name in samples if name in requests]
    asked = sum(requests[name] for name in known)
    if asked == 0:
        raise NotComputable("no metrics returned matched known pods")
    used = sum(samples[name].value for name in known)
    return used * 100 // asked, used // len(known)


def _request(pod: ScaledPod, resource: str, container: str) -> int:
    name = pod.metadata.name
    if not container and pod.spec.resources is not None and pod.spec.resources.requests:
        whole = pod.spec.resources.requests.get(resource)
        if whole is not None:
            return thousandths(whole)
    # Init containers that restart run beside the others.
    running = [one for one in pod.spec.init_containers if one.restart_policy == "Always"]
    containers: list[RequestingContainer] = [*pod.spec.containers, *running]
    total = 0
    for one in containers:
        if container not in ("", one.name):
            continue
        request = one.resources.requests.get(resource)
        if request is None:
            raise NotComputable(f"missing request for {resource} in container {one.name} of Pod {name}")
        total += thousandths(request)
        if container:
            return total
    if container:
        raise NotComputable(f"container {container} not found in Pod {name}")
    return total
