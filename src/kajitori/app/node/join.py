"""Make this machine (or a part of it) a node of a cluster that is given by a kubeconfig.

Flows in: what was asked for, and the joiner's rights. Flows out: a home with certificates of the node's own, the
bindings that it needs, a supervised runner and agent, and a Node that is Ready. Every step looks first whether it
has been done, so that joining again goes on where it was interrupted. What the joiner may not do is said as the
command that an administrator types, and waited for.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import ipaddress
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kajitori.api.resource import NODES, SERVICES, Resource
from kajitori.app.node import addresses
from kajitori.app.node.rights import binding, grants
from kajitori.base.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    KajitoriError,
    NotFound,
    UsageError,
)
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig, load_config
from kajitori.laptop.node.certificates import (
    CLIENT_SIGNER,
    SERVING_SIGNER,
    SIGNING_REQUESTS,
    USER_PREFIX,
    client_authority_file,
    client_file,
    obtain,
    read_certificate,
    read_client_authority,
    serving_file,
    write_private,
)
from kajitori.laptop.settings import NodeSettings

SERVICE_RANGES = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False)
RUNTIME_PREFIX = "kajitori://"
_RANGE_SECONDS = 15.0
_LOOK_SECONDS = 0.2
Say = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What was asked for; None is for the default. kubeconfig: an absolute path.

    labels, taints: as the Node object has them.
    """

    name: str
    kubeconfig: str | None = None
    context: str | None = None
    address: str | None = None
    port: int | None = None
    pod_cidr: str | None = None
    service_cidr: str | None = None
    gpus: int = 0
    gpu: str = "h200"
    zone: str = ""
    rack: str = ""
    cpus: str | None = None
    memory: str | None = None
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    taints: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Joiner(msgspec.Struct, frozen=True):
    """Whose rights a node was joined with, to leave with the same: `join.json` in the home."""

    kubeconfig: str | None = None
    context: str | None = None


def read_joiner(home: Path) -> Joiner:
    """Raises UsageError for a damaged file; nothing known where there is none."""
    try:
        return msgspec.json.decode((home / "join.json").read_bytes(), type=Joiner)
    except FileNotFoundError:
        return Joiner()
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{home / 'join.json'} is damaged: {error}", hint="name the cluster with --kubeconfig"
        ) from None


def node_kubeconfig(home: Path, name: str) -> Path:
    """Where the processes of a node find their own."""
    return home / "pki" / "clients" / f"{name}.kubeconfig"


async def prepare(home: Path, wanted: Wanted, taken_ports: set[int], say: Say) -> NodeSettings:
    """Everything before the node's processes start; its settings. Raises KajitoriError."""
    config = load_config(wanted.kubeconfig, wanted.context)
    address = wanted.address or addresses.own_address(config.server)
    addresses.check_address(address)
    if wanted.pod_cidr:
        addresses.check_pod_range(wanted.pod_cidr)
    port = addresses.kubelet_port(address, wanted.port, taken_ports)
    async with Client(config, user_agent="kaji-node-join") as client:
        await _check_free(client, home, wanted)
        await _client_certificate(client, config, home, wanted.name, say)
        await _bind_rights(client, home, wanted.name, say)
        write_private(client_authority_file(home), await _client_authority(client))
        pod_cidr = wanted.pod_cidr or await _given_range(client, home, wanted, say)
        service_cidr = await _service_range(client, wanted)
    say("services", f"{service_cidr} leads to endpoints" if service_cidr else "by addresses of pods only")
    joiner = Joiner(wanted.kubeconfig, wanted.context)
    write_private(home / "join.json", msgspec.json.encode(joiner))
    return NodeSettings(
        name=wanted.name,
        server=config.server,
        pod_cidr=pod_cidr,
        address=address,
        port=port,
        gpus=wanted.gpus,
        gpu=wanted.gpu,
        region="",
        zone=wanted.zone,
        rack=wanted.rack,
        cpus=wanted.cpus,
        memory=wanted.memory,
        labels=wanted.labels,
        taints=wanted.taints,
        joined=True,
        service_cidr=service_cidr,
    )


async def _check_free(client: Client, home: Path, wanted: Wanted) -> None:
    """Neither another node's name nor addresses that other nodes' pods have. Raises UsageError."""
    try:
        nodes = (await client.list(NODES)).items
    except Forbidden:
        return
    for node in nodes:
        name, status = node["metadata"]["name"], node.get("status") or {}
        runtime = (status.get("nodeInfo") or {}).get("containerRuntimeVersion", "")
        if name == wanted.name:
            if runtime and not runtime.startswith(RUNTIME_PREFIX):
                raise UsageError(
                    f"the cluster has a node {name} of another kind ({runtime})",
                    hint="choose another name with --name",
                )
            # A home whose join was interrupted has a certificate already, and goes on.
            if _is_true(node, "Ready") and not client_file(home).exists():
                where = next(
                    (each["address"] for each in status.get("addresses") or ()), "an unknown address"
                )
                raise UsageError(
                    f"the cluster has a node {name} at {where}, which is Ready and was not joined from {home}",
                    hint="choose another name with --name, or take that node out of the cluster first",
                )
        elif wanted.pod_cidr and (theirs := (node.get("spec") or {}).get("podCIDR")):
            try:
                overlap = ipaddress.ip_network(theirs).overlaps(ipaddress.ip_network(wanted.pod_cidr))
            except (ValueError, TypeError):
                continue
            if overlap:
                raise UsageError(f"node {name} has the range {theirs}, which overlaps {wanted.pod_cidr}")


async def _client_certificate(client: Client, config: ClusterConfig, home: Path, name: str, say: Say) -> None:
    """The node's own identity, and a kubeconfig around it."""
    file = client_file(home)
    known = read_certificate(file, name) is not None and await _is_accepted(home, name, config)
    if not known:

        async def approve(made: dict[str, Any]) -> None:
            await approve_request(client, made, say)

        try:
            pair = await obtain(client, CLIENT_SIGNER, name, on_request=approve)
        except Forbidden as error:
            error.hint = (
                "an administrator must bind you to the ClusterRole system:node-bootstrapper, "
                "or join the node with a kubeconfig of theirs"
            )
            raise
        write_private(file, pair)
    write_private(node_kubeconfig(home, name), _kubeconfig(config, name))
    say("identity", f"{USER_PREFIX}{name}{' (known)' if known else ''}")


async def _is_accepted(home: Path, name: str, config: ClusterConfig) -> bool:
    """Whether the cluster of this kubeconfig takes the certificate that is there: it may be another cluster's."""
    write_private(node_kubeconfig(home, name), _kubeconfig(config, name))
    async with Client(load_config(str(node_kubeconfig(home, name)))) as own:
        try:
            await own.get(NODES, name)
        except NotFound:
            return True
        except KajitoriError:
            return False
    return True


def _kubeconfig(config: ClusterConfig, name: str) -> bytes:
    """The same server as the joiner's, with the node's certificate from its file, which is replaced when renewed."""
    cluster: dict[str, Any] = {"server": config.server}
    if config.certificate_authority:
        cluster["certificate-authority-data"] = base64.b64encode(config.certificate_authority).decode()
    if config.insecure_skip_tls_verify:
        cluster["insecure-skip-tls-verify"] = True
    further = {"tls-server-name": config.tls_server_name, "proxy-url": config.proxy_url}
    cluster |= {key: value for key, value in further.items() if value}
    user, file = USER_PREFIX + name, "../node-client.pem"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": user, "user": {"client-certificate": file, "client-key": file}}],
        "contexts": [{"name": "node", "context": {"cluster": "cluster", "user": user}}],
        "current-context": "node",
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


async def approve_request(client: Client, made: dict[str, Any], say: Say) -> bool:
    """Approve a CertificateSigningRequest; False, with the command for an administrator, where that is not allowed."""
    name = made["metadata"]["name"]
    while True:
        status: dict[str, Any] = dict(made.get("status") or {})
        if any(each["type"] == "Approved" for each in status.get("conditions") or ()):
            return True
        approval = {
            "type": "Approved",
            "status": "True",
            "reason": "KajiNodeJoin",
            "message": "approved by who joined the node",
        }
        status["conditions"] = [*(status.get("conditions") or ()), approval]
        try:
            await client.update(SIGNING_REQUESTS, {**made, "status": status}, subresource="approval")
        except Forbidden:
            say("waiting", f"an administrator must type: kubectl certificate approve {name}")
            return False
        except Conflict:  # the cluster's own approver was faster, or its signer
            made = await client.get(SIGNING_REQUESTS, name)
            continue
        return True


async def _bind_rights(client: Client, home: Path, node: str, say: Say) -> None:
    """Make the bindings. Raises KajitoriError where the node has not and cannot be given what it needs."""
    async with Client(load_config(str(node_kubeconfig(home, node)))) as own:
        for grant in grants(node):
            try:
                await client.create(grant.resource, binding(grant, node))
            except AlreadyExists:
                continue
            except Forbidden as error:
                if await _may(own, grant.right):
                    continue
                hint = f"an administrator must type: {grant.command(node)}"
                if grant.needed:
                    raise KajitoriError(f"{grant.why}: {error}", hint=hint) from None
                say("rights", f"without a binding ({grant.why}): {hint}")


async def _may(own: Client, right: dict[str, str]) -> bool:
    """Whether the client's user has a right already."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = msgspec.json.decode(await own.request("POST", path, body=review))
    return bool((answer.get("status") or {}).get("allowed"))


async def _client_authority(client: Client) -> bytes:
    try:
        return await read_client_authority(client)
    except Forbidden as error:
        raise KajitoriError(
            f"who signs the certificates of the API server towards nodes cannot be read: {error}",
            hint="an administrator must bind you to the role extension-apiserver-authentication-reader "
            "of namespace kube-system",
        ) from None


async def _given_range(client: Client, home: Path, wanted: Wanted, say: Say) -> str:
    """The range that the cluster gives the Node, which is made for it. Raises UsageError where it gives none."""
    name = wanted.name
    async with Client(load_config(str(node_kubeconfig(home, name)))) as own:
        made = False
        try:
            node: dict[str, Any] = await own.get(NODES, name)
        except NotFound:
            # A node may give itself taints when it is made, and never later.
            spec = {"taints": wanted.taints} if wanted.taints else {}
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
            node = await own.create(NODES, body)
            made = True
        deadline = time.monotonic() + _RANGE_SECONDS
        while not (cidr := (node.get("spec") or {}).get("podCIDR")) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            node = await own.get(NODES, name)
    try:
        if not cidr:
            raise UsageError(
                "the cluster gives its nodes no ranges for pods",
                hint="choose one with --pod-cidr, of addresses that are this machine's own",
            )
        addresses.check_pod_range(cidr)
    except UsageError:
        if made:
            await client.delete(NODES, name)
        raise
    say("range", f"{cidr} (given by the cluster)")
    return cidr


async def _service_range(client: Client, wanted: Wanted) -> str:
    """The cluster's range of Services where it is this machine's own, else empty. Raises UsageError."""
    if wanted.service_cidr:
        try:
            ipaddress.IPv4Network(wanted.service_cidr)
        except ValueError as error:
            raise UsageError(str(error), where="--service-cidr") from None
        return wanted.service_cidr if addresses.is_local_range(wanted.service_cidr) else ""
    ranges: list[str] = []
    try:
        found = (await client.list(SERVICE_RANGES)).items
        ranges = [cidr for each in found for cidr in each["spec"].get("cidrs") or ()]
    except ApiError:
        pass
    ranges = [cidr for cidr in ranges if ":" not in cidr]
    if not ranges:
        try:
            service: dict[str, Any] = await client.get(SERVICES, "kubernetes", "default")
        except ApiError:
            return ""
        address = ipaddress.ip_address(service["spec"]["clusterIP"])
        ranges = ["127.0.0.0/8" if address.is_loopback else f"{address}/32"]
    return ranges[0] if addresses.is_local_range(ranges[0]) else ""


async def check_node_exists(home: Path, name: str) -> None:
    """Raises UsageError where somebody removed the Node of processes that run: they make it when they start only."""
    async with Client(load_config(str(node_kubeconfig(home, name)))) as own:
        try:
            await own.get(NODES, name)
        except NotFound:
            raise UsageError(
                f"the processes of node {name} run, but the cluster has no Node {name} any more: it was deleted",
                hint=f"`kaji node leave {name}` ends them; then join again",
            ) from None


async def wait_until_ready(
    home: Path, wanted: Wanted, settings: NodeSettings, alive: Callable[[], bool], seconds: float, say: Say
) -> None:
    """Until the Node is Ready and its kubelet API has a certificate, or waits for an administrator to approve one.

    alive: whether its supervisor runs. Raises KajitoriError when the time is over or the supervisor ended.
    """
    deadline = time.monotonic() + seconds
    asked: set[str] = set()
    async with (
        Client(load_config(wanted.kubeconfig, wanted.context)) as client,
        Client(load_config(str(node_kubeconfig(home, settings.name)))) as own,
    ):
        while True:
            waiting = await _approve_serving(client, own, settings, asked, say)
            served = read_certificate(serving_file(home), settings.name, settings.address) is not None
            if await _is_ready(own, settings.name) and (served or waiting):
                return
            if not alive():
                raise KajitoriError("the node's supervisor ended", hint=f"the logs are in {home / 'log'}")
            if time.monotonic() > deadline:
                raise KajitoriError(
                    f"node {settings.name} did not become Ready within {seconds:.0f} s",
                    hint=f"the logs are in {home / 'log'}",
                )
            await asyncio.sleep(_LOOK_SECONDS)


async def _approve_serving(
    client: Client, own: Client, settings: NodeSettings, asked: set[str], say: Say
) -> bool:
    """Approve what the node asks for; True where an administrator must and has not. own: the node's client."""
    waiting = False
    listed = await own.list(SIGNING_REQUESTS, field_selector=f"spec.signerName={SERVING_SIGNER}")
    for request in listed.items:
        mine = request["spec"].get("username") == USER_PREFIX + settings.name
        conditions = (request.get("status") or {}).get("conditions") or ()
        if not mine or conditions:
            continue
        if request["metadata"]["name"] in asked:
            waiting = True
        elif not await approve_request(client, request, say):
            asked.add(request["metadata"]["name"])
            waiting = True
    return waiting


async def _is_ready(client: Client, name: str) -> bool:
    try:
        return _is_true(await client.get(NODES, name), "Ready")
    except NotFound:
        return False


def _is_true(node: dict[str, Any], condition: str) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def make_home(home: Path) -> None:
    """The folders of a joined node. Raises UsageError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("run", "log", "pki", "nodes", "cache"):
            (home / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{home} cannot be made: {error.strerror}", hint="choose another folder with --home"
        ) from None
    os.chmod(home, 0o700)
