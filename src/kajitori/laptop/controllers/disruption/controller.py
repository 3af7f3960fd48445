"""The disruption controller: keeps the status of PodDisruptionBudgets, which evictions live by.

Every status is written with the version that it was worked out on: an eviction that came between is never undone.
A second reconcile takes the mark of a disruption from pods that live on though they were to go.
"""

from __future__ import annotations

import msgspec

from kajitori.api.resource import POD_DISRUPTION_BUDGETS, PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import Conflict, KajitoriError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.disruption.plan import (
    DISRUPTION_TARGET,
    BudgetStatusView,
    BudgetView,
    disrupted_pods,
    expected_and_desired,
    failed_status,
    needs_scale,
    plan_status,
    seconds_until_stale,
)
from kajitori.laptop.controllers.disruption.scale import Scales
from kajitori.laptop.controllers.views import PodView
from kajitori.model.selection import matches

COMPONENT = "controllermanager"


class DisruptionBudgets:
    """Reconciles one budget, and one pod's mark, at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._scales = Scales(runtime)
        self._budgets: Informer[BudgetView] = runtime.informer(POD_DISRUPTION_BUDGETS, BudgetView)
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView)
        budgets = runtime.controller("disruption", self.reconcile, workers=2)
        budgets.watch(self._budgets)
        budgets.watch(self._pods, self._budgets_of, when=_matters)
        marks = runtime.controller("stale-disruption", self.reconcile_mark)
        marks.watch(self._pods, when=_is_marked)

    def _budgets_of(self, pod: PodView) -> list[Key]:
        return [
            Key(one.metadata.namespace, one.metadata.name)
            for one in self._budgets.list(pod.metadata.namespace)
            if _selects(one, pod)
        ]

    async def reconcile(self, key: Key) -> Result:
        budget = self._budgets.get(*key)
        if budget is None:
            return None
        try:
            return await self._sync(budget)
        except Conflict:
            raise
        except KajitoriError as error:
            await self._write(budget, failed_status(budget, error.message, self._clock.now()))
            return None

    async def _sync(self, budget: BudgetView) -> Result:
        pods = [pod for pod in self._pods.list(budget.metadata.namespace) if _selects(budget, pod)]
        if not pods:
            await self._recorder.record(budget, "NoPods", "No matching pods found")
        wanted = 0
        if needs_scale(budget.spec):
            wanted = await self._wanted(budget, pods)
        expected, desired = expected_and_desired(budget.spec, wanted, len(pods))
        now = self._clock.now()
        disrupted = disrupted_pods(budget, pods, now)
        for pod in disrupted.lost:
            place = f"{budget.metadata.namespace}/{budget.metadata.name}"
            text = f"Pod was expected by PDB {place} to be deleted but it wasn't"
            await self._recorder.record(pod, "NotDeleted", text, type="Warning")
        await self._write(budget, plan_status(budget, pods, expected, desired, disrupted, now))
        return After(disrupted.wait_seconds + 1.0) if disrupted.wait_seconds is not None else None

    async def _wanted(self, budget: BudgetView, pods: list[PodView]) -> int:
        try:
            wanted, unmanaged = await self._scales.wanted(pods)
        except KajitoriError as error:
            text = f"Failed to calculate the number of expected pods: {error.message}"
            await self._recorder.record(budget, "CalculateExpectedPodCountFailed", text, type="Warning")
            raise
        if unmanaged:
            text = (
                "Pods without a controller are selected, so how many are expected is not known. Give minAvailable"
                " as a whole number to count them"
            )
            await self._recorder.record(budget, "UnmanagedPods", text, type="Warning")
        return wanted

    async def _write(self, budget: BudgetView, wanted: BudgetStatusView) -> None:
        if wanted == budget.status:
            return
        body: Object = msgspec.to_builtins(wanted)
        ended: Object = dict.fromkeys(budget.status.disrupted_pods)
        body["disruptedPods"] = {**ended, **wanted.disrupted_pods} if wanted.disrupted_pods else None
        metadata = {"uid": budget.metadata.uid, "resourceVersion": budget.metadata.resource_version}
        try:
            stored = await self._client.patch(
                POD_DISRUPTION_BUDGETS,
                budget.metadata.name,
                {"metadata": metadata, "status": body},
                namespace=budget.metadata.namespace,
                subresource="status",
                type=BudgetView,
            )
        except NotFound:
            return
        self._budgets.remember(stored)

    async def reconcile_mark(self, key: Key) -> Result:
        pod = self._pods.get(*key)
        now = self._clock.now()
        wait = seconds_until_stale(pod, now) if pod is not None else None
        if pod is None or wait is None:
            return None
        if wait > 0:
            return After(wait + 1.0)
        condition = {"type": DISRUPTION_TARGET, "status": "False", "lastTransitionTime": rfc3339(now)}
        patch: Object = {
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [{**condition, "reason": None, "message": None}]},
        }
        try:
            await self._client.patch(
                PODS,
                pod.metadata.name,
                patch,
                namespace=pod.metadata.namespace,
                patch_type="strategic",
                subresource="status",
            )
        except NotFound:
            pass
        return None


def _selects(budget: BudgetView, pod: PodView) -> bool:
    return budget.spec.selector is not None and matches(budget.spec.selector, pod.metadata.labels)


def _matters(old: PodView | None, new: PodView | None) -> bool:
    if old is None or new is None:
        return True
    return (
        old.is_ready != new.is_ready
        or old.is_deleting != new.is_deleting
        or old.metadata.labels != new.metadata.labels
        or old.metadata.owner_references != new.metadata.owner_references
    )


def _is_marked(old: PodView | None, new: PodView | None) -> bool:
    return new is not None and any(one.type == DISRUPTION_TARGET for one in new.status.conditions)


def register(runtime: Runtime) -> None:
    DisruptionBudgets(runtime)
