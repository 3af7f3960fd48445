"""What the runner is asked to start for a container: command, environment, mounts and the rest of its surroundings."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kajitori.api.kubernetes.core_v1 import Container
from kajitori.base.errors import KajitoriError
from kajitori.base.quantity import parse_quantity
from kajitori.engines.images import Program
from kajitori.engines.vllm import Asked
from kajitori.laptop.node.environment import (
    Pod,
    PodFacts,
    container_command,
    container_environment,
    expand,
    service_environment,
)
from kajitori.laptop.node.hosts import CLUSTER_DOMAIN
from kajitori.laptop.node.node import Node
from kajitori.laptop.node.references import Sources
from kajitori.laptop.node.runtime.mounts import Mount
from kajitori.laptop.node.volumes import Place, container_mounts
from kajitori.laptop.settings import joined_nodes_folder

GPU_RESOURCE = "nvidia.com/gpu"


class Surroundings(NamedTuple):
    """What a container's start needs of its pod. gpus: its simulated devices. hosts: the hosts file."""

    facts: PodFacts
    sources: Sources
    places: Mapping[str, Place]
    gpus: list[int]
    hosts: Path | None


class ContainerFolder(NamedTuple):
    """The files of one attempt of a container."""

    base: Path
    attempt: int

    @property
    def log(self) -> Path:
        return self.base / f"{self.attempt}.log"

    @property
    def temporary(self) -> Path:
        return self.base / str(self.attempt) / "tmp"

    @property
    def work(self) -> Path:
        return self.base / str(self.attempt) / "work"

    @property
    def termination_message(self) -> Path:
        return self.base / str(self.attempt) / "termination-message"

    def create(self) -> None:
        for folder, mode in ((self.temporary, 0o1777), (self.work, 0o755)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        self.termination_message.touch()
        self.termination_message.chmod(0o666)


def requested_gpus(container: Container) -> int:
    resources = container.resources
    if resources is None:
        return 0
    text = resources.limits.get(GPU_RESOURCE) or resources.requests.get(GPU_RESOURCE) or "0"
    return int(parse_quantity(text))


def services_environment(node: Node, pod: Pod) -> dict[str, str]:
    """Variables of the namespace's services, and always those of the API server, at its own address."""
    services = (
        node.hosts.services_of(pod.metadata.namespace) if pod.spec.enable_service_links is not False else []
    )
    host, port = _api_server(node)
    address = f"tcp://{host}:{port}"
    return service_environment(services) | {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": address,
        f"KUBERNETES_PORT_{port}_TCP": address,
        f"KUBERNETES_PORT_{port}_TCP_PROTO": "tcp",
        f"KUBERNETES_PORT_{port}_TCP_PORT": port,
        f"KUBERNETES_PORT_{port}_TCP_ADDR": host,
    }


def _api_server(node: Node) -> tuple[str, str]:
    """Host and port at which pods reach the API server: its Service where that leads somewhere, else itself."""
    cidr = node.settings.service_cidr
    # On the same machine as an embedded cluster there is no need for a way round.
    if cidr and not cidr.startswith("127."):
        for service in node.hosts.services_of("default"):
            if service.metadata.name == "kubernetes" and service.has_address and service.spec.ports:
                port = service.spec.ports[0].port
                if port >= _lowest_port():
                    return service.spec.cluster_ip, str(port)
    parts = urllib.parse.urlsplit(node.settings.server)
    return parts.hostname or "", str(parts.port or 443)


@cache
def _lowest_port() -> int:
    """That this user may bind, and the service proxy therefore serves."""
    if os.geteuid() == 0:
        return 1
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def asked_of(node: Node, container: Container, around: Surroundings) -> Asked:
    """What decides which program stands for the container's image. Raises MissingSource, VolumeError."""
    environment = process_environment(node, container, Program("", ""), around)
    return Asked(
        command=[expand(word, environment) for word in container.command],
        args=[expand(word, environment) for word in container.args],
        environment=environment,
        mounts={
            mount["target"]: mount["source"]
            for mount in container_mounts(container, around.places, environment)
        },
    )


def adopted_program(labels: Mapping[str, str]) -> Program | None:
    """What a running container was started as, by the runner's labels: what it would be now does not matter."""
    if "engine" not in labels:
        return None
    return Program(
        labels["program"], labels["engine"], simulated=bool(labels["notice"]), notice=labels["notice"]
    )


def process_environment(
    node: Node, container: Container, program: Program, around: Surroundings
) -> dict[str, str]:
    """The whole environment of a container's command. Raises MissingSource."""
    pod = around.facts.pod
    base = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "HOSTNAME": pod.hostname,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "KAJITORI_NODE_NAME": node.name,
    }
    if container.tty:
        base["TERM"] = "xterm"
    if around.gpus:
        base["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, around.gpus))
        base["KAJITORI_SIMULATED_GPU"] = node.settings.gpu
    services = services_environment(node, pod)
    given = container_environment(container, around.facts, around.sources, services)
    own_address = {"KAJITORI_POD_IP": around.facts.pod_ip}
    program_environment = {name: expand(value, own_address) for name, value in program.env.items()}
    environment = base | program_environment | given
    if program.bin_path:
        environment["PATH"] = f"{program.bin_path}:{environment['PATH']}"
    if not pod.spec.host_network:
        environment["KAJITORI_POD_IP"] = around.facts.pod_ip
        if node.native.bind_library:
            preload = [node.native.bind_library, environment.get("LD_PRELOAD", "")]
            environment["LD_PRELOAD"] = " ".join(filter(None, preload))
    return environment


def start_request(
    node: Node,
    container: Container,
    program: Program,
    around: Surroundings,
    name: str,
    files: ContainerFolder,
) -> dict[str, Any]:
    """The runner's `start` request. Raises MissingSource, VolumeError, KajitoriError."""
    environment = process_environment(node, container, program, around)
    argv = container_command(container, environment, program.entrypoint, program.command)
    if not argv:
        raise KajitoriError(
            f"no command specified: the program for {container.image} has none of its own",
            hint="set the container's command",
        )
    files.create()
    folder = container.working_dir or str(files.work)
    security = container.security_context
    return {
        "name": name,
        "labels": _labels(container, program, around, files.attempt),
        "log": str(files.log),
        "stdin": bool(container.stdin),
        "terminal": bool(container.tty),
        "command": {
            "argv": argv,
            "environment": environment,
            "folder": folder,
            "programs": program.bin_path,
        },
        "sandbox": {
            "hostname": _host_name(around.facts.pod),
            "privileged": bool(security and security.privileged),
            "init": node.native.init,
            "files": {
                "scratch": str(node.folder / "scratch"),
                "hidden": str(_hidden_folder(node)),
                "exposed": [*node.exposed_folders(program), str(files.work)],
                "temporary": str(files.temporary),
                "folders": [folder] if container.working_dir else [],
                "mounts": _mounts(container, around, environment, files),
            },
        },
    }


def _labels(container: Container, program: Program, around: Surroundings, attempt: int) -> dict[str, str]:
    """By which the runner's list of processes is read."""
    pod = around.facts.pod
    return {
        "uid": pod.metadata.uid,
        "namespace": pod.metadata.namespace,
        "pod": pod.metadata.name,
        "container": container.name,
        "attempt": str(attempt),
        "address": around.facts.pod_ip,
        "gpus": ",".join(map(str, around.gpus)),
        "program": program.name,
        "engine": program.engine,
        "notice": program.notice,
    }


def _mounts(
    container: Container, around: Surroundings, environment: dict[str, str], files: ContainerFolder
) -> list[Mount]:
    """What the pod mounts, and what every container has. Raises VolumeError."""
    mounts = container_mounts(container, around.places, environment)
    message = os.path.normpath(container.termination_message_path or "/dev/termination-log")
    own = {message: files.termination_message}
    if around.hosts is not None:
        own["/etc/hosts"] = around.hosts
    # Where the pod mounts something itself, that is what it wants.
    taken = {mount["target"] for mount in mounts}
    mounts += [
        Mount(source=str(source), target=target, read_only=False)
        for target, source in own.items()
        if target not in taken
    ]
    return mounts


def _hidden_folder(node: Node) -> Path:
    """Keys and other pods' files: the home, with those of the machine's other joined nodes where they lie together."""
    together = node.settings.joined and node.home.parent == joined_nodes_folder().absolute()
    return node.home.parent if together else node.home


def _host_name(pod: Pod) -> str:
    if pod.spec.set_hostname_as_fqdn and pod.spec.subdomain:
        full = f"{pod.hostname}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{CLUSTER_DOMAIN}"
        if len(full) <= 64:
            return full
    return pod.hostname


def limits_of(node: Node, pod: Pod) -> str:
    """What of the pod is not honoured here, in a sentence; empty if nothing is worth naming."""
    spec = pod.spec
    fields: list[str] = []
    containers = [*spec.init_containers, *spec.containers]
    user = os.getuid()
    securities = (spec.security_context, *(each.security_context for each in containers))
    if any(security and security.run_as_user not in (None, user) for security in securities):
        fields.append("securityContext.runAsUser (processes run as the user who started the cluster)")
    if any(each.security_context and each.security_context.read_only_root_filesystem for each in containers):
        fields.append("securityContext.readOnlyRootFilesystem")
    if any(each.security_context and _added(each) for each in containers):
        fields.append("securityContext.capabilities.add")
    if not spec.host_network and any(port.host_port for each in containers for port in each.ports):
        fields.append("ports.hostPort (use the pod's address)")
    if any(each.volume_devices for each in containers):
        fields.append("volumeDevices")
    for name, value in (
        ("shareProcessNamespace", spec.share_process_namespace),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
        ("dnsConfig", spec.dns_config),
        ("runtimeClassName", spec.runtime_class_name),
        ("resourceClaims", spec.resource_claims),
    ):
        if value:
            fields.append(name)
    sentences: list[str] = []
    if fields:
        sentences.append(f"not honoured on the laptop's nodes: {', '.join(dict.fromkeys(fields))}")
    if node.runner_info.pid and not node.runner_info.namespaces:
        sentences.append(
            f"{node.runner_info.message}: volumes are not at their mount paths, cluster names do not resolve"
        )
    return "; ".join(sentences)


def _added(container: Container) -> bool:
    security = container.security_context
    return bool(security and security.capabilities and security.capabilities.add)
