"""What is allowed and probably not meant: told in warnings, never refused."""

from __future__ import annotations

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
    steps = _POD_SPECS.get(definition)
    if steps is None:
        return []
    spec: Any = obj
    for step in steps:
        spec = spec.get(step) or {}
    return _hidden_variables(spec, ".".join(steps))


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
