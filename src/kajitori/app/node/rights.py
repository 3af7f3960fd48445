"""What a joined node may do beyond the Node authorizer's rules, as bindings that its joiner makes. Pure.

`system:node-proxier`, to follow EndpointSlices for names and Services; the self-renewal of its client certificate;
and reading who signs the certificates of the kubelet API's clients. Each is a role that every cluster has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kajitori.api.resource import Resource
from kajitori.laptop.node.certificates import AUTHENTICATION, USER_PREFIX

_GROUP = "rbac.authorization.k8s.io"
CLUSTER_ROLE_BINDINGS = Resource(_GROUP, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
ROLE_BINDINGS = Resource(_GROUP, "v1", "rolebindings", "RoleBinding")
NODE_LABEL = "kajitori.dev/joined-node"


class Grant(NamedTuple):
    """One binding. namespace: empty for a ClusterRoleBinding. needed: pods cannot run without it.

    right: one that the role gives, as access reviews ask for it: who has it needs no binding.
    """

    name: str
    role_kind: str
    role: str
    namespace: str
    why: str
    needed: bool
    right: dict[str, str]

    @property
    def resource(self) -> Resource:
        return ROLE_BINDINGS if self.namespace else CLUSTER_ROLE_BINDINGS

    def command(self, node: str) -> str:
        """What an administrator types to make it."""
        kind = "rolebinding" if self.namespace else "clusterrolebinding"
        where = f"-n {self.namespace} " if self.namespace else ""
        role = f"--{'clusterrole' if self.role_kind == 'ClusterRole' else 'role'}={self.role}"
        return f"kubectl create {kind} {where}{self.name} {role} --user={USER_PREFIX}{node}"


def grants(node: str) -> list[Grant]:
    """All that a node needs."""
    renewal = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
    reader = f"{AUTHENTICATION}-reader"
    return [
        Grant(
            f"kajitori:node-proxier:{node}",
            "ClusterRole",
            "system:node-proxier",
            "",
            "names and Services follow EndpointSlices",
            True,
            {"verb": "list", "group": "discovery.k8s.io", "resource": "endpointslices"},
        ),
        Grant(
            f"kajitori:node-renewal:{node}",
            "ClusterRole",
            renewal,
            "",
            "it renews its client certificate itself",
            False,
            {
                "verb": "create",
                "group": "certificates.k8s.io",
                "resource": "certificatesigningrequests",
                "subresource": "selfnodeclient",
            },
        ),
        Grant(
            f"kajitori:node-authentication:{node}",
            "Role",
            reader,
            "kube-system",
            "it follows who signs the certificates of the kubelet API's clients",
            False,
            {"verb": "get", "resource": "configmaps", "namespace": "kube-system", "name": AUTHENTICATION},
        ),
    ]


def binding(grant: Grant, node: str) -> dict[str, Any]:
    """The object of a grant."""
    metadata: dict[str, Any] = {"name": grant.name, "labels": {NODE_LABEL: node}}
    if grant.namespace:
        metadata["namespace"] = grant.namespace
    return {
        "apiVersion": grant.resource.api_version,
        "kind": grant.resource.kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": _GROUP, "kind": grant.role_kind, "name": grant.role},
        "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": USER_PREFIX + node}],
    }
