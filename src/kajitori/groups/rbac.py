"""The rights that the controllers of groups need, and no more: those of each kind."""

from __future__ import annotations

from typing import Any

from kajitori.groups.disaggregated_sets import rbac as disaggregated_sets
from kajitori.groups.job_sets import rbac as job_sets
from kajitori.groups.leader_worker_sets import rbac as leader_worker_sets

RULES: list[dict[str, Any]] = [
    *leader_worker_sets.RULES,
    *leader_worker_sets.GANG_OBJECT_RULES,
    *disaggregated_sets.RULES,
    *job_sets.RULES,
]
LAPTOP_RULES: list[dict[str, Any]] = [*leader_worker_sets.LAPTOP_RULES, *job_sets.LAPTOP_RULES]
# Strong ones, for sets that ask for restarts in place; granted where somebody chose so.
IN_PLACE_RULES: list[dict[str, Any]] = [*leader_worker_sets.IN_PLACE_RULES]
