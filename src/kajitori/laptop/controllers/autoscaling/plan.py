"""What an autoscaler does in one look: the size to set, its status, its events. Pure.

Of several metrics the largest proposal counts; a metric that cannot be read keeps the others from shrinking
the size, not from growing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.kube.objects import set_condition
from kajitori.laptop.controllers.autoscaling.behavior import Memory, follow
from kajitori.laptop.controllers.autoscaling.sources import Outcome, Scene, compute
from kajitori.laptop.controllers.autoscaling.views import (
    AutoscalerStatusView,
    AutoscalerView,
    Object,
    Reading,
)

ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"


class Event(NamedTuple):
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Decision(msgspec.Struct, frozen=True):
    """replicas: the size to set, None to leave it. why: of the change."""

    status: AutoscalerStatusView
    memory: Memory
    replicas: int | None = None
    why: str = ""
    events: list[Event] = []


def with_condition(
    status: AutoscalerStatusView, type_name: str, is_true: bool, reason: str, message: str, now: float
) -> AutoscalerStatusView:
    conditions = set_condition(
        status.conditions, type_name, "True" if is_true else "False", reason, message, rfc3339(now)
    )
    return msgspec.structs.replace(status, conditions=conditions)


def without_scale(autoscaler: AutoscalerView, problem: str, now: float) -> AutoscalerStatusView:
    text = f"the HPA controller was unable to get the target's current scale: {problem}"
    return with_condition(autoscaler.status, ABLE, False, "FailedGetScale", text, now)


def needs_metrics(autoscaler: AutoscalerView, current: int) -> bool:
    """Whether the size is not decided by its bounds alone."""
    spec = autoscaler.spec
    return current != 0 and spec.min_replicas <= current <= spec.max_replicas


def plan_scaling(
    autoscaler: AutoscalerView,
    scene: Scene,
    readings: Sequence[Reading],
    memory: Memory,
    selector_problem: Event | None = None,
) -> Decision:
    """readings: one for each metric of the spec. selector_problem: what is wrong with the scale's selector."""
    current, now = scene.wanted, scene.now
    text = "the HPA controller was able to get the target's current scale"
    status = with_condition(autoscaler.status, ABLE, True, "SucceededGetScale", text, now)
    if not memory.recommended:
        memory = memory.with_recommendation(current, now)
    spec = autoscaler.spec
    if current == 0:
        text = "scaling is disabled since the replica count of the target is zero"
        status = with_condition(status, ACTIVE, False, "ScalingDisabled", text, now)
        return Decision(_sized(status, 0, 0, None), memory)
    if current > spec.max_replicas:
        why = "Current number of replicas above Spec.MaxReplicas"
        return Decision(_sized(status, current, current, None), memory, spec.max_replicas, why)
    if current < spec.min_replicas:
        why = "Current number of replicas below Spec.MinReplicas"
        return Decision(_sized(status, current, current, None), memory, spec.min_replicas, why)
    if selector_problem is not None:
        return _without_selector(status, memory, current, selector_problem, now)
    outcomes = [
        compute(metric, reading, scene) for metric, reading in zip(spec.metrics, readings, strict=True)
    ]
    return _by_metrics(autoscaler, status, memory, outcomes, current, now)


def _without_selector(
    status: AutoscalerStatusView, memory: Memory, current: int, problem: Event, now: float
) -> Decision:
    if problem.reason == "SelectorRequired":
        reason, text = "InvalidSelector", "the HPA target's scale is missing a selector"
    else:
        reason, text = problem.reason, problem.message
    status = with_condition(status, ACTIVE, False, reason, text, now)
    failed = Event("Warning", "FailedComputeMetricsReplicas", problem.message)
    status = _sized(status, current, status.desired_replicas, None)
    return Decision(status, memory, events=[problem, failed])


def _by_metrics(
    autoscaler: AutoscalerView,
    status: AutoscalerStatusView,
    memory: Memory,
    outcomes: Sequence[Outcome],
    current: int,
    now: float,
) -> Decision:
    failed = [one for one in outcomes if one.replicas is None]
    shown: list[Object] = [one.status or {"type": ""} for one in outcomes]
    events = [Event("Warning", one.reason, one.text) for one in failed]
    best: Outcome | None = None
    for one in outcomes:
        if one.replicas is not None and (best is None or one.replicas > (best.replicas or 0)):
            best = one
    if best is None or best.replicas is None or (failed and best.replicas < current):
        first = failed[0]
        text = f"the HPA was unable to compute the replica count: {first.text}"
        status = with_condition(status, ACTIVE, False, first.reason, text, now)
        count = f"{len(failed)} invalid out of {len(outcomes)}"
        message = f"invalid metrics ({count}), first error is: {first.error}"
        events.append(Event("Warning", "FailedComputeMetricsReplicas", message))
        status = _sized(status, current, status.desired_replicas, shown)
        return Decision(status, memory, events=events)
    text = f"the HPA was able to successfully calculate a replica count from {best.name}"
    status = with_condition(status, ACTIVE, True, "ValidMetricFound", text, now)
    wanted, spec = best.replicas, autoscaler.spec
    followed = follow(spec.behavior, memory, current, wanted, spec.min_replicas, spec.max_replicas, now)
    memory = memory.with_recommendation(wanted, now)
    status = with_condition(status, ABLE, True, *followed.stable, now)
    status = with_condition(status, LIMITED, followed.is_limited, *followed.limit, now)
    status = _sized(status, current, current, shown)
    if followed.replicas == current:
        return Decision(status, memory, events=events)
    why = ""
    if wanted != current:
        why = f"{best.name} above target" if wanted > current else "All metrics below target"
    return Decision(status, memory, followed.replicas, why, events)


def _sized(
    status: AutoscalerStatusView, current: int, desired: int, shown: list[Object] | None
) -> AutoscalerStatusView:
    return msgspec.structs.replace(
        status, current_replicas=current, desired_replicas=desired, current_metrics=shown
    )


def after_change(decision: Decision, current: int, now: float) -> Decision:
    """Once the size is set."""
    replicas = decision.replicas or 0
    text = f"the HPA controller was able to update the target scale to {replicas}"
    status = with_condition(decision.status, ABLE, True, "SucceededRescale", text, now)
    status = msgspec.structs.replace(status, desired_replicas=replicas, last_scale_time=rfc3339(now))
    event = Event("Normal", "SuccessfulRescale", f"New size: {replicas}; reason: {decision.why}")
    memory = decision.memory.with_change(replicas - current, now)
    return Decision(status, memory, events=[*decision.events, event])


def after_refusal(decision: Decision, before: int, problem: str, now: float) -> Decision:
    """Where the size could not be set. before: the desired size of the stored status."""
    text = f"the HPA controller was unable to update the target scale: {problem}"
    status = with_condition(decision.status, ABLE, False, "FailedUpdateScale", text, now)
    status = msgspec.structs.replace(status, desired_replicas=before)
    message = f"New size: {decision.replicas}; reason: {decision.why}; error: {problem}"
    event = Event("Warning", "FailedRescale", message)
    return Decision(status, decision.memory, events=[*decision.events, event])
