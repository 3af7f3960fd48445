"""What the Deployments of an installation run: the controllers, the gateway's control plane, the accountants of Envoys.

The first two run in several replicas. One of each, elected by a Lease, writes to the cluster; the others keep their caches
filled and take over when the Lease is given back or runs out. Every replica of the gateway serves Envoys, since what it tells
them follows from what it reads. An accountant belongs to one Envoy, in its pod, and asks the cluster for nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kajitori import __version__
from kajitori.api.resource import Resource
from kajitori.app.daemon import stop_on_signals
from kajitori.app.standby import Standby
from kajitori.app.upstream import (
    COMPONENTS,
    DISAGGREGATED_SETS,
    JOB_SETS,
    LEADER_WORKER_SETS,
    State,
    reason_of,
)
from kajitori.base.errors import NotFound
from kajitori.control.gate import Gate
from kajitori.control.runtime import Runtime
from kajitori.gateway.accounting.folders import ACCESS_LOG, LEDGER_FOLDER
from kajitori.gateway.envoy.bootstrap import (
    CERTIFICATE_FOLDER,
    FLEET_ADMIN_SOCKET,
    FLEET_ADMISSION_SOCKET,
    FLEET_RESCUE_SOCKETS,
    SOCKET_FOLDER,
)
from kajitori.gateway.fleet.front import Front
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.kube.lease import LeaderElection, LeaseSettings

if TYPE_CHECKING:
    from kajitori.gateway.envoy.ads import AdsServer
    from kajitori.gateway.foreign_kinds import ForeignKinds
    from kajitori.gateway.observed import Settings

_log = logging.getLogger(__name__)

LABELS = {"app.kubernetes.io/part-of": "kajitori", "app.kubernetes.io/managed-by": "kajitori"}


@dataclass(frozen=True)
class ServeOptions:
    """What both have in common.

    kubeconfig: None for the pod's own service account. namespace: of the installation. endpoint: of probes and
    metrics, `host:port`. yields: stand back where an upstream controller serves the same kinds.
    """

    kubeconfig: str | None
    namespace: str
    endpoint: str
    yields: bool = True
    lease: LeaseSettings = field(default_factory=LeaseSettings)


@dataclass(frozen=True)
class ControllersOptions(ServeOptions):
    """gang_gates: hold back the pods of groups that ask for devices until there is room for a whole group."""

    gang_gates: bool = True


@dataclass(frozen=True)
class GatewayOptions(ServeOptions):
    """discovery: `host:port` where Envoys connect. cache: folder of what is read out of Envoy's binary, None for the user's.

    access_log: where Envoys write theirs. front: the Service in front of Envoy, None for none. secret_namespaces: whose Secrets may be read; None for all.
    """

    discovery: str = "0.0.0.0:18000"
    cache: Path | None = None
    access_log: str = ACCESS_LOG
    front: Front | None = None
    secret_namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True)
class AccountantOptions:
    """control_plane: `host:port`. server_name: that its certificate has, the host if empty. certificates: Envoy's own.

    ledger: of records and the last policy. access_log: what Envoy writes. sockets: where Envoy's administration is and the
    accountant is asked. endpoint: of probes and metrics, `host:port`.
    """

    control_plane: str
    endpoint: str
    server_name: str = ""
    certificates: Path = Path(CERTIFICATE_FOLDER)
    ledger: Path = Path(LEDGER_FOLDER)
    access_log: Path = Path(ACCESS_LOG)
    sockets: Path = Path(SOCKET_FOLDER)


def own_namespace() -> str:
    """Where this pod runs, as its Deployment tells it."""
    return os.environ.get("POD_NAMESPACE") or "kajitori-system"


def own_identity() -> str:
    """Unlike any other process's, and with the pod's name in it for people."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}-{uuid.uuid4().hex[:8]}"


async def _unserved(client: Client, resources: Iterable[Resource]) -> set[Resource]:
    """Those that the cluster does not serve, as where a foreign definition of another version was kept."""
    served: dict[str, set[str]] = {}
    missing: set[Resource] = set()
    for resource in resources:
        if resource.prefix not in served:
            try:
                answer = msgspec.json.decode(await client.request("GET", resource.prefix))
            except NotFound:
                answer = {"resources": []}
            served[resource.prefix] = {each["name"] for each in answer["resources"]}
        if resource.plural not in served[resource.prefix]:
            missing.add(resource)
            _log.warning(
                "the cluster does not serve %s in %s: their objects count for nothing until it does",
                resource.qualified_name,
                resource.version,
            )
    return missing


def _runtime(client: Client, options: ServeOptions, component: str, identity: str) -> Runtime:
    election = LeaderElection(
        client, options.namespace, f"kajitori-{component}", identity, settings=options.lease
    )
    return Runtime(client, election=election, endpoint=options.endpoint, instance=identity)


def _client(options: ServeOptions, component: str) -> Client:
    agent = f"kajitori-{component}/{__version__}"
    return Client(load_config(options.kubeconfig), user_agent=agent)


async def serve_controllers(options: ControllersOptions) -> None:
    """The controllers of groups, until told to stop. Raises LeadershipLost."""
    stop = stop_on_signals()
    async with _client(options, "controllers") as client:
        runtime = _runtime(client, options, "controllers", own_identity())
        standby = Standby(runtime, "controllers", options.namespace, yields=options.yields)
        gates = _register_groups(runtime, options)

        def follow(states: list[State]) -> None:
            for state in states:
                gates[state.capability].set(reason_of(state))

        standby.on_change(follow)
        await runtime.run(stop)


def _register_groups(runtime: Runtime, options: ControllersOptions) -> dict[str, Gate]:
    """The controllers; the gate of each capability, by its name."""
    from kajitori.groups.disaggregated_sets import controller as disaggregated_sets
    from kajitori.groups.job_sets import controller as job_sets
    from kajitori.groups.leader_worker_sets import controller as leader_worker_sets
    from kajitori.scheduling.gates import controller as gang_gates

    gates = {capability.name: Gate() for capability in COMPONENTS["controllers"]}
    leader_worker_sets.register(
        runtime,
        gates[LEADER_WORKER_SETS.name],
        audit=False,
        gang_default="Gate" if options.gang_gates else "None",
    )
    disaggregated_sets.register(runtime, gates[DISAGGREGATED_SETS.name])
    job_sets.register(runtime, gates[JOB_SETS.name])
    if options.gang_gates:
        gang_gates.register(runtime)
    return gates


async def serve_gateway(options: GatewayOptions) -> None:
    """The gateway's control plane, until told to stop. Raises LeadershipLost."""
    from kajitori.gateway.accounting.policy_delivery import PolicyServer
    from kajitori.gateway.controller import GatewayController
    from kajitori.gateway.credentials.exchange import Surroundings
    from kajitori.gateway.envoy.server import ControlPlane, SecureListener
    from kajitori.gateway.fleet.front_controller import FrontController
    from kajitori.gateway.fleet.identity import Certificates
    from kajitori.gateway.fleet.reports import Reports
    from kajitori.gateway.foreign_kinds import ForeignKinds
    from kajitori.gateway.watched_kinds import WATCHED

    stop = stop_on_signals()
    identity = own_identity()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(options, "gateway"))
        runtime = _runtime(client, options, "gateway", identity)
        policies = PolicyServer()
        ads = _ads_server(options)
        foreign_kinds = ForeignKinds()
        settings = _gateway_settings(options)
        reports = Reports(runtime, ads, options.namespace, identity, policies.exhaustion)
        gateway = GatewayController(
            runtime,
            ads,
            policies,
            settings,
            envoys=reports,
            exhaustion=policies.exhaustion,
            exhausted=reports.exhausted,
            foreign_kinds=foreign_kinds,
            unserved=await _unserved(client, [resource for resource, _ in WATCHED.values()]),
            surroundings=Surroundings(environment=dict(os.environ)),
        )
        if options.front is not None:
            FrontController(runtime, gateway, settings, options.front)
        certificates = Certificates(runtime, options.namespace, LABELS)
        _leave_to_upstream(runtime, options, foreign_kinds)
        control_plane = ControlPlane(ads, policies)
        stack.push_async_callback(control_plane.close)
        listener = SecureListener(control_plane, options.discovery, certificates)
        runtime.service("discovery", listener.run, everywhere=True)
        runtime.ready_when(lambda: ads.ready and listener.listening)
        await runtime.run(stop)


def _ads_server(options: GatewayOptions) -> AdsServer:
    from kajitori.gateway.controller import SOURCE
    from kajitori.gateway.envoy.ads import AdsServer
    from kajitori.gateway.envoy.encode import Encoder
    from kajitori.gateway.envoy.schema import load_schema
    from kajitori.gateway.envoy.xds import Snapshot

    schema = load_schema(cache_folder=options.cache)
    return AdsServer(schema, Snapshot(Encoder(schema)), (SOURCE,))


def _gateway_settings(options: GatewayOptions) -> Settings:
    from kajitori.gateway.accounting.header_attributes import read_header_attributes
    from kajitori.gateway.observed import Settings

    front = options.front
    return Settings(
        service=(front.namespace, front.name) if front else None,
        secret_namespaces=options.secret_namespaces,
        access_log=options.access_log,
        logged_headers=read_header_attributes(os.environ).headers,
        rescue_sockets=FLEET_RESCUE_SOCKETS,
    )


def _leave_to_upstream(runtime: Runtime, options: GatewayOptions, foreign_kinds: ForeignKinds) -> None:
    """What an upstream controller serves is left to it for as long as it is there."""
    standby = Standby(runtime, "gateway", options.namespace, yields=options.yields)

    def follow(states: list[State]) -> None:
        ai_routes, envoy_classes = states
        foreign_kinds.set(ai_gateway=not ai_routes.acts, envoy_gateway=not envoy_classes.acts)

    standby.on_change(follow)


async def serve_accountant(options: AccountantOptions) -> None:
    """The accountant of one Envoy, until told to stop."""
    from kajitori.gateway.accountant import run_accountant
    from kajitori.gateway.accounting.places import Places
    from kajitori.gateway.accounting.policy_delivery import secure_channel

    places = Places(
        options.ledger,
        options.access_log,
        options.sockets / Path(FLEET_ADMISSION_SOCKET).name,
        options.sockets / Path(FLEET_ADMIN_SOCKET).name,
        *(options.sockets / Path(socket_path).name for socket_path in FLEET_RESCUE_SOCKETS),
    )
    await run_accountant(
        places,
        lambda: secure_channel(options.control_plane, options.certificates, options.server_name),
        stop_on_signals(),
        instance=os.environ.get("POD_NAME") or socket.gethostname(),
        endpoint=options.endpoint,
    )
