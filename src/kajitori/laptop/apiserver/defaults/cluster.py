"""Defaults of the remaining kinds: nodes, namespaces, secrets, volumes, roles, webhooks, devices, classes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

_RBAC_GROUP = "rbac.authorization.k8s.io"


def default_secret(obj: Object) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def default_namespace(obj: Object) -> None:
    metadata: Object = obj.setdefault("metadata", {})
    name = metadata.get("name")
    labels = metadata.get("labels") or {}
    if name and labels.get("kubernetes.io/metadata.name") != name:
        metadata["labels"] = {**labels, "kubernetes.io/metadata.name": name}
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def default_node(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    status: Object = obj.setdefault("status", {})
    if "capacity" in status and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])
    endpoint: Object = status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {})
    endpoint.setdefault("Port", 0)
    info: Object = status.setdefault("nodeInfo", {})
    for field in (
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ):
        info.setdefault(field, "")


def default_volume(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    spec.setdefault("volumeMode", "Filesystem")
    host_path = spec.get("hostPath")
    if host_path is not None:
        host_path.setdefault("type", "")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def default_claim(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def default_binding(obj: Object) -> None:
    role: Object = obj.setdefault("roleRef", {})
    if not role.get("apiGroup"):
        role["apiGroup"] = _RBAC_GROUP
    for subject in obj.get("subjects", ()):
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = _RBAC_GROUP


def default_limit_range(obj: Object) -> None:
    for item in obj.setdefault("spec", {}).get("limits", ()):
        if item.get("type") != "Container":
            continue
        default = {**item.get("max", {}), **item.get("default", {})}
        request = {**item.get("min", {}), **default, **item.get("defaultRequest", {})}
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request


def default_storage_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def default_csi_driver(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("attachRequired", True)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
    for flag in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
        spec.setdefault(flag, False)


def default_priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _default_webhook(hook: Object) -> None:
    hook.setdefault("failurePolicy", "Fail")
    hook.setdefault("matchPolicy", "Equivalent")
    hook.setdefault("namespaceSelector", {})
    hook.setdefault("objectSelector", {})
    hook.setdefault("timeoutSeconds", 10)
    for rule in hook.get("rules", ()):
        rule.setdefault("scope", "*")
    service = hook.get("clientConfig", {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def default_validating_webhooks(obj: Object) -> None:
    for hook in obj.get("webhooks", ()):
        _default_webhook(hook)


def default_mutating_webhooks(obj: Object) -> None:
    for hook in obj.get("webhooks", ()):
        _default_webhook(hook)
        hook.setdefault("reinvocationPolicy", "Never")


def _default_match(match: Object) -> None:
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for rules in (match.get("resourceRules", ()), match.get("excludeResourceRules", ())):
        for rule in rules:
            rule.setdefault("scope", "*")


def default_admission_policy(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    if "matchConstraints" in spec:
        _default_match(spec["matchConstraints"])


def default_admission_policy_binding(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    if "matchResources" in spec:
        _default_match(spec["matchResources"])


def _default_device_requests(devices: Object) -> None:
    for request in devices.get("requests", ()):
        exact = [request["exactly"]] if "exactly" in request else []
        for part in exact + request.get("firstAvailable", []):
            part.setdefault("allocationMode", "ExactCount")
            if part["allocationMode"] == "ExactCount" and not part.get("count"):
                part["count"] = 1


def default_resource_claim(obj: Object) -> None:
    _default_device_requests(obj.setdefault("spec", {}).get("devices", {}))
    obj.setdefault("status", {})


def default_resource_claim_template(obj: Object) -> None:
    template: Object = obj.setdefault("spec", {})
    _default_device_requests(template.setdefault("spec", {}).get("devices", {}))


def default_custom_resource_definition(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    names: Object = spec.setdefault("names", {})
    kind = names.get("kind", "")
    if not names.get("singular") and kind:
        names["singular"] = kind.lower()
    if not names.get("listKind") and kind:
        names["listKind"] = f"{kind}List"
    conversion: Object = spec.setdefault("conversion", {})
    conversion.setdefault("strategy", "None")
    if conversion["strategy"] == "Webhook":
        service = conversion.get("webhook", {}).get("clientConfig", {}).get("service")
        if service is not None:
            service.setdefault("port", 443)


_ADMISSION = "io.k8s.api.admissionregistration.v1."
DEFAULTERS: dict[str, Callable[[Object], None]] = {
    "io.k8s.api.core.v1.Secret": default_secret,
    "io.k8s.api.core.v1.Namespace": default_namespace,
    "io.k8s.api.core.v1.Node": default_node,
    "io.k8s.api.core.v1.PersistentVolume": default_volume,
    "io.k8s.api.core.v1.PersistentVolumeClaim": default_claim,
    "io.k8s.api.core.v1.LimitRange": default_limit_range,
    "io.k8s.api.rbac.v1.RoleBinding": default_binding,
    "io.k8s.api.rbac.v1.ClusterRoleBinding": default_binding,
    "io.k8s.api.storage.v1.StorageClass": default_storage_class,
    "io.k8s.api.storage.v1.CSIDriver": default_csi_driver,
    "io.k8s.api.scheduling.v1.PriorityClass": default_priority_class,
    _ADMISSION + "ValidatingWebhookConfiguration": default_validating_webhooks,
    _ADMISSION + "MutatingWebhookConfiguration": default_mutating_webhooks,
    _ADMISSION + "ValidatingAdmissionPolicy": default_admission_policy,
    _ADMISSION + "ValidatingAdmissionPolicyBinding": default_admission_policy_binding,
    _ADMISSION + "MutatingAdmissionPolicy": default_admission_policy,
    _ADMISSION + "MutatingAdmissionPolicyBinding": default_admission_policy_binding,
    "io.k8s.api.resource.v1.ResourceClaim": default_resource_claim,
    "io.k8s.api.resource.v1.ResourceClaimTemplate": default_resource_claim_template,
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition": (
        default_custom_resource_definition
    ),
}
