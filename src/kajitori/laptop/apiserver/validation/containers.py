"""Rules of containers: names, ports, environment, mounts, probes, handlers and resources."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kajitori.base.quantity import parse_quantity
from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.metadata import non_negative
from kajitori.laptop.apiserver.validation.names import (
    config_key,
    dns_label,
    dns_subdomain,
    environment_name,
    header_name,
    label_key,
    port_name,
    port_number,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

Object = dict[str, Any]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_ENVIRONMENT_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_SIDECAR_ONLY = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def not_found(field: str, value: str) -> FieldError:
    return FieldError("FieldValueNotFound", field, f'Not found: "{value}"')


def port_or_name_errors(port: Any, field: str) -> list[FieldError]:
    """A port number, or the name of a port."""
    messages = port_number(port) if isinstance(port, int) else port_name(str(port or ""))
    return [invalid_value(field, port, message) for message in messages]


@lru_cache(maxsize=4096)
def amount(text: str) -> Fraction:
    """Value of a quantity that has been made canonical."""
    return parse_quantity(text)


def is_overcommit_allowed(name: str) -> bool:
    """Requests may stay below limits for the resources of Kubernetes itself, save huge pages."""
    return ("/" not in name or name.partition("/")[0].endswith("kubernetes.io")) and not name.startswith(
        "hugepages-"
    )


def _resource_name_errors(name: str, field: str) -> list[FieldError]:
    errors = [invalid_value(field, name, message) for message in label_key(name)]
    known = "/" in name or name in _CONTAINER_RESOURCES or name.startswith("hugepages-")
    if not errors and not known:
        errors.append(invalid_value(field, name, "must be a standard resource for containers"))
    return errors


def _quantity_errors(name: str, quantity: str, field: str) -> list[FieldError]:
    value = amount(quantity)
    if value < 0:
        return [invalid_value(field, quantity, "must be greater than or equal to 0")]
    if not is_overcommit_allowed(name) and not name.startswith("hugepages-") and value.denominator != 1:
        return [invalid_value(field, quantity, "must be an integer")]
    return []


def resource_errors(resources: Object, path: str) -> list[FieldError]:
    """Requests and limits: known names, not negative, requests within limits."""
    errors: list[FieldError] = []
    limits: Object = resources.get("limits") or {}
    for name, quantity in limits.items():
        errors += _resource_name_errors(name, f"{path}.limits[{name}]")
        errors += _quantity_errors(name, quantity, f"{path}.limits[{name}]")
    for name, quantity in (resources.get("requests") or {}).items():
        errors += _resource_name_errors(name, f"{path}.requests[{name}]")
        errors += _quantity_errors(name, quantity, f"{path}.requests[{name}]")
        limit = limits.get(name)
        if limit is None:
            if not is_overcommit_allowed(name):
                text = "Limit must be set for non overcommitable resources"
                errors.append(required(f"{path}.limits", text))
        elif quantity != limit:
            if not is_overcommit_allowed(name) and amount(quantity) != amount(limit):
                text = f"must be equal to {name} limit of {limit}"
                errors.append(invalid_value(f"{path}.requests", quantity, text))
            elif amount(quantity) > amount(limit):
                text = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid_value(f"{path}.requests", quantity, text))
    return errors


def _port_errors(ports: list[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        name = port.get("name")
        if name:
            messages = port_name(name)
            errors += [invalid_value(f"{here}.name", name, message) for message in messages]
            if not messages and name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            errors.append(required(f"{here}.containerPort"))
        else:
            errors += [invalid_value(f"{here}.containerPort", number, text) for text in port_number(number)]
        if port.get("hostPort"):
            errors += [
                invalid_value(f"{here}.hostPort", port["hostPort"], text)
                for text in port_number(port["hostPort"])
            ]
        protocol = port.get("protocol", "TCP")
        if protocol not in _PROTOCOLS:
            errors.append(unsupported_value(f"{here}.protocol", protocol, _PROTOCOLS))
    return errors


def _key_reference_errors(reference: Object, path: str) -> list[FieldError]:
    key = reference.get("key")
    errors: list[FieldError] = []
    name = reference.get("name", "")
    errors += [invalid_value(f"{path}.name", name, message) for message in dns_subdomain(name)]
    if not key:
        errors.append(required(f"{path}.key"))
        return errors
    return errors + [invalid_value(f"{path}.key", key, message) for message in config_key(key)]


def field_reference_errors(reference: Object, path: str, allowed: Collection[str]) -> list[FieldError]:
    """A downward API reference; labels and annotations are allowed by key."""
    field = reference.get("fieldPath", "")
    if not reference.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    if not field:
        return [required(f"{path}.fieldPath")]
    if field in allowed:
        return []
    for prefix in ("metadata.labels['", "metadata.annotations['"):
        if field.startswith(prefix) and field.endswith("']"):
            key = field[len(prefix) : -2]
            return [invalid_value(path, key, message) for message in label_key(key)]
    if reference["apiVersion"] == "v1" and field.split(".")[0] in ("metadata", "spec", "status"):
        return [unsupported_value(f"{path}.fieldPath", field, sorted(allowed))]
    return [
        invalid_value(
            f"{path}.fieldPath", field, f"error converting fieldPath: field label not supported: {field}"
        )
    ]


_ENVIRONMENT_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def _environment_source_errors(variable: Object, path: str) -> list[FieldError]:
    source: Object = variable["valueFrom"]
    given = [name for name in _ENVIRONMENT_SOURCES if name in source]
    errors: list[FieldError] = []
    if "fieldRef" in source:
        errors += field_reference_errors(source["fieldRef"], f"{path}.fieldRef", _ENVIRONMENT_FIELDS)
    if "resourceFieldRef" in source and not source["resourceFieldRef"].get("resource"):
        errors.append(required(f"{path}.resourceFieldRef.resource"))
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            errors += _key_reference_errors(source[name], f"{path}.{name}")
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid_value(path, "", text))
    elif variable.get("value"):
        errors.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


def _environment_errors(container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, variable in enumerate(container.get("env", ())):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}.env[{index}].name"))
        else:
            messages = environment_name(name)
            errors += [invalid_value(f"{path}.env[{index}].name", name, message) for message in messages]
        if "valueFrom" in variable:
            errors += _environment_source_errors(variable, f"{path}.env[{index}].valueFrom")
    for index, source in enumerate(container.get("envFrom", ())):
        here = f"{path}.envFrom[{index}]"
        whole = f"{path}.envFrom"
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        if not given:
            errors.append(invalid_value(whole, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            errors.append(invalid_value(whole, "", "may not have more than one field specified at a time"))
        for name in given:
            reference = source[name].get("name")
            if not reference:
                errors.append(required(f"{here}.{name}.name"))
            else:
                errors += [
                    invalid_value(f"{here}.{name}.name", reference, text) for text in dns_subdomain(reference)
                ]
    return errors


def local_path_errors(path_text: str, field: str) -> list[FieldError]:
    """A path below a folder: relative, without `..`."""
    errors: list[FieldError] = []
    if path_text.startswith("/"):
        errors.append(invalid_value(field, path_text, "must be a relative path"))
    if ".." in path_text.split("/"):
        errors.append(invalid_value(field, path_text, "must not contain '..'"))
    return errors


def _mount_errors(mounts: list[Object], volumes: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    places: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        name, place = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{here}.name"))
        if name not in volumes:
            errors.append(not_found(f"{here}.name", name))
        if not place:
            errors.append(required(f"{here}.mountPath"))
        if place in places:
            errors.append(invalid_value(f"{here}.mountPath", place, "must be unique"))
        places.add(place)
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                errors += local_path_errors(mount[field], f"{here}.{field}")
        if mount.get("subPath") and mount.get("subPathExpr"):
            text = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid_value(f"{here}.subPathExpr", mount["subPathExpr"], text))
    return errors


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def handler_errors(handler: Object, path: str) -> list[FieldError]:
    """A probe or a lifecycle hook has exactly one way to act."""
    errors: list[FieldError] = []
    given = [name for name in _HANDLERS if name in handler]
    if not given:
        return [required(path, "must specify a handler type")]
    errors += [
        forbidden_field(f"{path}.{name}", "may not specify more than 1 handler type") for name in given[1:]
    ]
    first = given[0]
    action: Object = handler[first]
    here = f"{path}.{first}"
    if first == "exec" and not action.get("command"):
        errors.append(required(f"{here}.command"))
    elif first in ("httpGet", "tcpSocket") or first == "grpc":
        errors += port_or_name_errors(action.get("port", 0), f"{here}.port")
    if first == "httpGet":
        if action.get("scheme", "HTTP") not in ("HTTP", "HTTPS"):
            errors.append(unsupported_value(f"{here}.scheme", action["scheme"], ("HTTP", "HTTPS")))
        for header in action.get("httpHeaders", ()):
            name = header.get("name", "")
            errors += [invalid_value(f"{here}.httpHeaders", name, text) for text in header_name(name)]
    return errors


def _probe_errors(probe: Object, path: str, *, once: bool) -> list[FieldError]:
    errors = handler_errors(probe, path)
    errors += non_negative(probe, path, *_PROBE_NUMBERS)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        text = "must be greater than 0"
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", grace, text))
    if once and probe.get("successThreshold", 1) != 1:
        errors.append(invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _lifetime_errors(container: Object, path: str) -> list[FieldError]:
    """Hooks and probes."""
    errors: list[FieldError] = []
    lifecycle: Object = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            errors += handler_errors(lifecycle[hook], f"{path}.lifecycle.{hook}")
    for name, once in (("livenessProbe", True), ("readinessProbe", False), ("startupProbe", True)):
        if name in container:
            errors += _probe_errors(container[name], f"{path}.{name}", once=once)
    return errors


def container_errors(container: Object, path: str, volumes: Collection[str]) -> list[FieldError]:
    """What holds for containers of every sort."""
    errors: list[FieldError] = []
    name = container.get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid_value(f"{path}.name", name, message) for message in dns_label(name)]
    image = container.get("image", "")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        text = "must not have leading or trailing whitespace"
        errors.append(invalid_value(f"{path}.image", image, text))
    for field, supported in (
        ("terminationMessagePolicy", _MESSAGE_POLICIES),
        ("imagePullPolicy", _PULL_POLICIES),
    ):
        value = container.get(field)
        if value and value not in supported:
            errors.append(unsupported_value(f"{path}.{field}", value, supported))
    if "ports" in container:
        errors += _port_errors(container["ports"], f"{path}.ports")
    if "env" in container or "envFrom" in container:
        errors += _environment_errors(container, path)
    if "volumeMounts" in container:
        errors += _mount_errors(container["volumeMounts"], volumes, f"{path}.volumeMounts")
    for index, device in enumerate(container.get("volumeDevices") or ()):
        if device.get("name", "") not in volumes:
            errors.append(not_found(f"{path}.volumeDevices[{index}].name", device.get("name", "")))
    resources = container.get("resources")
    if resources:
        errors += resource_errors(resources, f"{path}.resources")
    return errors


def containers_errors(spec: Object, path: str, volumes: Collection[str]) -> list[FieldError]:
    """All containers of a pod spec; names are unique among them."""
    errors: list[FieldError] = []
    names: set[str] = set()
    containers: list[Object] = spec.get("containers") or []
    if not containers:
        errors.append(required(f"{path}.containers"))
    for index, container in enumerate(containers):
        here = f"{path}.containers[{index}]"
        errors += container_errors(container, here, volumes)
        errors += _lifetime_errors(container, here)
        errors += _unique_name_errors(container, here, names)
        policy = container.get("restartPolicy")
        if policy and policy not in ("Always", "OnFailure", "Never"):
            supported = ("Always", "OnFailure", "Never")
            errors.append(unsupported_value(f"{here}.restartPolicy", policy, supported))
    for index, container in enumerate(spec.get("initContainers") or ()):
        here = f"{path}.initContainers[{index}]"
        errors += container_errors(container, here, volumes)
        errors += _unique_name_errors(container, here, names)
        policy = container.get("restartPolicy")
        if policy is not None and policy not in ("Always", "Never", "OnFailure"):
            supported = ("Always", "Never", "OnFailure")
            errors.append(unsupported_value(f"{here}.restartPolicy", policy, supported))
        if policy == "Always":
            errors += _lifetime_errors(container, here)
        else:
            text = "may not be set for init containers without restartPolicy=Always"
            errors += [forbidden_field(f"{here}.{name}", text) for name in _SIDECAR_ONLY if name in container]
    return errors


def _unique_name_errors(container: Object, path: str, names: set[str]) -> list[FieldError]:
    name = container.get("name", "")
    if name in names:
        return [duplicate(f"{path}.name", name)]
    if name:
        names.add(name)
    return []
