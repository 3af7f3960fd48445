"""Evictions: deletions of pods that a PodDisruptionBudget may refuse.

An eviction takes one of the disruptions that the budget's status allows, and notes the pod there, so that two at
once never take the same. Pods that do not serve can go without, as the budget's policy for unhealthy pods says.
Source: Kubernetes' documentation, "API-initiated eviction" and "Unhealthy pod eviction policy".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.kube.objects import set_condition
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.requests import admitted, review_of
from kajitori.laptop.apiserver.admission.review import CREATE
from kajitori.laptop.apiserver.admission.steps import Steps, in_time
from kajitori.laptop.apiserver.answers import object_answer
from kajitori.laptop.apiserver.bodies import read_subresource_body
from kajitori.laptop.apiserver.changes import audit_of, key_of, now_text, settle
from kajitori.laptop.apiserver.deletion import DeleteOptions, decide_deletion
from kajitori.laptop.apiserver.label_selectors import selects
from kajitori.laptop.apiserver.request import check_dry_run
from kajitori.laptop.apiserver.status import FieldError, StatusError
from kajitori.laptop.apiserver.store import Decision, Deleted, Entry, Key
from kajitori.laptop.apiserver.views import peek_object, read_object, stored_object

if TYPE_CHECKING:
    from aiohttp import web

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"
ALLOWED = "DisruptionAllowed"
_MOST_DISRUPTED_PODS = 2000
_RETRY_SECONDS = 10
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict_pod(state: ServerState, call: Call) -> web.StreamResponse:
    """POST of an Eviction: a delete that a PodDisruptionBudget may refuse."""
    eviction = await read_subresource_body(call, call.kind.subresources["eviction"])
    raw = eviction.get("deleteOptions") or {}
    try:
        options = msgspec.convert(raw, DeleteOptions)
    except msgspec.ValidationError as error:
        raise status.bad_request(f"deleteOptions cannot be read: {error}") from None
    options.check()
    dry_run = check_dry_run(options.dry_run or call.query.all("dryRun"), "CreateOptions")
    kind = call.kind
    key = key_of(call)
    entry = state.store.get(*key)
    if entry is None:
        raise status.not_found(kind.resource, call.target.name)
    await in_time(admitted(call, review_of(call, CREATE, eviction, None, dry_run=dry_run)))
    pod = peek_object(kind, entry)
    if _counts_for_budgets(pod):
        await _use_budget(state, call, pod, dry_run)

    def decide(before: Entry | None) -> Steps[Decision]:
        yield from ()
        if before is None:
            raise status.not_found(kind.resource, call.target.name)
        evicted = _told(read_object(kind, before))
        decision = decide_deletion(kind, evicted, options, time.time())
        if decision is None:
            return None
        if isinstance(decision, Deleted):
            return Deleted(stored_object(kind, decision.obj))
        return stored_object(kind, decision)

    await settle(state, call, key, decide, dry_run)
    return await object_answer(call, 201, status.success())


def _told(pod: Object) -> Object:
    """With the condition that says why it ends."""
    current: Object = pod.get("status") or {}
    conditions = set_condition(
        current.get("conditions") or [],
        "DisruptionTarget",
        "True",
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
        now_text(),
    )
    return {**pod, "status": {**current, "conditions": conditions}}


def _counts_for_budgets(pod: Object) -> bool:
    """Pods that have ended, wait for a node or are going already can be evicted freely."""
    phase = pod.get("status", {}).get("phase")
    return phase not in ("Succeeded", "Failed", "Pending") and "deletionTimestamp" not in pod["metadata"]


def _may_go_unhealthy(pod: Object, budget: Object) -> bool:
    """Whether a pod that is not ready may go without taking a disruption."""
    conditions = pod.get("status", {}).get("conditions") or []
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    current: Object = budget.get("status") or {}
    desired = current.get("desiredHealthy", 0)
    return desired > 0 and current.get("currentHealthy", 0) >= desired


async def _use_budget(state: ServerState, call: Call, pod: Object, dry_run: bool) -> None:
    labels = pod["metadata"].get("labels") or {}
    budgets = [
        entry
        for entry in state.store.table(BUDGETS).scan(pod["metadata"]["namespace"])
        if selects(entry.peek().get("spec", {}).get("selector"), labels)
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        text = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
        raise status.failure(500, "", text)
    budget = budgets[0]
    if _may_go_unhealthy(pod, budget.peek()):
        return

    def decide(before: Entry | None) -> Decision:
        return None if before is None else _with_disruption(before.decode(), call.target.name)

    if dry_run:
        decide(budget)
        return
    await state.store.mutate(Key(BUDGETS, budget.namespace, budget.name), decide, audit_of(call))


def _with_disruption(budget: Object, pod_name: str) -> Object:
    """The budget with one disruption less. Raises StatusError 429 or 403 if it allows none."""
    name, current = budget["metadata"]["name"], budget.setdefault("status", {})
    if current.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        text = f"The disruption budget {name} is still being processed by the server."
        raise _refusal(text, _RETRY_SECONDS)
    if len(current.get("disruptedPods") or {}) > _MOST_DISRUPTED_PODS:
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise status.failure(
            403,
            "Forbidden",
            f'poddisruptionbudget.policy "{name}" is forbidden: {text}',
            {"name": name, "group": "policy", "kind": "poddisruptionbudget"},
        )
    if current.get("disruptionsAllowed", 0) <= 0:
        raise _refusal(_why(name, current))
    current["disruptionsAllowed"] -= 1
    current["disruptedPods"] = {**(current.get("disruptedPods") or {}), pod_name: now_text()}
    if current["disruptionsAllowed"] == 0:
        current["conditions"] = set_condition(
            current.get("conditions") or [],
            ALLOWED,
            "False",
            "InsufficientPods",
            "",
            now_text(),
            observed_generation=current.get("observedGeneration", 0),
        )
    return budget


def _why(name: str, current: Object) -> str:
    condition: Object = next(
        (one for one in current.get("conditions") or [] if one.get("type") == ALLOWED), {}
    )
    refused = condition.get("status") == "False" and condition.get("message")
    stuck = f"The disruption budget {name} does not allow evicting pods currently"
    desired, healthy = current.get("desiredHealthy", 0), current.get("currentHealthy", 0)
    if refused and condition.get("reason") == "SyncFailed":
        return f"{stuck} because it failed sync: {condition['message']}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    return f"{stuck} ({condition.get('reason')}): {condition['message']}" if refused else stuck


def _refusal(cause: str, retry_after_seconds: int = 0) -> StatusError:
    return status.too_many_requests(
        _REFUSED, [FieldError("DisruptionBudget", "", cause)], retry_after_seconds
    )
