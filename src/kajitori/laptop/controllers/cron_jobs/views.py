"""What the CronJob controller reads of a CronJob."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.laptop.controllers.views import View

Object = dict[str, Any]


class CronJobSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    schedule: str = ""
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None
    job_template: Object = {}


class JobReference(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    api_version: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class CronJobStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    active: list[JobReference] = []
    last_schedule_time: str | None = None
    last_successful_time: str | None = None


class CronJobView(View, frozen=True, kw_only=True):
    kind: str = "CronJob"
    api_version: str = "batch/v1"
    spec: CronJobSpecView = CronJobSpecView()
    status: CronJobStatusView = CronJobStatusView()

    def has_active(self, uid: str) -> bool:
        return any(reference.uid == uid for reference in self.status.active)
