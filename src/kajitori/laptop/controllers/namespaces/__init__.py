"""Namespaces that end."""

from __future__ import annotations

from kajitori.laptop.controllers.namespaces.controller import register

__all__ = ["register"]
