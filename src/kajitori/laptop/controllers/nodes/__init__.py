"""Node lifecycle: silent nodes, taints, eviction."""

from __future__ import annotations

from kajitori.laptop.controllers.nodes.controller import register

__all__ = ["register"]
