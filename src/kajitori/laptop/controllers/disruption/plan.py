"""How many pods a PodDisruptionBudget expects, has and may lose. Pure.

Percentages and `maxUnavailable` are of the pods that the owners of the selected pods want, not of those that are
there; `minAvailable` as a number is of those that are there. An eviction notes its pod in the status; until the pod
is seen to end, or two minutes have passed, it does not count as healthy.

Source: Kubernetes' documentation, "Specifying a Disruption Budget".
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.kube.objects import Object, set_condition
from kajitori.laptop.controllers.amounts import resolve
from kajitori.laptop.controllers.views import PodView, View

ALLOWED = "DisruptionAllowed"
DISRUPTION_TARGET = "DisruptionTarget"
# An evicted pod that is not being deleted after so long never will be.
DELETION_SECONDS = 120.0


class BudgetSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class BudgetStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    observed_generation: int = 0
    disrupted_pods: dict[str, str] = {}
    conditions: list[Object] = []


class BudgetView(View, frozen=True, kw_only=True):
    kind: str = "PodDisruptionBudget"
    api_version: str = "policy/v1"
    spec: BudgetSpecView = BudgetSpecView()
    status: BudgetStatusView = BudgetStatusView()


def needs_scale(spec: BudgetSpecView) -> bool:
    """Whether the owners of the pods must be asked how many they want."""
    return spec.max_unavailable is not None or isinstance(spec.min_available, str)


def expected_and_desired(spec: BudgetSpecView, wanted: int, present: int) -> tuple[int, int]:
    """How many pods are expected, and how many of them have to be healthy.

    wanted: by the pods' owners. present: selected pods that exist.
    """
    if spec.max_unavailable is not None:
        return wanted, max(0, wanted - resolve(spec.max_unavailable, wanted, round_up=True))
    if isinstance(spec.min_available, str):
        return wanted, resolve(spec.min_available, wanted, round_up=True)
    if spec.min_available is not None:
        return present, spec.min_available
    return 0, 0


class Disrupted(msgspec.Struct, frozen=True):
    """pods: those whose end is awaited. lost: those that were not deleted after all. wait_seconds: to the next such."""

    pods: dict[str, str]
    lost: list[PodView]
    wait_seconds: float | None


def disrupted_pods(budget: BudgetView, pods: Sequence[PodView], now: float) -> Disrupted:
    """Which of the pods that evictions noted are still to end."""
    kept: dict[str, str] = {}
    lost: list[PodView] = []
    waits: list[float] = []
    for pod in pods:
        since = budget.status.disrupted_pods.get(pod.metadata.name)
        if since is None or pod.is_deleting:
            continue
        left = parse_rfc3339(since) + DELETION_SECONDS - now
        if left < 0:
            lost.append(pod)
        else:
            kept[pod.metadata.name] = since
            waits.append(left)
    return Disrupted(kept, lost, min(waits, default=None))


def plan_status(
    budget: BudgetView,
    pods: Sequence[PodView],
    expected: int,
    desired: int,
    disrupted: Disrupted,
    now: float,
) -> BudgetStatusView:
    healthy = sum(
        pod.is_ready and not pod.is_deleting and pod.metadata.name not in disrupted.pods for pod in pods
    )
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = budget.metadata.generation
    return BudgetStatusView(
        disruptions_allowed=allowed,
        current_healthy=healthy,
        desired_healthy=desired,
        expected_pods=expected,
        observed_generation=generation,
        disrupted_pods=disrupted.pods,
        conditions=set_condition(
            budget.status.conditions,
            ALLOWED,
            "True" if allowed else "False",
            "SufficientPods" if allowed else "InsufficientPods",
            "",
            rfc3339(now),
            observed_generation=generation,
        ),
    )


def failed_status(budget: BudgetView, problem: str, now: float) -> BudgetStatusView:
    """Nothing may be taken away while the budget cannot be worked out."""
    conditions = set_condition(
        budget.status.conditions,
        ALLOWED,
        "False",
        "SyncFailed",
        problem,
        rfc3339(now),
        observed_generation=budget.status.observed_generation,
    )
    return msgspec.structs.replace(budget.status, disruptions_allowed=0, conditions=conditions)


def seconds_until_stale(pod: PodView, now: float) -> float | None:
    """When a pod that was to be disrupted and lives on shall say so no more; None for any other pod."""
    if pod.is_deleting or pod.has_ended:
        return None
    for condition in pod.status.conditions:
        if condition.type == DISRUPTION_TARGET:
            if condition.status != "True" or condition.reason == "TerminationByKubelet":
                return None
            since = condition.last_transition_time
            return max(0.0, parse_rfc3339(since) + DELETION_SECONDS - now) if since else 0.0
    return None
