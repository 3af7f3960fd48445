"""The rights that the controller of DisaggregatedSets needs, and no more."""

from __future__ import annotations

from typing import Any

from kajitori.api.disaggregatedset.v1 import GROUP
from kajitori.api.leaderworkerset.v1 import GROUP as LEADER_WORKER_SET_GROUP

RULES: list[dict[str, Any]] = [
    {"apiGroups": [GROUP], "resources": ["disaggregatedsets"], "verbs": ["list", "watch"]},
    {
        "apiGroups": [GROUP],
        "resources": ["disaggregatedsets/status", "disaggregatedsetrolescalers/status"],
        "verbs": ["patch"],
    },
    # Where a cluster asks it of those who set blockOwnerDeletion.
    {"apiGroups": [GROUP], "resources": ["disaggregatedsets/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": [GROUP],
        "resources": ["disaggregatedsetrolescalers"],
        "verbs": ["list", "watch", "create", "delete"],
    },
    {
        "apiGroups": [LEADER_WORKER_SET_GROUP],
        "resources": ["leaderworkersets"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": [""],
        "resources": ["services"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
