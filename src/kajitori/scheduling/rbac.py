"""The rights that placing gangs behind gates needs on a cluster with a scheduler of its own, and no more."""

from __future__ import annotations

from typing import Any

RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["nodes", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
