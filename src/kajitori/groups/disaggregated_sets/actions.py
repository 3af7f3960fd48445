"""What a plan asks for. Each action is one request, and harmless if it was done already."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import field

from kajitori.api.disaggregatedset import v1
from kajitori.groups.disaggregated_sets.observed import Body, Child, Scaler, Service


class CreateSet(msgspec.Struct, frozen=True):
    """Make a LeaderWorkerSet."""

    body: Body


class ChangeSet(msgspec.Struct, frozen=True):
    """Merge this into a LeaderWorkerSet."""

    child: Child
    patch: dict[str, Any]


class DeleteSet(msgspec.Struct, frozen=True):
    """Delete a LeaderWorkerSet with what it has."""

    child: Child


class CreateService(msgspec.Struct, frozen=True):
    body: Body


class MendService(msgspec.Struct, frozen=True):
    """Set its selector right."""

    service: Service
    selector: dict[str, str]


class DeleteService(msgspec.Struct, frozen=True):
    service: Service


class CreateScaler(msgspec.Struct, frozen=True):
    role: str
    body: Body


class DeleteScaler(msgspec.Struct, frozen=True):
    role: str
    scaler: Scaler


class TellScaler(msgspec.Struct, frozen=True):
    """Write the status of a scaler."""

    scaler: Scaler
    status: v1.RoleScalerStatus


Action = (
    CreateSet
    | ChangeSet
    | DeleteSet
    | CreateService
    | MendService
    | DeleteService
    | CreateScaler
    | DeleteScaler
    | TellScaler
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event about the set."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Stages in order: all actions of one are done before the next begins. status: as it shall be written.

    events: said once the stages are done. warnings: said in any case. again_after_seconds: look again even if
    nothing changes.
    """

    stages: list[list[Action]] = field(default_factory=list[list[Action]])
    events: list[Event] = field(default_factory=list[Event])
    warnings: list[Event] = field(default_factory=list[Event])
    status: v1.DisaggregatedSetStatus
    again_after_seconds: float | None = None

    @property
    def actions(self) -> list[Action]:
        return [action for stage in self.stages for action in stage]
