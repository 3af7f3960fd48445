"""What a node may do: its own Node, lease and pods, and what the pods bound to it refer to.

A node's user is `system:node:NAME` in the group `system:nodes`. It lists pods only by its own name and reads secrets and config maps only of pods that
are bound to it, and asks tokens only for their service accounts. Which objects those are follows the pods
in the store, indexed by node as they come and go.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.pki import NODES_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.rbac import Attributes
    from kajitori.laptop.apiserver.store import Entry, Store

USER_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
_READ = frozenset({"get", "list", "watch"})
# Readable by every node: not secret, and needed to run pods (names of services for their hosts files, volumes).
_READ_BY_ALL = frozenset(
    {
        "/nodes",
        "/services",
        "/endpoints",
        "/namespaces",
        "/persistentvolumes",
        "/persistentvolumeclaims",
        "discovery.k8s.io/endpointslices",
        "node.k8s.io/runtimeclasses",
        "storage.k8s.io/storageclasses",
    }
)


def node_of(user: User) -> str:
    """Name of the node that the user is; empty if it is none."""
    if NODES_GROUP in user.groups and user.name.startswith(USER_PREFIX):
        return user.name.removeprefix(USER_PREFIX)
    return ""


class NodeRights:
    """Answers for nodes; keeps an index of the pods that are bound to each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pods: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._loaded = False
        store.listeners.append(self._on_event)

    def _on_event(self, resource: str, event: Event) -> None:
        if resource != "pods" or not self._loaded:
            return
        entry = event.entry
        if event.before is not None and event.deleted:
            self._pods[_bound_to(event.before)].discard((entry.namespace, entry.name))
        elif not event.deleted and (node := _bound_to(entry)):
            self._pods[node].add((entry.namespace, entry.name))

    def _pods_of(self, node: str) -> Iterator[dict[str, Any]]:
        if not self._loaded:
            for entry in self._store.table("pods").scan():
                if bound_to := _bound_to(entry):
                    self._pods[bound_to].add((entry.namespace, entry.name))
            self._loaded = True
        for namespace, name in self._pods.get(node, ()):
            entry = self._store.get("pods", namespace, name)
            if entry is not None:
                yield entry.peek()

    def __call__(self, user: User, asked: Attributes) -> bool:
        node = node_of(user)
        if not node or not asked.resource:
            return False
        resource = f"{asked.group}/{asked.resource}"
        if asked.verb in _READ and resource in _READ_BY_ALL:
            return True
        match resource:
            case "/nodes":
                return asked.verb == "create" or (asked.name == node and asked.verb in ("update", "patch"))
            case "/nodes/status":
                return asked.name == node and asked.verb in ("get", "update", "patch")
            case "coordination.k8s.io/leases":
                if asked.namespace != LEASE_NAMESPACE:
                    return False
                return asked.verb == "create" or (
                    asked.name == node and asked.verb in ("get", "update", "patch", "delete")
                )
            case "/events" | "events.k8s.io/events":
                return asked.verb in ("create", "update", "patch")
            case "/pods/status":
                return asked.verb in ("get", "update", "patch") and self._own_pod(node, asked)
            case "/pods":
                if asked.verb in ("list", "watch"):
                    return asked.on_node == node
                return asked.verb in ("get", "delete") and self._own_pod(node, asked)
            case "/secrets" | "/configmaps" | "/serviceaccounts" | "/serviceaccounts/token":
                return self._referred(node, asked)
            case "/persistentvolumeclaims/status":
                # Claims are folders of the machine: the node that mounts one marks it bound.
                return asked.verb in ("get", "patch") and self._mounts_claim(node, asked)
            case "certificates.k8s.io/certificatesigningrequests":
                return asked.verb in ("create", "get", "list", "watch")
            case "authentication.k8s.io/tokenreviews" | "authorization.k8s.io/subjectaccessreviews":
                return asked.verb == "create"
            case _:
                return False

    def _own_pod(self, node: str, asked: Attributes) -> bool:
        """A pod that is gone is nobody's: the node is to hear of that, not of a missing right."""
        entry = self._store.get("pods", asked.namespace, asked.name)
        return entry is None or _bound_to(entry) == node

    def _mounts_claim(self, node: str, asked: Attributes) -> bool:
        return any(
            (volume.get("persistentVolumeClaim") or {}).get("claimName") == asked.name
            for pod in self._pods_of(node)
            if pod["metadata"]["namespace"] == asked.namespace
            for volume in pod["spec"].get("volumes") or ()
        )

    def _referred(self, node: str, asked: Attributes) -> bool:
        if not asked.name or not asked.namespace:
            return False
        verbs = ("create",) if asked.resource.endswith("/token") else _READ
        if asked.verb not in verbs:
            return False
        kind = asked.resource.partition("/")[0]
        return any(
            asked.name in references(pod, kind)
            for pod in self._pods_of(node)
            if pod["metadata"]["namespace"] == asked.namespace
        )


def _bound_to(entry: Entry) -> str:
    return entry.peek().get("spec", {}).get("nodeName") or ""


def references(pod: dict[str, Any], resource: str) -> set[str]:
    """Names of the secrets, config maps or service accounts that a pod refers to."""
    spec: dict[str, Any] = pod.get("spec") or {}
    if resource == "serviceaccounts":
        return {spec.get("serviceAccountName") or "default"}
    found: set[str] = set()
    secret = resource == "secrets"
    if secret:
        found.update(item.get("name", "") for item in spec.get("imagePullSecrets") or ())
    for volume in spec.get("volumes") or ():
        if secret:
            found.add((volume.get("secret") or {}).get("secretName", ""))
        else:
            found.add((volume.get("configMap") or {}).get("name", ""))
        for source in (volume.get("projected") or {}).get("sources") or ():
            found.add((source.get("secret" if secret else "configMap") or {}).get("name", ""))
    for containers in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(containers) or ():
            for variable in container.get("env") or ():
                key = "secretKeyRef" if secret else "configMapKeyRef"
                found.add(((variable.get("valueFrom") or {}).get(key) or {}).get("name", ""))
            for source in container.get("envFrom") or ():
                found.add((source.get("secretRef" if secret else "configMapRef") or {}).get("name", ""))
    found.discard("")
    return found
