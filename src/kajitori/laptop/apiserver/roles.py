"""The roles that every cluster has: those for people (`admin`, `edit`, `view`) and those for our components.

A component's rights come from `run/component-roles.json` (user name → policy rules), assembled from what each
controller says it needs; without that file it gets the defaults below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.errors import UsageError
from kajitori.laptop.apiserver.pki import MASTERS_GROUP

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{GROUP}/v1"
AGGREGATE_TO = "rbac.authorization.k8s.io/aggregate-to-"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]

_WORKLOADS: list[tuple[str, list[str]]] = [
    ("apps", ["daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("batch", ["cronjobs", "jobs"]),
    ("autoscaling", ["horizontalpodautoscalers"]),
    ("policy", ["poddisruptionbudgets"]),
    ("networking.k8s.io", ["ingresses", "networkpolicies"]),
    ("leaderworkerset.x-k8s.io", ["leaderworkersets"]),
    ("gateway.networking.k8s.io", ["*"]),
    ("gateway.envoyproxy.io", ["*"]),
    ("aigateway.envoyproxy.io", ["*"]),
]
_SCALES: list[tuple[str, list[str]]] = [
    ("apps", ["deployments/scale", "replicasets/scale", "statefulsets/scale"]),
    ("leaderworkerset.x-k8s.io", ["leaderworkersets/scale"]),
]
_STATUS: list[tuple[str, list[str]]] = [
    ("apps", ["daemonsets/status", "deployments/status", "replicasets/status", "statefulsets/status"]),
    ("batch", ["cronjobs/status", "jobs/status"]),
    ("leaderworkerset.x-k8s.io", ["leaderworkersets/status"]),
]
_CORE = [
    "configmaps",
    "endpoints",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "serviceaccounts",
    "services",
]
_CORE_READ_ONLY = [
    "bindings",
    "events",
    "limitranges",
    "namespaces",
    "namespaces/status",
    "persistentvolumeclaims/status",
    "pods/log",
    "pods/status",
    "replicationcontrollers/status",
    "resourcequotas",
    "resourcequotas/status",
    "services/status",
]


def rule(groups: list[str], resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _view_rules() -> list[Object]:
    return [
        rule([""], [*_CORE, *_CORE_READ_ONLY], _READ),
        rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        rule(["events.k8s.io"], ["events"], _READ),
        *(rule([group], resources, _READ) for group, resources in (*_WORKLOADS, *_SCALES, *_STATUS)),
    ]


def _edit_rules() -> list[Object]:
    return [
        rule([""], ["secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], _READ),
        rule([""], ["serviceaccounts"], ["impersonate"]),
        rule([""], [*_CORE, "secrets"], _WRITE),
        rule([""], ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], ["create"]),
        rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
        rule([""], ["events"], _WRITE),
        rule(["coordination.k8s.io"], ["leases"], [*_READ, *_WRITE]),
        *(rule([group], resources, _WRITE) for group, resources in (*_WORKLOADS, *_SCALES)),
    ]


def _admin_rules() -> list[Object]:
    return [
        rule([GROUP], ["rolebindings", "roles"], [*_READ, *_WRITE]),
        rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    ]


def _cluster_role(name: str, rules: list[Object], labels: dict[str, str] | None = None) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **(labels or {})},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "rules": rules,
    }


def _aggregated(name: str) -> Object:
    role = _cluster_role(name, [])
    role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {AGGREGATE_TO + name: "true"}}]}
    return role


def _cluster_binding(name: str, role: str, subjects: list[tuple[str, str]]) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": kind, "apiGroup": GROUP, "name": name} for kind, name in subjects],
    }


_EVERY = ["*"]
_DISCOVERY_PATHS = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
]


def default_roles() -> list[Object]:
    """Cluster roles and bindings of every cluster."""
    paths = {"nonResourceURLs": _DISCOVERY_PATHS, "verbs": ["get"]}
    public = {
        "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"],
        "verbs": ["get"],
    }
    reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    own_reviews = [
        rule(["authorization.k8s.io"], reviews, ["create"]),
        rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ]
    issuer = {"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}
    everything = [rule(_EVERY, _EVERY, _EVERY), {"nonResourceURLs": _EVERY, "verbs": _EVERY}]
    return [
        _cluster_role("cluster-admin", everything),
        _cluster_role("system:discovery", [paths]),
        _cluster_role("system:public-info-viewer", [public]),
        _cluster_role("system:basic-user", own_reviews),
        _cluster_role("system:service-account-issuer-discovery", [issuer]),
        _aggregated("admin"),
        _aggregated("edit"),
        _aggregated("view"),
        _cluster_role(
            "system:aggregate-to-view",
            _view_rules(),
            {AGGREGATE_TO + "view": "true", AGGREGATE_TO + "edit": "true", AGGREGATE_TO + "admin": "true"},
        ),
        _cluster_role(
            "system:aggregate-to-edit",
            _edit_rules(),
            {AGGREGATE_TO + "edit": "true", AGGREGATE_TO + "admin": "true"},
        ),
        _cluster_role("system:aggregate-to-admin", _admin_rules(), {AGGREGATE_TO + "admin": "true"}),
        _cluster_binding("cluster-admin", "cluster-admin", [("Group", MASTERS_GROUP)]),
        _cluster_binding("system:discovery", "system:discovery", [("Group", "system:authenticated")]),
        _cluster_binding("system:basic-user", "system:basic-user", [("Group", "system:authenticated")]),
        _cluster_binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
        ),
        _cluster_binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            [("Group", "system:serviceaccounts")],
        ),
        *_node_roles(),
    ]


def _node_roles() -> list[Object]:
    """For nodes that join, and whoever bootstraps one."""
    group, requests = "certificates.k8s.io", "certificatesigningrequests"
    prefix = f"system:{group}:{requests}:"
    authentication = "extension-apiserver-authentication"
    reader = {
        "apiVersion": API_VERSION,
        "kind": "Role",
        "metadata": {
            "name": f"{authentication}-reader",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "rules": [{**rule([""], ["configmaps"], _READ), "resourceNames": [authentication]}],
    }
    return [
        _cluster_role(
            "system:node-proxier",
            [
                rule([""], ["services", "endpoints"], ["list", "watch"]),
                rule([""], ["nodes"], _READ),
                rule(["", "events.k8s.io"], ["events"], ["create", "patch", "update"]),
                rule(["discovery.k8s.io"], ["endpointslices"], ["list", "watch"]),
            ],
        ),
        _cluster_role("system:node-bootstrapper", [rule([group], [requests], ["create", *_READ])]),
        _cluster_role(prefix + "nodeclient", [rule([group], [f"{requests}/nodeclient"], ["create"])]),
        _cluster_role(prefix + "selfnodeclient", [rule([group], [f"{requests}/selfnodeclient"], ["create"])]),
        reader,
    ]


# What a component may do where nobody said it more exactly.
DEFAULT_COMPONENT_RULES: dict[str, list[Object]] = {
    "system:kajitori:controllers": [
        rule(_EVERY, _EVERY, [*_READ, *_WRITE]),
        rule([""], ["serviceaccounts/token", "pods/binding", "pods/eviction"], ["create"]),
        rule([GROUP], ["roles", "clusterroles"], ["escalate", "bind"]),
        {"nonResourceURLs": ["/kajitori/*", "/metrics"], "verbs": ["get"]},
    ],
    "system:kajitori:gateway": [
        rule(_EVERY, _EVERY, _READ),
        rule([""], ["events"], ["create", "patch", "update"]),
        rule(["events.k8s.io"], ["events"], ["create", "patch", "update"]),
        rule(["coordination.k8s.io"], ["leases"], ["create", "patch", "update"]),
        rule(
            ["gateway.networking.k8s.io"],
            ["gatewayclasses/status", "gateways/status", "httproutes/status", "grpcroutes/status"],
            ["patch", "update"],
        ),
        rule(["gateway.envoyproxy.io", "aigateway.envoyproxy.io"], ["*/status"], ["patch", "update"]),
        rule([""], ["services/status"], ["patch", "update"]),
    ],
}


def component_roles(home: Path) -> list[Object]:
    """A cluster role and its binding for each component. Raises UsageError if the file cannot be read."""
    path = home / "run" / "component-roles.json"
    rules = DEFAULT_COMPONENT_RULES
    if path.exists():
        try:
            rules = msgspec.json.decode(path.read_bytes(), type=dict[str, list[dict[str, Any]]])
        except msgspec.MsgspecError as error:
            raise UsageError(f"{path} is damaged: {error}", hint="`kaji up` writes it anew") from None
    objects: list[Object] = []
    for user, its_rules in rules.items():
        objects.append(_cluster_role(user, its_rules))
        objects.append(_cluster_binding(user, user, [("User", user)]))
    return objects
