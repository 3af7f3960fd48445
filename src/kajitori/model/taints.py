"""Which pods a tainted node keeps away: tolerations against taints. Pure.

Source: the API reference, Taint and Toleration.
"""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.kubernetes.core_v1 import Taint, Toleration

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    operator = toleration.operator or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.key) and (toleration.value or "") == (taint.value or "")


def first_untolerated(
    taints: Sequence[Taint],
    tolerations: Sequence[Toleration],
    effects: Sequence[str] = ("NoSchedule", "NoExecute"),
) -> Taint | None:
    """The first taint of these effects that no toleration covers."""
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def tolerates_unschedulable(tolerations: Sequence[Toleration]) -> bool:
    """Whether a pod may go to a cordoned node."""
    return any(
        toleration.effect in (None, "", "NoSchedule")
        and toleration.operator == "Exists"
        and (not toleration.key or toleration.key == UNSCHEDULABLE)
        for toleration in tolerations
    )
