"""CronJob: makes a Job of its template whenever its schedule says so."""

from __future__ import annotations

from kajitori.laptop.controllers.cron_jobs.controller import register

__all__ = ["register"]
