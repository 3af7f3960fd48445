"""The fields of a pod that its row of a table shows: all that is read of the stored bytes.

Stored pods are conformed: values have their published types and nothing is null.
"""

from __future__ import annotations

from msgspec import Raw, Struct, field
from msgspec.json import Decoder


class Container(Struct, rename="camel", frozen=True, gc=False):
    restart_policy: str = ""
    name: str = ""


class ReadinessGate(Struct, rename="camel", frozen=True, gc=False):
    condition_type: str = ""


class PodSpec(Struct, rename="camel", frozen=True, gc=False):
    containers: list[Container] = []
    init_containers: list[Container] = []
    node_name: str = ""
    readiness_gates: list[ReadinessGate] = []


class Condition(Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class Address(Struct, frozen=True, gc=False):
    ip: str = ""


class Waiting(Struct, frozen=True, gc=False):
    reason: str = ""


class Running(Struct, frozen=True, gc=False):
    pass


class Terminated(Struct, rename="camel", frozen=True, gc=False):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    finished_at: str = ""


class ContainerState(Struct, frozen=True, gc=False):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


_NO_STATE = ContainerState()


class ContainerStatus(Struct, rename="camel", frozen=True, gc=False):
    name: str = ""
    state: ContainerState = _NO_STATE
    last_state: ContainerState = _NO_STATE
    ready: bool = False
    restart_count: int = 0
    started: bool = False


class PodStatus(Struct, rename="camel", frozen=True, gc=False):
    phase: str = ""
    conditions: list[Condition] = []
    reason: str = ""
    nominated_node_name: str = ""
    pod_ip: str = field(name="podIP", default="")
    pod_ips: list[Address] = field(name="podIPs", default_factory=list)
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []


class Times(Struct, rename="camel", frozen=True, gc=False):
    """Of a pod's metadata."""

    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


_NO_SPEC, _NO_STATUS = PodSpec(), PodStatus()


class PodFields(Struct, frozen=True, gc=False):
    """metadata: the bytes that show it as a whole, in which only the times are read."""

    metadata: Raw
    spec: PodSpec = _NO_SPEC
    status: PodStatus = _NO_STATUS


read_pod = Decoder(PodFields).decode
read_times = Decoder(Times).decode
