"""What the workload controllers ask of pods alike: whose they are, whether they are available, what a template makes.

Pure: the clock and the pods are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.base.clock import parse_rfc3339
from kajitori.kube.objects import Object, owner_reference
from kajitori.laptop.controllers.views import PodView, View
from kajitori.model.selection import matches

PODS_BY_CONTROLLER = "controller"


def controller_index(obj: View) -> list[str]:
    """Index value: the uid of the owner that manages the object, or a mark with the namespace for none."""
    owner = obj.metadata.controller
    return [owner.uid if owner is not None else f"none/{obj.metadata.namespace}"]


def node_index(pod: PodView) -> list[str]:
    """Index value: the node that the pod is bound to."""
    return [pod.spec.node_name] if pod.spec.node_name else []


class Claims(msgspec.Struct, frozen=True):
    """Whose pods are whose. mine: owned and matching, in the order given."""

    mine: list[PodView]
    adopt: list[PodView]
    release: list[PodView]


def claim_pods(
    owner: View,
    selector: LabelSelector,
    pods: Sequence[PodView],
    adoptable: Callable[[PodView], bool],
    belongs: Callable[[PodView], bool] | None = None,
) -> Claims:
    """Sort the pods of the namespace by who should own them.

    adoptable: whether a pod that nobody owns may be taken. belongs: what the owner asks of its pods besides the
    selector, such as a name of its own.
    """
    uid, ending = owner.metadata.uid, owner.metadata.deletion_timestamp is not None
    claims = Claims([], [], [])
    for pod in pods:
        holder = pod.metadata.controller
        fits = matches(selector, pod.metadata.labels) and (belongs is None or belongs(pod))
        if holder is None:
            if fits and not ending and not pod.is_deleting and adoptable(pod):
                claims.adopt.append(pod)
        elif holder.uid == uid:
            if fits:
                claims.mine.append(pod)
            elif not ending and not pod.is_deleting:
                claims.release.append(pod)
    return claims


def is_available(pod: PodView, min_ready_seconds: int, now: float) -> bool:
    """Ready, and for long enough."""
    ready = pod.ready_condition
    if ready is None or ready.status != "True":
        return False
    if min_ready_seconds == 0:
        return True
    if not ready.last_transition_time:
        return False
    return parse_rfc3339(ready.last_transition_time) + min_ready_seconds <= now


def seconds_until_available(pods: Sequence[PodView], min_ready_seconds: int, now: float) -> float | None:
    """When the next ready pod will have been ready for long enough; None if none is waiting for it."""
    waits = [
        parse_rfc3339(pod.ready_condition.last_transition_time) + min_ready_seconds - now
        for pod in pods
        if pod.is_active
        and pod.is_ready
        and pod.ready_condition is not None
        and pod.ready_condition.last_transition_time
        and not is_available(pod, min_ready_seconds, now)
    ]
    return max(0.0, min(waits)) if waits else None


def pod_of_template(owner: View, template: Object) -> Object:
    """A pod of the owner as its template says, still without a name."""
    given: Object = template.get("metadata") or {}
    metadata: Object = {key: given[key] for key in ("labels", "annotations", "finalizers") if given.get(key)}
    metadata |= {"namespace": owner.metadata.namespace, "ownerReferences": [owner_reference(owner)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
