"""Pods whose deletion does not come to its end: told with what holds them, and left to their user.

Nothing is deleted by force: a pod on a node that is lost may still run, and with it a second leader. The group
begins anew the moment the pod is gone; other groups do not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kajitori.base.clock import parse_rfc3339
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.observed import Pod

HANGS_AFTER_SECONDS = 30.0
_NAMED_PODS = 3


def hanging_pods(pods: Iterable[Pod], now: float) -> list[Pod]:
    """Those that should have been gone half a minute ago, grace period included. now: seconds since 1970."""
    return [pod for pod in pods if pod.dying and _due(pod) <= now]


def next_hanging(pods: Iterable[Pod], now: float) -> float | None:
    """When the next of the pods that are being deleted will count as hanging, seconds since 1970."""
    return min((due for pod in pods if pod.dying and (due := _due(pod)) > now), default=None)


def _due(pod: Pod) -> float:
    # The timestamp is when the grace period ends.
    return parse_rfc3339(pod.metadata.deletion_timestamp or "") + HANGS_AFTER_SECONDS


def deletion_hangs(pods: Sequence[Pod], nodes: Mapping[str, str]) -> Reason | None:
    """The reason that names them. nodes: by name what is wrong with a node, such as `is NotReady`."""
    if not pods:
        return None
    told = [_told(pod, nodes.get(pod.spec.node_name, "")) for pod in pods[:_NAMED_PODS]]
    more = f"; and {len(pods) - _NAMED_PODS} more" if len(pods) > _NAMED_PODS else ""
    hints = dict.fromkeys(_hint(pod, nodes.get(pod.spec.node_name, "")) for pod in pods[:_NAMED_PODS])
    return Reason("DeletionHangs", "; ".join(told) + more, "; ".join(hints))


def _told(pod: Pod, node_state: str) -> str:
    where = f" on {pod.spec.node_name}" if pod.spec.node_name else ""
    why = ""
    if pod.metadata.finalizers:
        why = f", held by finalizer {', '.join(pod.metadata.finalizers)}"
    elif node_state:
        why = f", whose node {node_state}"
    return f"pod {pod.name}{where} should have been gone since {pod.metadata.deletion_timestamp}{why}"


def _hint(pod: Pod, node_state: str) -> str:
    if pod.metadata.finalizers:
        return "see why whoever set the finalizer does not take it away"
    if node_state:
        return (
            "bring the node back, or, if it is off for certain, delete the Node or give it the taint"
            " node.kubernetes.io/out-of-service"
        )
    return f"look at its node's kubelet; kubectl delete pod {pod.name} --force only if nothing of it runs any more"
