"""What every namespace is given: a ServiceAccount and the root certificate; tokens in Secrets."""

from __future__ import annotations

from kajitori.laptop.controllers.service_accounts.controller import register

__all__ = ["register"]
