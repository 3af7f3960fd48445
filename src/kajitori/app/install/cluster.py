"""What the installer asks of a cluster, in short synchronous requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from kajitori.api.resource import Resource
from kajitori.base.errors import NotFound, UsageError
from kajitori.kube.direct import DirectClient

FIELD_MANAGER = "kaji-install"
# Kinds that we make, in the order in which they are applied; they are taken away the other way round.
KINDS: tuple[Resource, ...] = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False),
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource(
        "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
    ),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        namespaced=False,
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        namespaced=False,
    ),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("", "v1", "services", "Service"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", namespaced=False),
)
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
# What the processes themselves make in the namespace of the installation.
MADE_BY_PROCESSES: tuple[Resource, ...] = (
    Resource("", "v1", "secrets", "Secret"),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_PAGE = "500"


def resource_of(obj: dict[str, Any]) -> Resource:
    """The resource of an object of ours."""
    return next(
        resource
        for resource in (*KINDS, *MADE_BY_PROCESSES, DEFINITIONS)
        if (resource.api_version, resource.kind) == (obj["apiVersion"], obj["kind"])
    )


def title(obj: dict[str, Any]) -> str:
    """As people name it: `Deployment kajitori-system/kajitori-gateway`."""
    namespace = obj["metadata"].get("namespace")
    return f"{obj['kind']} {namespace + '/' if namespace else ''}{obj['metadata']['name']}"


def path_of(obj: dict[str, Any]) -> str:
    return resource_of(obj).path(obj["metadata"].get("namespace"), obj["metadata"]["name"])


def get(client: DirectClient, path: str) -> dict[str, Any] | None:
    """The object, or None if it is not there."""
    try:
        return client.get(path)
    except NotFound:
        return None


def list_all(
    client: DirectClient, resource: Resource, namespace: str | None = None, **query: str
) -> Iterator[dict[str, Any]]:
    """Every object of a collection, page by page; none where the resource is not served."""
    following = ""
    while True:
        asked = {**query, "limit": _PAGE, **({"continue": following} if following else {})}
        try:
            page = client.get(resource.path(namespace), query=asked)
        except NotFound:
            return
        for item in page["items"]:
            yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}
        following = page["metadata"].get("continue") or ""
        if not following:
            return


def missing_rights(client: DirectClient, wanted: Iterable[tuple[str, Resource, str | None]]) -> list[str]:
    """Those of the rights (verb, resource, namespace) that this user lacks, in words: all verbs of a resource together."""
    missing: dict[str, list[str]] = {}
    for verb, resource, namespace in dict.fromkeys(wanted):
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            **({"namespace": namespace} if namespace else {}),
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        body, _ = client.request("POST", _REVIEWS, body=json.dumps(review).encode())
        if not json.loads(body)["status"].get("allowed"):
            where = f" in namespace {namespace}" if namespace else ""
            missing.setdefault(f"{resource.qualified_name}{where}", []).append(verb)
    return [f"{', '.join(verbs)} {what}" for what, verbs in missing.items()]


def refuse_missing(client: DirectClient, wanted: Iterable[tuple[str, Resource, str | None]]) -> None:
    """Raise UsageError that names all rights that this user lacks."""
    missing = missing_rights(client, wanted)
    if missing:
        raise UsageError(
            "\n  ".join(["this user may not:", *missing, "nothing was changed"]),
            hint="use a kubeconfig of a cluster administrator",
        )
