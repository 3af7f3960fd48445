"""Garbage collection by owner references."""

from __future__ import annotations

from kajitori.laptop.controllers.garbage.controller import register

__all__ = ["register"]
