"""PodDisruptionBudget: how many pods may be taken away at once."""

from __future__ import annotations

from kajitori.laptop.controllers.disruption.controller import register

__all__ = ["register"]
