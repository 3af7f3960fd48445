"""The rights that the controller of JobSets needs, and no more."""

from __future__ import annotations

from typing import Any

from kajitori.api.jobset.v1alpha2 import GROUP

RULES: list[dict[str, Any]] = [
    # A set whose time after its end is over is deleted.
    {"apiGroups": [GROUP], "resources": ["jobsets"], "verbs": ["list", "watch", "delete"]},
    {"apiGroups": [GROUP], "resources": ["jobsets/status"], "verbs": ["patch"]},
    # Where a cluster asks it of those who set blockOwnerDeletion.
    {"apiGroups": [GROUP], "resources": ["jobsets/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": ["batch"],
        "resources": ["jobs"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    # The start of a suspended Job is forgotten before its pod template changes.
    {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {
        "apiGroups": [""],
        "resources": ["persistentvolumeclaims"],
        "verbs": ["get", "list", "watch", "create"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
LAPTOP_RULES: list[dict[str, Any]] = []
