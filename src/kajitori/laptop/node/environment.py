"""The environment and the command of a container, as Kubernetes defines them. Pure.

Precedence, later wins: the program that stands for the image, services of the namespace, `envFrom` in order, `env` in
order. `$(NAME)` in a value refers to what stands before it; in command and args to the whole environment.

Source: Kubernetes API reference, Container `env`, `envFrom`, `command`, `args`; EnvVarSource; the documentation's
"Environment variables" of services.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from kajitori.api.kubernetes.core_v1 import (
    Container,
    EnvFromSource,
    EnvVarSource,
    ObjectFieldSelector,
    PodSpec,
    PodStatus,
    ResourceFieldSelector,
)
from kajitori.base.quantity import parse_quantity
from kajitori.control.cache import Metadata
from kajitori.laptop.node.references import MissingSource, Reference, Sources


class ServicePort(msgspec.Struct, frozen=True, rename="camel"):
    port: int = 0
    name: str = ""
    protocol: str = "TCP"


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    type: str = "ClusterIP"
    ports: list[ServicePort] = []
    publish_not_ready_addresses: bool = False


class Service(msgspec.Struct, frozen=True, rename="camel"):
    """What a node reads of a Service."""

    metadata: Metadata
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)

    @property
    def has_address(self) -> bool:
        return self.spec.cluster_ip not in ("", "None")


class Pod(msgspec.Struct, frozen=True):
    """What a node reads of a pod."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def hostname(self) -> str:
        return self.spec.hostname_override or self.spec.hostname or self.metadata.name[:63].rstrip("-.")

    def __str__(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


class PodFacts(NamedTuple):
    """What fields and resources of a pod can refer to. allocatable: of the node, for limits that are not set."""

    pod: Pod
    pod_ip: str
    host_ip: str
    node_name: str
    allocatable: Mapping[str, str]


_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` where NAME is known; `$$` becomes `$`; anything else stays as it is."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


def service_environment(services: Sequence[Service]) -> dict[str, str]:
    """Variables that name the addresses of services, such as WEB_SERVICE_HOST."""
    variables: dict[str, str] = {}
    for service in services:
        if not service.has_address or not service.spec.ports:
            continue
        address = service.spec.cluster_ip
        prefix = service.metadata.name.upper().replace("-", "_")
        first = service.spec.ports[0]
        variables[f"{prefix}_SERVICE_HOST"] = address
        variables[f"{prefix}_SERVICE_PORT"] = str(first.port)
        variables[f"{prefix}_PORT"] = f"{first.protocol.lower()}://{address}:{first.port}"
        for port in service.spec.ports:
            if port.name:
                variables[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
            protocol = port.protocol.lower()
            name = f"{prefix}_PORT_{port.port}_{port.protocol.upper()}"
            variables[name] = f"{protocol}://{address}:{port.port}"
            variables[f"{name}_PROTO"] = protocol
            variables[f"{name}_PORT"] = str(port.port)
            variables[f"{name}_ADDR"] = address
    return variables


def container_environment(
    container: Container, facts: PodFacts, sources: Sources, services: Mapping[str, str]
) -> dict[str, str]:
    """What `envFrom`, `env` and services make of the environment. Raises MissingSource."""
    defined: dict[str, str] = {}
    for source in container.env_from:
        defined.update(_from_source(source, sources))
    for variable in container.env:
        if variable.value_from is not None:
            value = _from_reference(variable.value_from, container, facts, sources)
            if value is None:
                continue
        else:
            value = expand(variable.value or "", {**services, **defined})
        defined[variable.name] = value
    return {**services, **defined}


def _from_source(source: EnvFromSource, sources: Sources) -> dict[str, str]:
    if source.config_map_ref:
        reference = Reference("configmap", source.config_map_ref.name)
        optional = source.config_map_ref.optional
    elif source.secret_ref:
        reference = Reference("secret", source.secret_ref.name)
        optional = source.secret_ref.optional
    else:
        return {}
    values = sources.get(reference)
    if values is None:
        if optional:
            return {}
        raise MissingSource(f'{reference.kind} "{reference.name}" not found')
    prefix = source.prefix or ""
    return {prefix + key: _text(value) for key, value in values.items() if key and "=" not in key}


def _from_reference(
    source: EnvVarSource, container: Container, facts: PodFacts, sources: Sources
) -> str | None:
    if source.field_ref:
        return field_value(source.field_ref, facts)
    if source.resource_field_ref:
        return resource_value(source.resource_field_ref, container, facts)
    selector = source.config_map_key_ref or source.secret_key_ref
    if selector is None:
        raise MissingSource("only fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef are honoured")
    reference = Reference("configmap" if source.config_map_key_ref else "secret", selector.name)
    values = sources.get(reference)
    if values is not None and selector.key in values:
        return _text(values[selector.key])
    if selector.optional:
        return None
    if values is None:
        raise MissingSource(f'{reference.kind} "{reference.name}" not found')
    raise MissingSource(f"couldn't find key {selector.key} in {reference.kind} {reference.name}")


def _text(value: bytes) -> str:
    # Bytes that are not UTF-8 travel through, as they do in an environment.
    return value.decode("utf-8", "surrogateescape").partition("\0")[0]


_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


def field_value(selector: ObjectFieldSelector, facts: PodFacts) -> str:
    """The value of a `fieldRef`. Raises MissingSource for a path that none has."""
    path = selector.field_path
    metadata, spec = facts.pod.metadata, facts.pod.spec
    if match := _KEYED_FIELD.fullmatch(path):
        values = metadata.labels if match[1] == "labels" else metadata.annotations
        return values.get(match[2], "")
    simple: dict[str, str] = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": spec.service_account_name or "",
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path in simple:
        return simple[path]
    if path in ("metadata.labels", "metadata.annotations"):
        values = metadata.labels if path == "metadata.labels" else metadata.annotations
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(values.items()))
    raise MissingSource(f"unsupported fieldPath: {path}")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def resource_value(selector: ResourceFieldSelector, container: Container | None, facts: PodFacts) -> str:
    """The value of a `resourceFieldRef`, rounded up to whole divisors."""
    if selector.container_name:
        every = [*facts.pod.spec.init_containers, *facts.pod.spec.containers]
        container = next((each for each in every if each.name == selector.container_name), None)
    if container is None:
        raise MissingSource(f"container {selector.container_name or ''} not found")
    kind, _, name = selector.resource.partition(".")
    resources = container.resources
    limits, requests = (resources.limits, resources.requests) if resources else ({}, {})
    chosen = limits if kind == "limits" else {**limits, **requests}
    text = chosen.get(name)
    if text is None:
        text = facts.allocatable.get(name, "0") if kind == "limits" else "0"
    divisor = parse_quantity(selector.divisor or "1") or parse_quantity("1")
    return str(math.ceil(parse_quantity(text) / divisor))


def container_command(
    container: Container, environment: Mapping[str, str], entrypoint: Sequence[str], command: Sequence[str]
) -> list[str]:
    """The argv: the container's `command` replaces the image's entrypoint and command, `args` only the latter."""
    given = [expand(part, environment) for part in container.command]
    arguments = [expand(part, environment) for part in container.args]
    if given:
        return [*given, *arguments]
    return [*entrypoint, *(arguments or command)]
