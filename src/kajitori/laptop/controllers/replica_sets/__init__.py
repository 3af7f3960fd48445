"""ReplicaSet: keeps so many pods of one template."""

from __future__ import annotations

from kajitori.laptop.controllers.replica_sets.controller import register

__all__ = ["register"]
