"""What a server's admission adds to new objects, and what it keeps when they change.

Pods: service account, its token volume, tolerations, priority, quality of service. Namespaces: their finalizer.
Nodes: a taint until they are ready. Jobs: labels and selector with their own uid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.api.resource import NODES, SERVICE_ACCOUNTS, Resource
from kajitori.laptop.apiserver.defaults.pods import DEFAULT_MODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.kinds.kind import Context

Object = dict[str, Any]

PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
TOKEN_MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_VOLUME = "kube-api-access-"
_TOKEN_SECONDS = 3607
_EVICTION_SECONDS = 300
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_TOPOLOGY_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_DEFAULT_TOLERATIONS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def suffix_of(uid: str) -> str:
    """Five letters of the alphabet of generated names, the same for the same uid."""
    number = int(uid.replace("-", "") or "0", 16) if uid else 0
    letters: list[str] = []
    for _ in range(5):
        number, index = divmod(number, len(_SUFFIX_LETTERS))
        letters.append(_SUFFIX_LETTERS[index])
    return "".join(letters)


def topology_labels(node_name: str, lookup: Callable[[Resource, str, str], Object | None]) -> dict[str, str]:
    """Zone and region of a node, which the pods on it carry as labels; empty for a node that is not there."""
    node = lookup(NODES, "", node_name) if node_name else None
    labels: dict[str, str] = (node or {}).get("metadata", {}).get("labels") or {}
    return {key: labels[key] for key in _TOPOLOGY_LABELS if key in labels}


def admit_new_pod(pod: Object, context: Context) -> None:
    spec: Object = pod["spec"]
    metadata: Object = pod["metadata"]
    if place := topology_labels(spec.get("nodeName", ""), context.lookup):
        metadata["labels"] = {**(metadata.get("labels") or {}), **place}
    if "kubernetes.io/config.mirror" not in metadata.get("annotations", ()):
        _add_service_account(spec, metadata.get("namespace", ""), context)
    _add_tolerations(spec)
    _add_priority(spec, context)
    status: Object = {"phase": "Pending", "qosClass": quality_of_service(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": context.now,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    pod["status"] = status


def _add_service_account(spec: Object, namespace: str, context: Context) -> None:
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = name
    spec["serviceAccount"] = name
    account = context.lookup(SERVICE_ACCOUNTS, namespace, name) or {}
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    if wanted:
        _mount_token(spec, suffix_of(context.uid))


def _mount_token(spec: Object, suffix: str) -> None:
    known = [v["name"] for v in spec.get("volumes") or () if v.get("name", "").startswith(_TOKEN_VOLUME)]
    volume = known[0] if known else f"{_TOKEN_VOLUME}{suffix}"
    mounted = False
    for containers in (spec.get("initContainers", ()), spec.get("containers", ())):
        for container in containers:
            mounts: list[Object] = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == TOKEN_MOUNT_PATH for mount in mounts):
                continue
            container["volumeMounts"] = [
                *mounts,
                {"name": volume, "readOnly": True, "mountPath": TOKEN_MOUNT_PATH},
            ]
            mounted = True
    if not mounted or known:
        return
    sources: list[Object] = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }
                ]
            }
        },
    ]
    projected: Object = {"sources": sources, "defaultMode": DEFAULT_MODE}
    spec["volumes"] = [*spec.get("volumes", ()), {"name": volume, "projected": projected}]


def _add_tolerations(spec: Object) -> None:
    tolerations: list[Object] = list(spec.get("tolerations", ()))
    for key in _DEFAULT_TOLERATIONS:
        if not any(_tolerates(toleration, key) for toleration in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _EVICTION_SECONDS,
                }
            )
    spec["tolerations"] = tolerations


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")


def _add_priority(spec: Object, context: Context) -> None:
    name = spec.get("priorityClassName")
    found = context.lookup(PRIORITY_CLASSES, "", name) if name else None
    spec["priority"] = found.get("value", 0) if found else spec.get("priority", 0)
    spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy", "PreemptLowerPriority"))


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the requests and limits of cpu and memory of all containers."""
    any_set = False
    guaranteed = True
    for containers in (spec.get("containers", ()), spec.get("initContainers", ())):
        for container in containers:
            resources = container.get("resources") or {}
            limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
            for name in ("cpu", "memory"):
                limit, request = limits.get(name, "0"), requests.get(name, limits.get(name, "0"))
                if limit != "0" or request != "0":
                    any_set = True
                if limit == "0" or limit != request:
                    guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def admit_new_namespace(namespace: Object, _context: Context) -> None:
    finalizers: list[str] = namespace["spec"].get("finalizers") or []
    if "kubernetes" not in finalizers:
        namespace["spec"]["finalizers"] = [*finalizers, "kubernetes"]
    namespace["status"] = {"phase": "Active"}


def keep_namespace_finalizers(new: Object, old: Object, _context: Context) -> None:
    """Only the finalize subresource changes them."""
    finalizers = old.get("spec", {}).get("finalizers")
    if finalizers is None:
        new["spec"].pop("finalizers", None)
    elif new["spec"].get("finalizers") != finalizers:
        new["spec"] = {**new["spec"], "finalizers": finalizers}


def admit_new_node(node: Object, _context: Context) -> None:
    taints: list[Object] = node["spec"].get("taints") or []
    not_ready = "node.kubernetes.io/not-ready"
    if not any(t.get("key") == not_ready and t.get("effect") == "NoSchedule" for t in taints):
        node["spec"]["taints"] = [*taints, {"key": not_ready, "effect": "NoSchedule"}]


def admit_new_job(job: Object, _context: Context) -> None:
    spec: Object = job["spec"]
    if spec.get("manualSelector"):
        return
    uid, name = job["metadata"]["uid"], job["metadata"].get("name", "")
    own = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    template: Object = spec["template"]["metadata"]
    template["labels"] = {**(template.get("labels") or {}), **own}
    metadata: Object = job["metadata"]
    if not metadata.get("labels"):
        metadata["labels"] = dict(template["labels"])
    spec["selector"] = {
        **(spec.get("selector") or {}),
        "matchLabels": {
            **((spec.get("selector") or {}).get("matchLabels") or {}),
            "batch.kubernetes.io/controller-uid": uid,
        },
    }


def admit_new_claim(claim: Object, _context: Context) -> None:
    claim["status"] = {"phase": "Pending"}
    spec: Object = claim["spec"]
    reference, source = spec.get("dataSourceRef"), spec.get("dataSource")
    if reference and not source and not reference.get("namespace"):
        spec["dataSource"] = dict(reference)
    elif source and not reference:
        spec["dataSourceRef"] = dict(source)


def admit_new_volume(volume: Object, context: Context) -> None:
    volume["status"] = {"phase": "Pending", "lastPhaseTransitionTime": context.now}


def number_daemon_template(daemon_set: Object, _context: Context) -> None:
    """The generation of a DaemonSet's template, which a real server still counts in an annotation."""
    annotations: Object = daemon_set["metadata"].setdefault("annotations", {})
    given = annotations.get(TEMPLATE_GENERATION, "")
    annotations[TEMPLATE_GENERATION] = given if given.isdecimal() and int(given) > 0 else "1"


def count_daemon_template(new: Object, old: Object, _context: Context) -> None:
    """One more with each change of the template; a client cannot set it."""
    number = int((old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1"))
    changed = new["spec"].get("template") != old["spec"].get("template")
    annotations: Object = new["metadata"].setdefault("annotations", {})
    annotations[TEMPLATE_GENERATION] = str(number + changed)


def keep_pod_defaults(new: Object, old: Object, _context: Context) -> None:
    """A changed pod keeps what admission gave it, where the client left it out."""
    spec, stored = new["spec"], old.get("spec", {})
    for name in ("nodeName", "serviceAccountName", "serviceAccount", "priority", "preemptionPolicy"):
        if name not in spec and name in stored:
            spec[name] = stored[name]


NEW: dict[str, Callable[[Object, Context], None]] = {
    "io.k8s.api.core.v1.Pod": admit_new_pod,
    "io.k8s.api.core.v1.Namespace": admit_new_namespace,
    "io.k8s.api.core.v1.Node": admit_new_node,
    "io.k8s.api.core.v1.PersistentVolumeClaim": admit_new_claim,
    "io.k8s.api.core.v1.PersistentVolume": admit_new_volume,
    "io.k8s.api.batch.v1.Job": admit_new_job,
    "io.k8s.api.apps.v1.DaemonSet": number_daemon_template,
}
CHANGED: dict[str, Callable[[Object, Object, Context], None]] = {
    "io.k8s.api.core.v1.Pod": keep_pod_defaults,
    "io.k8s.api.apps.v1.DaemonSet": count_daemon_template,
    "io.k8s.api.core.v1.Namespace": keep_namespace_finalizers,
}
