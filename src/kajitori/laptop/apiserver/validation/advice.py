"""What is allowed and probably not meant: told in warnings, never refused."""

from __future__ import annotations

import base64
import re
from typing import Any

Object = dict[str, Any]

_TEMPLATE = ("spec", "template", "spec")
_POD_SPECS: dict[str, tuple[str, ...]] = {
    "io.k8s.api.core.v1.Pod": ("spec",),
    "io.k8s.api.core.v1.PodTemplate": ("template", "spec"),
    "io.k8s.api.core.v1.ReplicationController": _TEMPLATE,
    "io.k8s.api.apps.v1.Deployment": _TEMPLATE,
    "io.k8s.api.apps.v1.ReplicaSet": _TEMPLATE,
    "io.k8s.api.apps.v1.StatefulSet": _TEMPLATE,
    "io.k8s.api.apps.v1.DaemonSet": _TEMPLATE,
    "io.k8s.api.batch.v1.Job": _TEMPLATE,
    "io.k8s.api.batch.v1.CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
_DEFINITION = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"


def warnings_about(definition: str, obj: Object) -> list[str]:
    """Warnings about a prepared object of this definition."""
    if definition == _DEFINITION:
        # The CEL library comes with it, which most servers never need.
        from kajitori.laptop.apiserver.crd.definition import definition_warnings

        return definition_warnings(obj)
    if definition == "io.k8s.api.core.v1.Service":
        external = obj.get("spec", {}).get("externalIPs")
        text = "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        return [text] if external else []
    if definition == "io.k8s.api.core.v1.Secret":
        return _unfit_certificates(obj) if obj.get("type") == "kubernetes.io/tls" else []
    steps = _POD_SPECS.get(definition)
    if steps is None:
        return []
    spec: Any = obj
    for step in steps:
        spec = spec.get(step) or {}
    return _hidden_variables(spec, ".".join(steps))


_PEM_KIND = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


def _pem_kinds(secret: Object, key: str) -> list[str]:
    text = base64.b64decode((secret.get("data") or {}).get(key, ""))
    return [kind.decode() for kind in _PEM_KIND.findall(text)]


def _unfit_certificates(secret: Object) -> list[str]:
    """Why a certificate and its key do not serve together, as TLS libraries say it."""
    certificates, keys = _pem_kinds(secret, "tls.crt"), _pem_kinds(secret, "tls.key")
    if not certificates:
        return ["tls: failed to find any PEM data in certificate input"]
    if "CERTIFICATE" not in certificates:
        if certificates[0].endswith("PRIVATE KEY") and "CERTIFICATE" in keys:
            return [
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM"
                " inputs may have been switched"
            ]
        found = " ".join(certificates)
        return [
            'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the'
            f" following types: [{found}]"
        ]
    if not keys:
        return ["tls: failed to find any PEM data in key input"]
    return []


def _hidden_variables(spec: Object, path: str) -> list[str]:
    """Environment variables that a container has twice: the later one wins, and apply merges by name."""
    warnings: list[str] = []
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            seen: set[str] = set()
            for place, variable in enumerate(container.get("env") or ()):
                name = variable.get("name", "")
                if name in seen:
                    warnings.append(
                        f'{path}.{field}[{index}].env[{place}]: hides previous definition of "{name}",'
                        " which may be dropped when using apply"
                    )
                seen.add(name)
    return warnings
