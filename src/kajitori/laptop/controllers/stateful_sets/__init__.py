"""StatefulSet: pods with names, volumes and an order of their own."""

from __future__ import annotations

from kajitori.laptop.controllers.stateful_sets.controller import register

__all__ = ["register"]
