"""Certificates on request: which requests are approved by themselves, and signing those that are approved."""

from __future__ import annotations

from kajitori.laptop.controllers.certificates.controller import register

__all__ = ["register"]
