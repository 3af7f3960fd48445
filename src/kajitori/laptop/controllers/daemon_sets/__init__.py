"""DaemonSet: one pod on each node that suits."""

from __future__ import annotations

from kajitori.laptop.controllers.daemon_sets.controller import register

__all__ = ["register"]
