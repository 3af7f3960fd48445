"""What a plan looks at: narrow projections of Jobs, Services, claims and pods, and the world of one set.

Of a Job's pod template only that is kept which may change while it is suspended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import field

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.whole_numbers import index_of_label
from kajitori.control.cache import Metadata

if TYPE_CHECKING:
    from kajitori.base.reason import Reason


class Marks(msgspec.Struct, frozen=True):
    """Labels and annotations of a pod template."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Directives(msgspec.Struct, frozen=True, rename="camel"):
    """What a pod template says about where its pods may run, as far as it can change."""

    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    scheduling_gates: list[dict[str, Any]] = []


class Template(msgspec.Struct, frozen=True):
    metadata: Marks = Marks()
    spec: Directives = Directives()


class JobSpec(msgspec.Struct, frozen=True, rename="camel"):
    parallelism: int = 1
    completions: int | None = None
    suspend: bool = False
    template: Template = Template()


class JobCondition(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class JobStatus(msgspec.Struct, frozen=True, rename="camel"):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    start_time: str | None = None
    conditions: tuple[JobCondition, ...] = ()


class Job(msgspec.Struct, frozen=True):
    """A Job with a set's name on it.

    Worked out once, from its labels: replicated, index (-1 if they say nothing sensible), attempt and own_attempt
    (restarts of the set and of the Job alone before it; upstream leaves the latter out unless a gate of its is open).
    end: the condition that says how it ended.
    """

    metadata: Metadata
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()
    replicated: str = ""
    index: int = -1
    attempt: int = -1
    own_attempt: int = 0
    owner_uid: str = ""
    end: JobCondition | None = None

    def __post_init__(self) -> None:
        labels, owner = self.metadata.labels, self.metadata.controller
        ends = (one for one in self.status.conditions if one.type in ("Complete", "Failed"))
        own = max(0, index_of_label(labels.get(v1.JOB_RESTART_ATTEMPT)))
        work_out = msgspec.structs.force_setattr
        work_out(self, "replicated", labels.get(v1.REPLICATED_JOB_NAME, ""))
        work_out(self, "index", index_of_label(labels.get(v1.JOB_INDEX)))
        work_out(self, "attempt", index_of_label(labels.get(v1.RESTART_ATTEMPT)))
        work_out(self, "own_attempt", own)
        work_out(self, "owner_uid", owner.uid if owner else "")
        work_out(self, "end", next((one for one in ends if one.status == "True"), None))

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def dying(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def failed(self) -> bool:
        return self.end is not None and self.end.type == "Failed"

    @property
    def succeeded(self) -> bool:
        return self.end is not None and self.end.type == "Complete"

    @property
    def is_ready(self) -> bool:
        """As many pods as shall run at a time are ready or have succeeded."""
        pods = self.spec.parallelism
        if self.spec.completions is not None:
            pods = min(pods, self.spec.completions)
        return self.status.succeeded + self.status.ready >= pods


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: dict[str, str] = {}
    publish_not_ready_addresses: bool = False


class Service(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class Claim(msgspec.Struct, frozen=True):
    """A PersistentVolumeClaim."""

    metadata: Metadata


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class ContainerState(msgspec.Struct, frozen=True):
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        return (*self.init_container_statuses, *self.container_statuses)


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class Pod(msgspec.Struct, frozen=True):
    """A pod of a set: looked at when a Job failed, and all the time where restarts happen in place."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the plan of one set depends on.

    jobs, services, claims: those labelled with the set's name in its namespace, whoever owns them. pods: only where
    restarts happen in place. now: seconds since 1970. taken: names (`Job x-a-0`) that a create found in use by
    somebody else, who is in words. trouble: what the last attempt to carry out a plan ran into.
    """

    set: v1.JobSet
    jobs: Sequence[Job] = ()
    services: Sequence[Service] = ()
    claims: Sequence[Claim] = ()
    pods: Sequence[Pod] = ()
    now: float = 0.0
    taken: Mapping[str, str] = field(default_factory=dict[str, str])
    trouble: Reason | None = None

    @property
    def uid(self) -> str:
        return self.set.metadata.uid or ""

    @property
    def name(self) -> str:
        return self.set.metadata.name or ""

    @property
    def namespace(self) -> str:
        return self.set.metadata.namespace or ""

    def owner_entry(self) -> dict[str, Any]:
        """How everything that is made for the set names it in `ownerReferences`."""
        return {
            "apiVersion": f"{v1.GROUP}/v1alpha2",
            "kind": "JobSet",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
