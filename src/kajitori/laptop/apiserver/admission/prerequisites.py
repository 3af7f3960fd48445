"""What the server asks of a new or changed object beyond its kind's own rules: other objects that must exist.

Namespaces must exist and not be ending; a pod's service account and priority class must exist; Services get
addresses; who writes roles and bindings must hold what they grant.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from kajitori.api.resource import NAMESPACES, Resource
from kajitori.laptop.apiserver import rbac, status
from kajitori.laptop.apiserver.definitions import RESOURCE as DEFINITIONS
from kajitori.laptop.apiserver.definitions import judge
from kajitori.laptop.apiserver.node_rights import node_of
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.signing_requests import SIGNING_REQUESTS, admit_request, check_signer
from kajitori.laptop.apiserver.status import FieldError

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
Object = dict[str, Any]


def check_namespace(state: ServerState, kind: Kind, namespace: str, name: str) -> None:
    """A new object needs a namespace that exists and is not ending. Raises StatusError 404 or 403."""
    if not kind.namespaced:
        return
    entry = state.store.get("namespaces", "", namespace)
    if entry is None:
        raise status.not_found(NAMESPACES, namespace)
    if "deletionTimestamp" in entry.peek()["metadata"]:
        text = f"namespace {namespace} is being terminated"
        raise status.forbidden(
            kind.resource,
            name,
            f"unable to create new content in namespace {namespace} because it is being terminated",
            [FieldError("NamespaceTerminating", "metadata.namespace", text)],
        )


def check_new(state: ServerState, user: User, kind: Kind, obj: Object) -> None:
    """Before a new object is prepared. Raises StatusError 403."""
    match kind.storage.qualified_name:
        case "pods":
            _check_pod(state, kind, obj)
        case "nodes":
            node = node_of(user)
            if node and obj["metadata"].get("name") != node:
                raise status.forbidden(
                    kind.resource, obj["metadata"].get("name", ""), f"node {node!r} may only create itself"
                )
        case _:
            pass
    if kind.custom:
        _check_definition(state, kind, obj)


def _check_pod(state: ServerState, kind: Kind, pod: Object) -> None:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    namespace, name = metadata["namespace"], metadata.get("name", "")
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    if state.store.get("serviceaccounts", namespace, account) is None:
        raise status.forbidden(
            kind.resource,
            name,
            f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found',
        )
    _establish_priority(state, kind, pod, name)


def _establish_priority(state: ServerState, kind: Kind, pod: Object, name: str) -> None:
    """Name the default class where a pod names none; a number of its own must be the class's."""
    spec: Object = pod.get("spec") or {}
    class_name = spec.get("priorityClassName")
    found = state.lookup(PRIORITY_CLASSES, "", class_name) if class_name else _default_priority_class(state)
    if class_name and found is None:
        raise status.forbidden(kind.resource, name, f"no PriorityClass with name {class_name} was found")
    if found is not None and not class_name:
        spec["priorityClassName"] = found["metadata"]["name"]
    value = (found or {}).get("value", 0)
    if spec.get("priority") is not None and spec["priority"] != value:
        text = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name"
        )
        raise status.forbidden(kind.resource, name, text)
    policy = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
    if spec.get("preemptionPolicy") not in (None, policy):
        text = (
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod "
            f"spec; priority admission controller computed {policy} from the given PriorityClass name"
        )
        raise status.forbidden(kind.resource, name, text)


def _default_priority_class(state: ServerState) -> Object | None:
    """Of several, the one of least value."""
    defaults = [
        entry.peek()
        for entry in state.store.table(PRIORITY_CLASSES.qualified_name).scan()
        if entry.peek().get("globalDefault")
    ]
    return min(defaults, key=lambda found: found.get("value", 0), default=None)


def _check_definition(state: ServerState, kind: Kind, obj: Object) -> None:
    entry = state.store.get(DEFINITIONS, "", kind.storage.qualified_name)
    if entry is not None and "deletionTimestamp" in entry.peek()["metadata"]:
        raise status.forbidden(
            kind.resource,
            obj["metadata"].get("name", ""),
            "create not allowed while custom resource definition is terminating",
        )


def admit(state: ServerState, call: Call, new: Object, old: Object | None) -> None:
    """After an object is prepared: addresses of Services, names of definitions, rights that roles grant."""
    user, kind = call.user, call.kind
    resource = kind.storage.qualified_name
    if resource == "services":
        # The spec may be shared with the old object, which must keep what it has.
        new["spec"] = dict(new.get("spec") or {})
        state.addresses.allocate(new, call, old)
    elif resource == DEFINITIONS:
        new["status"] = copy.deepcopy(new.get("status") or {})
        if "deletionTimestamp" not in new["metadata"]:
            judge(state.registry, new)
    elif resource == SIGNING_REQUESTS:
        admit_request(user, kind, new, old)
    elif resource == POLICIES:
        from kajitori.laptop.apiserver.admission.type_checking import set_status

        set_status(state.registry, new)
    elif resource in (rbac.ROLES, rbac.CLUSTER_ROLES):
        if old is None or new.get("rules") != old.get("rules") or "aggregationRule" in new:
            _check_role(state, user, kind, new)
    elif resource in (rbac.ROLE_BINDINGS, rbac.CLUSTER_ROLE_BINDINGS) and (
        old is None or new.get("subjects") != old.get("subjects") or new.get("roleRef") != old.get("roleRef")
    ):
        _check_binding(state, user, kind, new)


def admit_part(state: ServerState, call: Call, new: Object, old: Object, subresource: str) -> None:
    """After a change of a subresource is prepared: the rights that it needs besides. Raises StatusError 403."""
    if call.kind.storage.qualified_name == SIGNING_REQUESTS:
        check_signer(state, call.user, call.kind, new, old, subresource)


def _check_role(state: ServerState, user: User, kind: Kind, role: Object) -> None:
    metadata = role["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    may_escalate = Attributes("escalate", rbac.GROUP, kind.resource.plural, namespace, name)
    if state.authorizer.allows(user, may_escalate):
        return
    wanted = rbac.compile_rules(role.get("rules") or ())
    if role.get("aggregationRule"):
        star = frozenset({"*"})
        wanted = (*wanted, rbac.Rule(star, star, star), rbac.Rule(star, paths=("*",)))
    missing = state.authorizer.missing(user, namespace, wanted)
    if missing:
        raise _escalation(kind, name, user, missing)


def _check_binding(state: ServerState, user: User, kind: Kind, binding: Object) -> None:
    metadata = binding["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    role = rbac.role_key(binding.get("roleRef") or {}, namespace)
    plural = role[0].partition(".")[0]
    if state.authorizer.allows(user, Attributes("bind", rbac.GROUP, plural, namespace, role[2])):
        return
    if state.store.get(*role) is None:
        raise status.not_found(kind.resource, role[2])
    missing = state.authorizer.missing(user, namespace, state.authorizer.role_rules(role))
    if missing:
        raise _escalation(kind, name, user, missing)


def _escalation(kind: Kind, name: str, user: User, missing: list[rbac.Rule]) -> status.StatusError:
    listed = "\n".join(_shown(rule) for rule in missing)
    groups = " ".join(f'"{group}"' for group in user.groups)
    return status.forbidden(
        kind.resource,
        name,
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
        f"not currently held:\n{listed}",
    )


def _shown(rule: rbac.Rule) -> str:
    parts: list[str] = []
    policy = rule.as_policy()
    for key, title in (
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("nonResourceURLs", "NonResourceURLs"),
        ("verbs", "Verbs"),
    ):
        if key in policy:
            values = " ".join(f'"{value}"' for value in policy[key])
            parts.append(f"{title}:[{values}]")
    return "{" + ", ".join(parts) + "}"
