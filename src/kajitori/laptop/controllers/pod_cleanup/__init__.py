"""Pods that nobody else clears away."""

from __future__ import annotations

from kajitori.laptop.controllers.pod_cleanup.controller import register

__all__ = ["register"]
