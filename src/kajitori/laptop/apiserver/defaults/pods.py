"""Defaults of pods, their containers, probes and volumes; pod templates of all workloads use them too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

DEFAULT_MODE = 0o644


def default_probe(probe: Object) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    _default_handler(probe)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _default_handler(handler: Object) -> None:
    http = handler.get("httpGet")
    if http is not None:
        if not http.get("path"):
            http["path"] = "/"
        if not http.get("scheme"):
            http["scheme"] = "HTTP"


def image_pull_policy(image: str) -> str:
    """Always for a tag `latest` or none, unless a digest pins the image."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def default_container(container: Object) -> None:
    container.setdefault("resources", {})
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = image_pull_policy(container.get("image", ""))
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    for port in container.get("ports", ()):
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in container.get("env", ()):
        _default_variable(variable)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            default_probe(container[name])
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict):
            _default_handler(handler)


def _default_variable(variable: Object) -> None:
    source = variable.get("valueFrom")
    if source is None:
        return
    reference = source.get("fieldRef")
    if reference is not None and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"
    resource = source.get("resourceFieldRef")
    if resource is not None:
        resource.setdefault("divisor", "0")


def _default_requests(resources: Object) -> None:
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.get("requests") or {}
    missing = {name: amount for name, amount in limits.items() if name not in requests}
    if missing:
        resources["requests"] = {**requests, **missing}


def _default_items(source: Object) -> None:
    """Files of a downwardAPI source."""
    for item in source.get("items", ()):
        reference = item.get("fieldRef")
        if reference is not None and not reference.get("apiVersion"):
            reference["apiVersion"] = "v1"
        resource = item.get("resourceFieldRef")
        if resource is not None:
            resource.setdefault("divisor", "0")


def _default_projected(source: Object) -> None:
    source.setdefault("defaultMode", DEFAULT_MODE)
    for part in source.get("sources", ()):
        if "downwardAPI" in part:
            _default_items(part["downwardAPI"])
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def _default_downward(source: Object) -> None:
    source.setdefault("defaultMode", DEFAULT_MODE)
    _default_items(source)


def _default_mode(source: Object) -> None:
    source.setdefault("defaultMode", DEFAULT_MODE)


def _default_host_path(source: Object) -> None:
    source.setdefault("type", "")


def _default_ephemeral(source: Object) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _default_iscsi(source: Object) -> None:
    source.setdefault("iscsiInterface", "default")


def _default_rbd(source: Object) -> None:
    source.setdefault("pool", "rbd")
    source.setdefault("user", "admin")
    source.setdefault("keyring", "/etc/ceph/keyring")


def _default_image(source: Object) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = image_pull_policy(source.get("reference", ""))


_VOLUMES: dict[str, Callable[[Object], None]] = {
    "configMap": _default_mode,
    "secret": _default_mode,
    "downwardAPI": _default_downward,
    "projected": _default_projected,
    "hostPath": _default_host_path,
    "ephemeral": _default_ephemeral,
    "image": _default_image,
    "iscsi": _default_iscsi,
    "rbd": _default_rbd,
}


def default_volume(volume: Object) -> None:
    if not volume.keys() - {"name"}:  # nothing but a name, if that: an empty directory
        volume["emptyDir"] = {}
        return
    for source, value in volume.items():
        default = _VOLUMES.get(source)
        if default is not None:
            default(value)


def default_pod_spec(spec: Object) -> None:
    """Defaults of a pod's or a template's spec."""
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    if spec.setdefault("terminationGracePeriodSeconds", 30) < 0:
        spec["terminationGracePeriodSeconds"] = 1  # as soon as its node can
    spec.setdefault("securityContext", {})
    for name in ("containers", "initContainers"):
        for container in spec.get(name, ()):
            default_container(container)
    for container in spec.get("ephemeralContainers", ()):
        default_container(container)
    for volume in spec.get("volumes", ()):
        default_volume(volume)
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]


def default_template(template: Object) -> None:
    """A workload's pod template: metadata and spec are there in any case."""
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def default_pod(pod: Object) -> None:
    spec: Object = pod.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    host_network = spec.get("hostNetwork")
    # Only a pod's requests follow its limits and only its host ports follow its ports: a template keeps what
    # its author wrote.
    for name in ("containers", "initContainers"):
        for container in spec.get(name, ()):
            _default_requests(container["resources"])
            if host_network:
                for port in container.get("ports", ()):
                    port.setdefault("hostPort", port.get("containerPort"))


def default_pod_template(obj: Object) -> None:
    default_template(obj.setdefault("template", {}))


DEFAULTERS: dict[str, Callable[[Object], None]] = {
    "io.k8s.api.core.v1.Pod": default_pod,
    "io.k8s.api.core.v1.PodTemplate": default_pod_template,
}
