"""What is there from the first moment: namespaces, roles, priority classes, the `kubernetes` Service.

Runs at each start: what is missing is created, the roles that are ours are brought up to date (as the annotation
`autoupdate` allows), everything else is left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.apply import track_update
from kajitori.laptop.apiserver.changes import context_of
from kajitori.laptop.apiserver.roles import component_roles, default_roles
from kajitori.laptop.apiserver.store import Decision, Entry, Key
from kajitori.laptop.apiserver.views import read_object, stored_object

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
MANAGER = "kube-apiserver"


def _priority_class(name: str, value: int, description: str) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": description,
    }


def _service(address: str, port: int) -> list[Object]:
    """The `kubernetes` Service and its endpoint: this server."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        },
    ]


def _authentication(authority: str) -> Object:
    """Who signs the certificates of this server's clients, itself towards nodes among them."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": authority,
            # Servers behind an APIService believe these headers of whoever shows this certificate.
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-client-ca-file": authority,
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-username-headers": '["X-Remote-User"]',
        },
    }


def _folder_class(folder: str) -> Object:
    """Volumes as folders of this machine, for claims that ask for no other class."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "folder",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kajitori.dev/folder",
        "parameters": {"folder": folder},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def bootstrap_objects(state: ServerState, service_address: str, port: int) -> list[Object]:
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in NAMESPACES]
    return [
        *namespaces,
        *default_roles(),
        *component_roles(state.home),
        _priority_class(
            "system-cluster-critical", 2_000_000_000, "Used for pods that the cluster cannot do without."
        ),
        _priority_class(
            "system-node-critical", 2_000_001_000, "Used for pods that their node cannot do without."
        ),
        *_service(service_address, port),
        _folder_class(str(state.home / "persistent-volumes")),
        _authentication((state.home / "pki" / "ca.crt").read_text()),
    ]


async def bootstrap(state: ServerState, service_address: str, port: int) -> None:
    for obj in bootstrap_objects(state, service_address, port):
        await _ensure(state, obj)


async def _ensure(state: ServerState, obj: Object) -> None:
    group, _, version = obj["apiVersion"].rpartition("/")
    kind = state.registry.lookup_kind(group, version, obj["kind"])
    assert kind is not None, obj["kind"]
    metadata = obj["metadata"]

    def decide(before: Entry | None) -> Decision:
        context = context_of(state)
        if before is not None:
            old = read_object(kind, before)
            if not _out_of_date(old, obj):
                return None
            new = {**old, **{k: v for k, v in obj.items() if k != "metadata"}}
            new["metadata"] = dict(old["metadata"])
            kind.prepare_update(new, old, context)
        else:
            old, new = None, obj
            kind.prepare_create(new, context)
            if obj["kind"] == "Service":
                state.addresses.allocate(new, write=state)
        new["metadata"]["managedFields"] = track_update(
            old,
            new,
            manager=MANAGER,
            api_version=obj["apiVersion"],
            subresource="",
            schema=kind.schema,
            now=context.now,
        )
        errors = kind.validate(new, old)
        assert not errors, (obj["kind"], metadata["name"], errors)
        return stored_object(kind, new)

    key = Key(kind.storage.qualified_name, metadata.get("namespace", ""), metadata["name"])
    await state.store.mutate(key, decide)


def _out_of_date(old: Object, wanted: Object) -> bool:
    """Roles of ours that differ and may be updated; the endpoint of this server when its port has changed."""
    if wanted["kind"] in ("ClusterRole", "ClusterRoleBinding"):
        if (old["metadata"].get("annotations") or {}).get(AUTO_UPDATE) != "true":
            return False
        return any(
            old.get(key) != wanted[key] for key in wanted if key not in ("metadata", "aggregationRule")
        )
    if wanted["kind"] == "ConfigMap":
        return old.get("data") != wanted["data"]
    if wanted["kind"] == "EndpointSlice":
        return old.get("ports") != wanted["ports"]
    if wanted["kind"] == "Service":
        ports = (old.get("spec") or {}).get("ports") or [{}]
        if ports[0].get("targetPort") != wanted["spec"]["ports"][0]["targetPort"]:
            # Its address stays what it was.
            wanted["spec"] = {**old["spec"], "ports": wanted["spec"]["ports"]}
            return True
    return False
