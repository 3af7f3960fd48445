"""Deployment: sizes its ReplicaSets, rolls from one template to the next."""

from __future__ import annotations

from kajitori.laptop.controllers.deployments.controller import register

__all__ = ["register"]
