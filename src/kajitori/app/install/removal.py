"""Takes an installation out of a cluster. What users made stays: their objects, and the definitions of their kinds.

Definitions go only where that was asked for, since all objects of their kinds go with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kajitori.api.resource import Resource
from kajitori.app.install.cluster import (
    DEFINITIONS,
    FIELD_MANAGER,
    KINDS,
    MADE_BY_PROCESSES,
    get,
    list_all,
    refuse_missing,
    resource_of,
    title,
)
from kajitori.app.install.definitions import is_ours
from kajitori.app.install.installer import delete
from kajitori.base.errors import Conflict, Forbidden, KajitoriError, NotFound
from kajitori.kube.direct import DirectClient

_OURS = "app.kubernetes.io/part-of=kajitori"
_OUR_FINALIZERS = "kajitori.dev/"
# What a namespace holds that nobody made for their own purposes.
_EVERY_NAMESPACES = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


@dataclass(frozen=True)
class Remains:
    """What was found of an installation.

    objects: ours, last to be made first. definitions: ours, with the number of objects of each kind.
    namespace: the Namespace if it is ours and holds nothing of others, else None.
    foreign: what others have in it.
    """

    objects: list[dict[str, Any]]
    definitions: list[tuple[dict[str, Any], int]]
    namespace: dict[str, Any] | None
    foreign: list[str]


def find_remains(client: DirectClient, namespace: str) -> Remains:
    """Look for everything of ours; changes nothing."""
    objects: list[dict[str, Any]] = []
    for resource in (*reversed(KINDS), *MADE_BY_PROCESSES):
        if resource.kind == "Namespace":
            continue
        found_here = list_all(client, resource, labelSelector=_OURS)
        objects += [item for item in found_here if _is_of(item, namespace, resource)]
    objects += [
        lease for lease in list_all(client, MADE_BY_PROCESSES[1], namespace)
        if lease["metadata"]["name"] in ("kajitori-controllers", "kajitori-gateway")
    ]  # fmt: skip
    found = get(client, f"/api/v1/namespaces/{namespace}")
    own = (
        found is not None
        and (found["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") == "kajitori"
    )
    foreign = sorted(_foreign(client, namespace, {title(obj) for obj in objects})) if found else []
    definitions = [
        (definition, _count(client, definition))
        for definition in list_all(client, DEFINITIONS, labelSelector=_OURS)
        if is_ours(definition)
    ]
    return Remains(objects, definitions, found if own and not foreign else None, foreign)


def is_helms(remains: Remains) -> bool:
    """Whether Helm installed what is there."""
    return any(
        obj["kind"] == "Deployment"
        and (obj["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm"
        for obj in remains.objects
    )


def _is_of(item: dict[str, Any], namespace: str, resource: Resource) -> bool:
    """Whether it belongs to the installation in this namespace."""
    metadata = item["metadata"]
    subjects = item.get("subjects")
    if subjects is not None:
        return all(each.get("namespace") == namespace for each in subjects)
    if metadata.get("namespace") in (None, namespace):
        managers = {entry.get("manager") for entry in metadata.get("managedFields") or ()}
        return metadata.get("namespace") == namespace or bool(managers & {FIELD_MANAGER, "helm"})
    return resource.kind == "Role" and metadata["name"] == "kajitori-gateway-secrets"


def _foreign(client: DirectClient, namespace: str, ours: set[str]) -> Iterator[str]:
    """Pods and what else users may have put into the namespace. What goes with our objects is not theirs."""
    for plural, kind, api in (
        ("pods", "Pod", ""),
        ("services", "Service", ""),
        ("configmaps", "ConfigMap", ""),
        ("secrets", "Secret", ""),
        ("persistentvolumeclaims", "PersistentVolumeClaim", ""),
        ("deployments", "Deployment", "apps"),
    ):
        resource = Resource(api, "v1", plural, kind)
        for item in list_all(client, resource, namespace):
            metadata = item["metadata"]
            labels = metadata.get("labels") or {}
            if (
                title(item) not in ours
                and labels.get("app.kubernetes.io/part-of") != "kajitori"
                and (kind, metadata["name"]) not in _EVERY_NAMESPACES
                and not metadata.get("ownerReferences")
            ):
                yield title(item)


def _kind_of(definition: dict[str, Any]) -> Resource:
    spec = definition["spec"]
    storage = next(version["name"] for version in spec["versions"] if version["storage"])
    return Resource(
        spec["group"], storage, spec["names"]["plural"], spec["names"]["kind"], spec["scope"] == "Namespaced"
    )


def _count(client: DirectClient, definition: dict[str, Any]) -> int:
    """How many of users: ours is the GatewayClass at most."""
    return sum(
        (item["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") != "kajitori"
        for item in list_all(client, _kind_of(definition))
    )


def remove(
    client: DirectClient,
    namespace: str,
    remains: Remains,
    say: Callable[[str, str], None],
    *,
    definitions: bool,
    seconds: float,
) -> None:
    """Delete what was found, Deployments first, so that nothing is made anew."""
    order = sorted(remains.objects, key=lambda obj: obj["kind"] != "Deployment")
    counts: dict[str, int] = {}
    for obj in order:
        delete(client, obj)
        counts[obj["kind"]] = counts.get(obj["kind"], 0) + 1
        if obj["kind"] != "Deployment" and "Deployment" in counts and "waited" not in counts:
            counts["waited"] = 0
            _wait_for_no_pods(client, namespace, seconds)
    counts.pop("waited", None)
    if counts:
        say("deleted", ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    for definition, count in remains.definitions:
        _free_objects(client, definition)
        if definitions:
            _delete_objects(client, definition, seconds)
            client.delete(DEFINITIONS.path(None, definition["metadata"]["name"]), {})
            say("deleted", f"CustomResourceDefinition {definition['metadata']['name']} with {count} objects")
    if remains.namespace is not None:
        client.delete(f"/api/v1/namespaces/{namespace}", {})
        say("deleted", f"Namespace {namespace}")


def _wait_for_no_pods(client: DirectClient, namespace: str, seconds: float) -> None:
    """What still runs would write once more."""
    deadline = time.monotonic() + seconds
    query = {"labelSelector": _OURS}
    while True:
        pods = client.get(f"/api/v1/namespaces/{namespace}/pods", query=query)["items"]
        if not pods:
            return
        if time.monotonic() > deadline:
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            raise KajitoriError(f"pods do not end: {names}", hint="`kaji uninstall` again continues")
        time.sleep(0.2)


def _delete_objects(client: DirectClient, definition: dict[str, Any], seconds: float) -> None:
    """Users' objects with all that they own. With their definition they would go too, but perhaps leave that behind:
    the garbage collector of a cluster learns of a deletion only while it knows the kind.
    """
    resource = _kind_of(definition)
    deadline = time.monotonic() + seconds
    asked: set[str] = set()
    while items := list(list_all(client, resource)):
        for item in items:
            if item["metadata"]["uid"] not in asked:
                asked.add(item["metadata"]["uid"])
                _delete_in_the_foreground(client, resource, item)
        if time.monotonic() > deadline:
            raise KajitoriError(
                f"{len(items)} objects of {resource.qualified_name} are not gone after {seconds:.0f} s, the first is {title(items[0])}",
                hint="something may hold them by a finalizer; `kaji uninstall` again continues",
            )
        time.sleep(0.2)


def _delete_in_the_foreground(client: DirectClient, resource: Resource, item: dict[str, Any]) -> None:
    metadata = item["metadata"]
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": metadata["uid"]},
    }
    try:
        client.delete(resource.path(metadata.get("namespace"), metadata["name"]), options)
    except (NotFound, Conflict):
        return


def _free_objects(client: DirectClient, definition: dict[str, Any]) -> None:
    """Take finalizers of ours off users' objects: nobody would do it afterwards, and they could never be deleted."""
    resource = _kind_of(definition)
    for item in list_all(client, resource):
        metadata = item["metadata"]
        finalizers: list[str] = metadata.get("finalizers") or []
        kept = [name for name in finalizers if not name.startswith(_OUR_FINALIZERS)]
        if kept == finalizers:
            continue
        patch = {"metadata": {"finalizers": kept, "resourceVersion": metadata["resourceVersion"]}}
        try:
            client.request(
                "PATCH",
                resource.path(metadata.get("namespace"), metadata["name"]),
                query={"fieldManager": FIELD_MANAGER},
                body=json.dumps(patch).encode(),
                content_type="application/merge-patch+json",
            )
        except NotFound:
            continue
        except (Conflict, Forbidden) as error:
            raise KajitoriError(f"cannot take our finalizers off {title(item)}: {error}") from error


def check_reads(client: DirectClient) -> None:
    """Raise UsageError that names every right that is missing to look for what there is. Comes before `find_remains`."""
    secrets, leases = MADE_BY_PROCESSES
    wanted: list[tuple[str, Resource, str | None]] = [
        ("list", resource, None) for resource in (*KINDS, secrets) if resource.kind != "Namespace"
    ]
    wanted += [("list", leases, None), ("list", DEFINITIONS, None)]
    refuse_missing(client, wanted)


def check_rights(client: DirectClient, remains: Remains, *, definitions: bool) -> None:
    """Raise UsageError that names every right that is missing."""
    wanted: list[tuple[str, Resource, str | None]] = [
        ("delete", resource_of(obj), obj["metadata"].get("namespace")) for obj in remains.objects
    ]
    if definitions:
        wanted.append(("delete", DEFINITIONS, None))
    refuse_missing(client, wanted)
