"""HorizontalPodAutoscaler: sizes anything with a scale subresource by what is measured."""

from __future__ import annotations

from kajitori.laptop.controllers.autoscaling.controller import register

__all__ = ["register"]
