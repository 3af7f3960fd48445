"""Controllers of other projects that serve kinds of ours: what gives them away, and what ours does then.

Two controllers of one kind would undo each other's work. So where the upstream one runs, ours stays off for that
kind and says so; it is looked for at installation and followed from then on, so that ours begins when it goes.
Pure, but for the informers that `kajitori.app.standby` keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from kajitori.api.resource import DEPLOYMENTS, VALIDATING_WEBHOOK_CONFIGURATIONS, Resource
from kajitori.base.reason import Reason

Project = Literal["lws", "jobset", "envoy-gateway", "envoy-ai-gateway"]


class Signal(msgspec.Struct, frozen=True):
    """An object whose presence means that a project's controller is at work."""

    project: Project
    resource: Resource
    name: str


class Found(msgspec.Struct, frozen=True, order=True):
    """A signal's object that is there. where: such as `Deployment lws-system/lws-controller-manager`."""

    project: Project
    where: str


class Capability(msgspec.Struct, frozen=True):
    """What Kajitori can do on a cluster. kinds: of whose objects. projects: each of which does it too."""

    name: str
    kinds: tuple[str, ...]
    projects: tuple[Project, ...]


class State(msgspec.Struct, frozen=True, rename="camel"):
    """Whether a capability acts. because: why it does not."""

    capability: str
    kinds: tuple[str, ...]
    acts: bool
    because: str = ""
    hint: str = ""


TITLES: dict[Project, str] = {
    "lws": "the LeaderWorkerSet controller of kubernetes-sigs/lws",
    "jobset": "the JobSet controller of kubernetes-sigs/jobset",
    "envoy-gateway": "Envoy Gateway",
    "envoy-ai-gateway": "Envoy AI Gateway",
}
# Names as each project's own manifests and chart have them.
SIGNALS: tuple[Signal, ...] = (
    Signal("lws", DEPLOYMENTS, "lws-controller-manager"),
    Signal("lws", VALIDATING_WEBHOOK_CONFIGURATIONS, "lws-validating-webhook-configuration"),
    Signal("jobset", DEPLOYMENTS, "jobset-controller-manager"),
    Signal("jobset", VALIDATING_WEBHOOK_CONFIGURATIONS, "jobset-validating-webhook-configuration"),
    Signal("envoy-gateway", DEPLOYMENTS, "envoy-gateway"),
    Signal("envoy-ai-gateway", DEPLOYMENTS, "ai-gateway-controller"),
)
LEADER_WORKER_SETS = Capability("leader-worker-sets", ("LeaderWorkerSet",), ("lws",))
# Upstream's one process serves both kinds.
DISAGGREGATED_SETS = Capability(
    "disaggregated-sets", ("DisaggregatedSet", "DisaggregatedSetRoleScaler"), ("lws",)
)
JOB_SETS = Capability("job-sets", ("JobSet",), ("jobset",))
AI_ROUTES = Capability(
    "ai-gateway", ("AIGatewayRoute", "AIServiceBackend", "BackendSecurityPolicy"), ("envoy-ai-gateway",)
)
ENVOY_CLASSES = Capability(
    "envoy-gateway-classes",
    ("GatewayClass of gateway.envoyproxy.io/gatewayclass-controller", "Backend"),
    ("envoy-gateway",),
)
COMPONENTS: dict[str, tuple[Capability, ...]] = {
    "controllers": (LEADER_WORKER_SETS, DISAGGREGATED_SETS, JOB_SETS),
    "gateway": (AI_ROUTES, ENVOY_CLASSES),
}


def signals_of(capabilities: Iterable[Capability]) -> tuple[Signal, ...]:
    """What to look for."""
    projects = {project for capability in capabilities for project in capability.projects}
    return tuple(signal for signal in SIGNALS if signal.project in projects)


def watch_rules(component: str) -> list[dict[str, object]]:
    """The rights to follow a component's signals, by their very names."""
    signals = signals_of(COMPONENTS[component])
    return [
        {
            "apiGroups": [resource.group],
            "resources": [resource.plural],
            "resourceNames": [signal.name for signal in signals if signal.resource == resource],
            "verbs": ["list", "watch"],
        }
        for resource in dict.fromkeys(signal.resource for signal in signals)
    ]


def state_of(capability: Capability, found: Collection[Found], *, yields: bool = True) -> State:
    """Whether the capability acts. yields: or else it acts whoever else does."""
    rivals = sorted(each for each in found if each.project in capability.projects)
    if not rivals or not yields:
        return State(capability.name, capability.kinds, acts=True)
    first = rivals[0]
    places = ", ".join(each.where for each in rivals)
    return State(
        capability.name,
        capability.kinds,
        acts=False,
        because=f"{TITLES[first.project]} serves {' and '.join(capability.kinds)} in this cluster ({places})",
        hint="remove it to let Kajitori take over",
    )


def reason_of(state: State) -> Reason | None:
    """Why the capability does not act; None if it does."""
    return None if state.acts else Reason("ServedByUpstream", state.because, state.hint)
