"""Fields of built-in kinds that stay as they were made, and the words in which a change of them is refused."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from tests.servers import Server

Object = dict[str, Any]
CONTAINER = {"name": "c", "image": "i"}
POD = {"containers": [CONTAINER], "schedulerName": "nobody"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
OTHER = {"matchLabels": {"a": "b", "c": "d"}}
APPS, BATCH, RBAC = "/apis/apps/v1/", "/apis/batch/v1/", "/apis/rbac.authorization.k8s.io/v1/"
IMMUTABLE = "field is immutable"
KEPT = "Forbidden: field is immutable when `immutable` is set"


class Case(NamedTuple):
    """path: with NS for the namespace, and NAME in cluster-wide names. patch: a merge patch.

    told: (field, end of the message) of what must be among the causes.
    """

    path: str
    body: Object
    patch: Object
    told: tuple[tuple[str, str], ...]


def _workload(**more: Any) -> Object:
    return {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE, **more}}


NEW_SELECTOR = {
    "spec": {"selector": OTHER, "template": {"metadata": {"labels": {"c": "d"}}}},
}
_VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadWriteOnce"],
    "hostPath": {"path": "/nowhere"},
    "storageClassName": "none",
}
CASES = {
    "pod, its node": Case(
        "/api/v1/namespaces/NS/pods",
        {"spec": POD},
        {"spec": {"hostNetwork": True}},
        (("spec", ""),),
    ),
    "pod, containers added": Case(
        "/api/v1/namespaces/NS/pods",
        {"spec": POD},
        {"spec": {"containers": [CONTAINER, {"name": "d", "image": "i"}]}},
        (("spec.containers", "Forbidden: pod updates may not add or remove containers"),),
    ),
    "pod, deadline": Case(
        "/api/v1/namespaces/NS/pods",
        {"spec": {**POD, "activeDeadlineSeconds": 5}},
        {"spec": {"activeDeadlineSeconds": 9}},
        (("spec.activeDeadlineSeconds", "Invalid value: 9: must be less than or equal to previous value"),),
    ),
    "service, address": Case(
        "/api/v1/namespaces/NS/services",
        {"spec": {"ports": [{"port": 80}]}},
        {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}},
        (("spec.clusterIPs[0]", "may not change once set"),),
    ),
    "claim": Case(
        "/api/v1/namespaces/NS/persistentvolumeclaims",
        {
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "none",
            }
        },
        {"spec": {"accessModes": ["ReadWriteMany"]}},
        (("spec", ""),),
    ),
    "volume": Case(
        "/api/v1/persistentvolumes",
        {"spec": _VOLUME},
        {"spec": {"hostPath": {"path": "/elsewhere"}}},
        (("spec.persistentvolumesource", ""),),
    ),
    "job, selector and template": Case(
        BATCH + "namespaces/NS/jobs",
        {
            "spec": {
                "suspend": False,
                "completionMode": "NonIndexed",
                "template": {"spec": {"restartPolicy": "Never", **POD}},
            }
        },
        {
            "spec": {
                "completionMode": "Indexed",
                "completions": 1,
                "template": {"spec": {"hostNetwork": True}},
            }
        },
        (("spec.template", IMMUTABLE), ("spec.completionMode", IMMUTABLE)),
    ),
    "deployment, selector": Case(
        APPS + "namespaces/NS/deployments",
        _workload(replicas=0),
        NEW_SELECTOR,
        (("spec.selector", IMMUTABLE),),
    ),
    "replica set, selector": Case(
        APPS + "namespaces/NS/replicasets",
        _workload(replicas=0),
        NEW_SELECTOR,
        (("spec.selector", IMMUTABLE),),
    ),
    "daemon set, selector": Case(
        APPS + "namespaces/NS/daemonsets",
        _workload(),
        NEW_SELECTOR,
        (("spec.selector", IMMUTABLE),),
    ),
    "stateful set, service": Case(
        APPS + "namespaces/NS/statefulsets",
        _workload(replicas=0, serviceName="one"),
        {"spec": {"serviceName": "two"}},
        (
            (
                "spec",
                "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template',"
                " 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and"
                " 'minReadySeconds' are forbidden",
            ),
        ),
    ),
    "secret, type": Case(
        "/api/v1/namespaces/NS/secrets",
        {"type": "Opaque"},
        {"type": "example.com/other"},
        (("type", IMMUTABLE),),
    ),
    "secret, immutable": Case(
        "/api/v1/namespaces/NS/secrets",
        {"immutable": True, "data": {"a": "eA=="}},
        {"data": {"a": "eQ=="}},
        (("data", KEPT),),
    ),
    "config map, immutable": Case(
        "/api/v1/namespaces/NS/configmaps",
        {"immutable": True, "data": {"a": "x"}},
        {"immutable": False, "data": {"a": "y"}},
        (("immutable", KEPT), ("data", KEPT)),
    ),
    "storage class": Case(
        "/apis/storage.k8s.io/v1/storageclasses",
        {"provisioner": "example.com/p", "parameters": {"a": "b"}},
        {"parameters": {"a": "c"}, "provisioner": "example.com/q", "reclaimPolicy": "Retain"},
        (
            ("parameters", IMMUTABLE),
            ("provisioner", IMMUTABLE),
            ("reclaimPolicy", IMMUTABLE),
        ),
    ),
    "role binding": Case(
        RBAC + "namespaces/NS/rolebindings",
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}},
        {"roleRef": {"name": "edit"}},
        (("roleRef", "cannot change roleRef"),),
    ),
    "priority class": Case(
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        {"value": 5},
        {"value": 6},
        (("value", "Forbidden: may not be changed in an update."),),
    ),
    "runtime class": Case(
        "/apis/node.k8s.io/v1/runtimeclasses", {"handler": "a"}, {"handler": "b"}, (("handler", IMMUTABLE),)
    ),
    "revision": Case(
        APPS + "namespaces/NS/controllerrevisions",
        {"revision": 1, "data": {"a": "b"}},
        {"data": {"a": "c"}},
        (("data", IMMUTABLE),),
    ),
    "endpoint slice": Case(
        "/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices",
        {"addressType": "IPv4", "endpoints": [], "ports": []},
        {"addressType": "IPv6"},
        (("addressType", IMMUTABLE),),
    ),
    "ingress class": Case(
        "/apis/networking.k8s.io/v1/ingressclasses",
        {"spec": {"controller": "example.com/a"}},
        {"spec": {"controller": "example.com/b"}},
        (("spec.controller", IMMUTABLE),),
    ),
    "csi driver": Case(
        "/apis/storage.k8s.io/v1/csidrivers",
        {"spec": {"attachRequired": True}},
        {"spec": {"attachRequired": False}},
        (("spec.attachedRequired", IMMUTABLE),),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_what_is_immutable_is_refused_by_name(server: Server, namespace: str, case: Case) -> None:
    path = case.path.replace("NS", namespace)
    name = namespace if "namespaces/" not in case.path else "x"
    (await server.http.create(path, {**case.body, "metadata": {"name": name}})).ok()
    answer = await server.http.merge(f"{path}/{name}", case.patch)
    assert answer.code == 422, answer.body
    causes = [(cause["field"], cause["message"]) for cause in answer.json["details"]["causes"]]
    for field, end in case.told:
        assert any(one == field and end in message for one, message in causes), causes
    if "namespaces/" not in case.path:
        await server.http.delete(f"{path}/{name}")


async def test_ours_names_the_same_fields_as_a_real_server(
    servers: tuple[Server, Server], shared_namespace: str
) -> None:
    for title, case in CASES.items():
        path = case.path.replace("NS", shared_namespace)
        name = (
            shared_namespace if "namespaces/" not in case.path else title.replace(" ", "-").replace(",", "")
        )
        fields: list[set[str]] = []
        for server in servers:
            (await server.http.create(path, {**case.body, "metadata": {"name": name}})).ok()
        for answer in await asyncio.gather(
            *(server.http.merge(f"{path}/{name}", case.patch) for server in servers)
        ):
            assert answer.code == 422, (title, answer.body)
            fields.append({cause["field"] for cause in answer.json["details"]["causes"]})
        assert fields[0] == fields[1], title
        for server in servers:
            await server.http.delete(f"{path}/{name}")
