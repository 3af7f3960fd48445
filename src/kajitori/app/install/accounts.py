"""Accounts of an installation's components, and their rights: those that their rooms list, no more. Pure."""

from __future__ import annotations

from typing import Any

from kajitori.app.install.naming import GATEWAY, metadata
from kajitori.app.install.templating import Each, If, Item, Namespace, Value
from kajitori.app.standby import status_name
from kajitori.gateway import rbac as gateway_rbac


def account(
    name: str, component: str, rules: list[Any], own: list[dict[str, Any]], annotations: str = ""
) -> list[dict[str, Any]]:
    """A service account, its rights everywhere, and those in the namespace of the installation.

    annotations: path of the value that has the account's.
    """
    more: dict[str, Any] = {"annotations": If(annotations, Value(annotations))} if annotations else {}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, component, **more)},
        _role("ClusterRole", name, component, rules),
        _binding("ClusterRoleBinding", name, component),
        _role("Role", name, component, own),
        _binding("RoleBinding", name, component),
    ]


def _role(kind: str, name: str, component: str, rules: list[Any]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(name, component, namespaced=kind == "Role"),
        "rules": rules,
    }


def _binding(kind: str, name: str, component: str, role: str = "", role_kind: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(name, component, namespaced=kind == "RoleBinding"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role_kind or kind.removesuffix("Binding"),
            "name": role or name,
        },
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": f"kajitori-{component}",
                "namespace": Namespace(),
            }
        ],
    }


def lease_rules(name: str) -> list[dict[str, Any]]:
    """For the Lease of this name."""
    group = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    return [{**group, "verbs": ["create"]}, {**group, "resourceNames": [name], "verbs": ["get", "update"]}]


def status_rule(component: str) -> dict[str, Any]:
    """For what `status_map` makes."""
    return {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [status_name(component)],
        "verbs": ["patch"],
    }


def status_map(component: str) -> dict[str, Any]:
    """Where the leader of a component says how it stands beside other controllers."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            **metadata(status_name(component), component),
            "annotations": {"kajitori.dev/written-by": f"the leader of kajitori-{component}"},
        },
    }


def secret_rights() -> list[Any]:
    """Everywhere, or by a Role in each namespace that was named."""
    name = f"{GATEWAY}-secrets"
    everywhere = [
        _role("ClusterRole", name, "gateway", gateway_rbac.SECRET_RULES),
        _binding("ClusterRoleBinding", name, "gateway"),
    ]
    here: list[Any] = [
        {**_role("Role", name, "gateway", gateway_rbac.SECRET_RULES)},
        _binding("RoleBinding", name, "gateway"),
    ]
    for document in here:
        document["metadata"] = {**document["metadata"], "namespace": Item()}
    return [
        *(If("gateway.secretNamespaces", document, negated=True) for document in everywhere),
        *(Each("gateway.secretNamespaces", document) for document in here),
    ]
