"""ResourceQuota: counts again what a namespace holds, so that what has gone makes room."""

from __future__ import annotations

from kajitori.laptop.controllers.quota.controller import register

__all__ = ["register"]
