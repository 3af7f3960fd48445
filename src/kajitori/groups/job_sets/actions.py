"""What a plan asks to be done, as values: the controller carries them out, tests read them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import field

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.groups.job_sets.observed import Job, Service


class CreateJob(msgspec.Struct, frozen=True):
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return self.body["metadata"]["name"]


class DeleteJob(msgspec.Struct, frozen=True):
    """Delete this very Job (its uid is a precondition) and its pods; it stays until they are gone."""

    job: Job


class SuspendJob(msgspec.Struct, frozen=True):
    job: Job


class ResumeJob(msgspec.Struct, frozen=True):
    """Let the Job go on, with the pod template as it is now (a part of it), or with what it has if None."""

    job: Job
    template: dict[str, Any] | None = None


class CreateService(msgspec.Struct, frozen=True):
    body: dict[str, Any]


class MendService(msgspec.Struct, frozen=True):
    """Put back the fields of the spec that make the Service ours."""

    service: Service
    spec: dict[str, Any]


class CreateClaim(msgspec.Struct, frozen=True):
    """One that is there already is used as it is."""

    body: dict[str, Any]


class DeleteSet(msgspec.Struct, frozen=True):
    """Its time is over."""


Action = (
    CreateJob | DeleteJob | SuspendJob | ResumeJob | CreateService | MendService | CreateClaim | DeleteSet
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event about the set. blamed: it tells of a failure, so what is known of its cause follows."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    blamed: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan decided about a Job that failed. restarts: something is made anew. rule: empty for none."""

    job: Job
    action: str
    rule: str = ""
    restarts: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Actions in order, and what to say.

    status: as it shall be written, if it differs; a decision about a failure is not carried out before it is written.
    again_after_seconds: look again even if nothing changes.
    """

    actions: list[Action] = field(default_factory=list[Action])
    events: list[Event] = field(default_factory=list[Event])
    status: v1.JobSetStatus
    failure: Failure | None = None
    again_after_seconds: float | None = None
