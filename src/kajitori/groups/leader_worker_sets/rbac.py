"""The rights that the group controller needs, and no more."""

from __future__ import annotations

from typing import Any

from kajitori.api.leaderworkerset.v1 import GROUP

RULES: list[dict[str, Any]] = [
    {"apiGroups": [GROUP], "resources": ["leaderworkersets"], "verbs": ["list", "watch"]},
    {"apiGroups": [GROUP], "resources": ["leaderworkersets/status"], "verbs": ["patch"]},
    # Where a cluster asks it of those who set blockOwnerDeletion.
    {"apiGroups": [GROUP], "resources": ["leaderworkersets/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": [""],
        "resources": ["pods", "services"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": [""],
        "resources": ["persistentvolumeclaims"],
        "verbs": ["list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["apps"],
        "resources": ["controllerrevisions"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    # For sets that ask for StatefulSets.
    {
        "apiGroups": ["apps"],
        "resources": ["statefulsets"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    # The condition of the leader's readiness gate.
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    # Whether a group could ever fit.
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
# Of our embedded API server alone: who deleted a pod.
LAPTOP_RULES: list[dict[str, Any]] = [{"nonResourceURLs": ["/kajitori/audit"], "verbs": ["get"]}]
