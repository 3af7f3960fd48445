"""Ranges of pod addresses for nodes that join: the cluster's own nodes bring theirs along."""

from __future__ import annotations

from kajitori.laptop.controllers.node_ranges.controller import register

__all__ = ["register"]
