"""The roles that every cluster has: those for people (`admin`, `edit`, `view`) and those for our components.

A component's rights come from `run/component-roles.json` (user name → policy rules), assembled from what each
controller says it needs; without that file it gets the defaults below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.errors import UsageError
from kajitori.laptop.apiserver.pki import MASTERS_GROUP
from kajitori.laptop.apiserver.standard_roles import BINDINGS, standard_roles

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{GROUP}/v1"
AGGREGATE_TO = "rbac.authorization.k8s.io/aggregate-to-"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]

# What this cluster serves besides the kinds of Kubernetes is for viewers and editors as those are.
_OURS: list[tuple[str, list[str]]] = [
    ("leaderworkerset.x-k8s.io", ["leaderworkersets", "leaderworkersets/scale"]),
    ("jobset.x-k8s.io", ["jobsets"]),
    ("gateway.networking.k8s.io", ["*"]),
    ("gateway.envoyproxy.io", ["*"]),
    ("aigateway.envoyproxy.io", ["*"]),
]


def rule(groups: list[str], resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


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


def _aggregated(name: str, into: str = "") -> Object:
    """A role that collects others by their label. into: the wider role that collects this one."""
    role = _cluster_role(name, [], {AGGREGATE_TO + into: "true"} if into else None)
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
        "subjects": [_subject(kind, name) for kind, name in subjects],
    }


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        namespace, _, account = name.partition("/")
        return {"kind": kind, "namespace": namespace, "name": account}
    return {"kind": kind, "apiGroup": GROUP, "name": name}


_EVERY = ["*"]


def default_roles() -> list[Object]:
    """Cluster roles and bindings of every cluster."""
    everything = [rule(_EVERY, _EVERY, _EVERY), {"nonResourceURLs": _EVERY, "verbs": _EVERY}]
    view = [rule([group], resources, _READ) for group, resources in _OURS]
    view.append(rule(["leaderworkerset.x-k8s.io"], ["leaderworkersets/status"], _READ))
    view.append(rule(["jobset.x-k8s.io"], ["jobsets/status"], _READ))
    edit = [rule([group], resources, _WRITE) for group, resources in _OURS]
    return [
        _cluster_role("cluster-admin", everything),
        _aggregated("admin"),
        _aggregated("edit", "admin"),
        _aggregated("view", "edit"),
        *(_cluster_role(name, rules, _labels_of(name)) for name, rules in standard_roles().items()),
        _cluster_role("kajitori:aggregate-to-edit", edit, {f"{AGGREGATE_TO}edit": "true"}),
        _cluster_role("kajitori:aggregate-to-view", view, {f"{AGGREGATE_TO}view": "true"}),
        _cluster_binding("cluster-admin", "cluster-admin", [("Group", MASTERS_GROUP)]),
        *(_cluster_binding(name, role, subjects) for name, (role, subjects) in BINDINGS.items()),
    ]


def _labels_of(name: str) -> dict[str, str]:
    prefix = "system:aggregate-to-"
    return {AGGREGATE_TO + name.removeprefix(prefix): "true"} if name.startswith(prefix) else {}


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
