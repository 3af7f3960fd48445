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
        "verbs": ["list", "watch", "create", "patch"],
    },
    # The condition of the leader's readiness gate.
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    # The last lines of a container that began a restart.
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    # Whether a group could ever fit, and whether the node of a pod that does not end is well.
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
# For sets that ask to be restarted in place. Whoever has this right can do in a pod whatever the pod can.
IN_PLACE_RULES: list[dict[str, Any]] = [
    # Over a WebSocket the right to GET is asked for, or that to create as well, as the version has it.
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}
]
# Of gangs that other schedulers place: one object a group, whose kind most clusters do not even serve. Kueue makes its
# own; that of a group that ends is deleted, since it holds the pods back.
GANG_OBJECT_RULES: list[dict[str, Any]] = [
    {
        "apiGroups": ["scheduling.volcano.sh", "scheduling.x-k8s.io", "scheduling.k8s.io"],
        "resources": ["podgroups"],
        "verbs": ["list", "watch", "create", "delete"],
    },
    {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads"], "verbs": ["delete"]},
]
# Of our embedded API server alone: who deleted a pod.
LAPTOP_RULES: list[dict[str, Any]] = [
    {"nonResourceURLs": ["/kajitori/audit"], "verbs": ["get"]},
    *IN_PLACE_RULES,
]
