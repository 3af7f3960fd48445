"""Each component under its own service account on a real API server: nothing is refused, and no right is idle."""

from __future__ import annotations

import json
import time
from typing import Any

from kajitori.api.resource import LEADER_WORKER_SETS, PODS, SECRETS, STATEFUL_SETS
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY, GANG, GROUP_READY
from kajitori.groups.leader_worker_sets.rbac import GANG_OBJECT_RULES
from tests.gateway.cluster import completed
from tests.gateway.workbench import ai_route, backend, gateway, key_policy
from tests.install import job_sets, role_sets
from tests.install.gateway_objects import gateway_objects
from tests.install.installation import NAMESPACE, Installation

Right = tuple[str, str, str]
CORE = "/api/v1/namespaces/default"
# Asked of by an admission plugin, never in a request of its own.
ONLY_CHECKED = {
    ("leaderworkerset.x-k8s.io", "leaderworkersets/finalizers", "update"),
    ("disaggregatedset.x-k8s.io", "disaggregatedsets/finalizers", "update"),
    ("jobset.x-k8s.io", "jobsets/finalizers", "update"),
}
ONLY_CHECKED_OF_ROUTES = {("aigateway.envoyproxy.io", "aigatewayroutes/finalizers", "update")}
_TAKEN_AWAY = {("httproutes", "delete"), ("httproutefilters", "delete")}
# Since 1.36 the Job controller itself forgets the start of a suspended Job.
FOR_OLDER_SERVERS = {("batch", "jobs/status", "patch")}

# On kinds that this cluster does not serve; they are used in tests/groups/leader_worker_sets/test_gang_objects.py.
OF_OTHER_SCHEDULERS = {
    (group, resource, verb)
    for rule in GANG_OBJECT_RULES
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
}


def granted(cluster: Installation, account: str) -> set[Right]:
    """Group, resource and verb of every right of the account."""
    rules: list[dict[str, Any]] = []
    for path in ("clusterroles", f"namespaces/{NAMESPACE}/roles"):
        for role in cluster.client.get(f"/apis/rbac.authorization.k8s.io/v1/{path}")["items"]:
            if role["metadata"]["name"] in (account, f"{account}-secrets"):
                rules += role["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(cluster: Installation, account: str) -> set[Right]:
    """The same of every request that was allowed."""
    found: set[Right] = set()
    for event in cluster.audited(account):
        reference = event.get("objectRef") or {}
        resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
        group = reference.get("apiGroup", "")
        found.add((group, resource, event["verb"]))
        if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
            # An apply of what is not there is asked for both rights.
            found.add((group, resource, "create"))
    return found


def refused(cluster: Installation, account: str) -> list[str]:
    return [
        f"{event['verb']} {event['requestURI']}"
        for event in cluster.audited(account)
        if event["responseStatus"]["code"] == 403
    ]


class Sets:
    """What a user and a node do to LeaderWorkerSets."""

    def __init__(self, cluster: Installation) -> None:
        self.cluster = cluster

    def apply(self, name: str, replicas: int = 1, image: str = "busybox:1", **group: Any) -> None:
        template = {"spec": {"containers": [{"name": "engine", "image": image}]}}
        body = {
            "apiVersion": LEADER_WORKER_SETS.api_version,
            "kind": "LeaderWorkerSet",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "leaderWorkerTemplate": {"size": 2, "workerTemplate": template, **group},
                "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            },
        }
        self.cluster.apply(body, self.path(name))

    def path(self, name: str) -> str:
        return LEADER_WORKER_SETS.path("default", name)

    def pods(self, name: str) -> list[dict[str, Any]]:
        query = {"labelSelector": f"leaderworkerset.sigs.k8s.io/name={name}"}
        return self.cluster.client.get(f"{CORE}/pods", query=query)["items"]

    def run(self, name: str) -> None:
        """The nodes say that every pod runs."""
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        for pod in self.pods(name):
            if pod["status"].get("phase") != "Running":
                self.patch(PODS.path("default", pod["metadata"]["name"], "status"), status)

    def patch(self, path: str, patch: dict[str, Any]) -> None:
        try:
            self.cluster.client.request(
                "PATCH", path, body=json.dumps(patch).encode(), content_type="application/merge-patch+json"
            )
        except Exception as error:  # a pod that has just gone
            assert "not found" in str(error), error

    def until_available(self, name: str, replicas: int, image: str = "busybox:1") -> None:
        def available() -> bool:
            self.run(name)
            status = self.cluster.client.get(self.path(name)).get("status") or {}
            images = {pod["spec"]["containers"][0]["image"] for pod in self.pods(name)}
            return status.get("readyReplicas") == replicas and images == {image}

        self.cluster.until(available, f"{name} is available")


def test_the_controllers_need_every_right_that_they_have_and_no_other(installed: Installation) -> None:
    controllers = installed.start("controllers")
    installed.until(lambda: controllers.leads, "it leads")
    sets = Sets(installed)
    claims = {
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
            }
        ],
    }
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    sets.apply("x", 2, **claims, persistentVolumeClaimRetentionPolicy=policy)
    sets.until_available("x", 2)
    policy = {**policy, "whenDeleted": "Delete"}
    for _ in range(2):  # the same twice: its events become one with a count
        sets.apply("x", 1, **claims, persistentVolumeClaimRetentionPolicy=policy)
        sets.until_available("x", 1)
        sets.apply("x", 2, **claims, persistentVolumeClaimRetentionPolicy=policy)
        sets.until_available("x", 2)
    sets.apply("x", 2, "busybox:2", **claims, persistentVolumeClaimRetentionPolicy=policy)
    sets.until_available("x", 2, "busybox:2")

    sets.patch(f"{CORE}/services/x-0", {"spec": {"publishNotReadyAddresses": False}})
    installed.until(
        lambda: installed.client.get(f"{CORE}/services/x-0")["spec"].get("publishNotReadyAddresses"), "mended"
    )
    _fail(installed, sets)
    _take_names(installed, sets)
    _gate(installed)
    _through_stateful_sets(installed)
    _ready_as_one(installed, sets)
    role_sets.live(installed, sets.run)
    job_sets.live(installed)
    time.sleep(5.5)  # counts of events are written every 5 s
    installed.until(
        lambda: ("events.k8s.io", "events", "patch") in used(installed, "kajitori-controllers"), "a count"
    )
    assert controllers.terminate() == 0  # a watch is in the log when it ends
    assert refused(installed, "kajitori-controllers") == []
    idle = granted(installed, "kajitori-controllers") - used(installed, "kajitori-controllers")
    assert idle == ONLY_CHECKED | FOR_OLDER_SERVERS | OF_OTHER_SCHEDULERS


def _apply_with(cluster: Installation, name: str, annotation: str, value: str) -> None:
    """A set of one group of two that asks for something by annotation."""
    body = {
        "apiVersion": LEADER_WORKER_SETS.api_version,
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "namespace": "default", "annotations": {annotation: value}},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": 2,
                "workerTemplate": {"spec": {"containers": [{"name": "engine", "image": "busybox:1"}]}},
            },
        },
    }
    cluster.apply(body, LEADER_WORKER_SETS.path("default", name))


def _through_stateful_sets(cluster: Installation) -> None:
    """Made, and changed by a scale."""
    _apply_with(cluster, "stateful", COMPATIBILITY, "StatefulSet")
    path = STATEFUL_SETS.path("default", "stateful")
    cluster.until(lambda: cluster.get(path), "the leaders' StatefulSet")
    patch = json.dumps({"spec": {"replicas": 2}}).encode()
    cluster.client.request(
        "PATCH",
        LEADER_WORKER_SETS.path("default", "stateful"),
        body=patch,
        content_type="application/merge-patch+json",
    )
    cluster.until(lambda: (cluster.get(path) or {})["spec"]["replicas"] == 2, "it follows")


def _ready_as_one(cluster: Installation, sets: Sets) -> None:
    _apply_with(cluster, "one", GROUP_READY, "true")

    def told() -> bool:
        sets.run("one")
        leader = cluster.get(PODS.path("default", "one-0")) or {"status": {}}
        return any(each["type"] == GROUP_READY for each in leader["status"].get("conditions") or ())

    cluster.until(told, "the leader is told of its group")


def _gate(cluster: Installation) -> None:
    """A gang is placed as a whole where there is a node for it."""
    _apply_with(cluster, "gang", GANG, "Gate")

    def told() -> bool:
        events = cluster.client.get("/apis/events.k8s.io/v1/namespaces/default/events")["items"]
        return any(event["reason"] in ("FailedScheduling", "GangPlaced") for event in events)

    cluster.until(told, "the gates have looked for a place")


def _fail(cluster: Installation, sets: Sets) -> None:
    """A pod on a node that is no more fails: its log and its node are asked for before its group begins anew."""
    sets.apply("failing")
    sets.until_available("failing", 1)
    pod = f"{CORE}/pods/failing-0-1"
    uid = cluster.client.get(pod)["metadata"]["uid"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "failing-0-1", "namespace": "default"},
        "target": {"kind": "Node", "name": "nowhere"},
    }
    cluster.client.request("POST", f"{pod}/binding", body=json.dumps(binding).encode())
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    container = {
        "name": "engine",
        "image": "busybox:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": ended,
    }
    sets.patch(f"{pod}/status", {"status": {"phase": "Failed", "containerStatuses": [container]}})

    def begun_anew() -> bool:
        found = [one for one in sets.pods("failing") if one["metadata"]["name"] == "failing-0-1"]
        return bool(found) and found[0]["metadata"]["uid"] != uid

    cluster.until(begun_anew, "the group begins anew")


def _take_names(cluster: Installation, sets: Sets) -> None:
    """Somebody else has the names that a set's pod, Service and revision shall have."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "service-0", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]},
        },
        f"{CORE}/services/service-0",
    )
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod-0", "namespace": "default"},
            "spec": {"containers": [{"name": "other", "image": "busybox:1"}]},
        },
        f"{CORE}/pods/pod-0",
    )
    for name in ("service", "pod", "revision"):
        sets.apply(name)
    revisions = "/apis/apps/v1/namespaces/default/controllerrevisions"

    def revision() -> dict[str, Any] | None:
        found = cluster.client.get(
            revisions, query={"labelSelector": "leaderworkerset.sigs.k8s.io/name=revision"}
        )
        return next(iter(found["items"]), None)

    first = cluster.until(revision, "the set has its revision")
    cluster.client.delete(sets.path("revision"))
    cluster.until(lambda: revision() is None, "it goes with its set")
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": first["metadata"]["name"], "namespace": "default"},
            "revision": 1,
            "data": {},
        },
        f"{revisions}/{first['metadata']['name']}",
    )
    sets.apply("revision")
    group = ("apps", "controllerrevisions", "get")
    cluster.until(lambda: group in used(cluster, "kajitori-controllers"), "it looks who has the name")
    for right in (("", "pods", "get"), ("", "services", "get")):
        cluster.until(lambda right=right: right in used(cluster, "kajitori-controllers"), f"{right}")


def test_the_gateway_needs_every_right_that_it_has_and_no_other(installed: Installation) -> None:
    process = installed.start("gateway")
    installed.until(lambda: process.ready and process.leads, "it leads")

    def apply(*documents: dict[str, Any]) -> None:
        for resource, body in map(completed, documents):
            installed.apply(body, resource.path("default", body["metadata"]["name"]))

    secret, policy = key_policy("r", "sk-r")
    http_route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "h"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"backendRefs": [{"name": "x", "port": 80}]}],
        },
    }
    apply(gateway(8080), *backend("r", 9), policy, ai_route("one", "m", {"name": "r"}), http_route)
    events = "/apis/events.k8s.io/v1/namespaces/default/events"

    def told(reason: str, count: int) -> bool:
        return any(
            event["reason"] == reason
            and event["regarding"]["kind"] == "BackendSecurityPolicy"
            and (event.get("series") or {}).get("count", 1) >= count
            for event in installed.client.get(events)["items"]
        )

    installed.until(lambda: told("NotAccepted", 1), "the missing Secret is told")
    apply(secret)
    installed.until(lambda: told("Accepted", 1), "all is well")
    installed.client.delete(SECRETS.path("default", "r-key"))
    installed.until(lambda: told("NotAccepted", 2), "it is told a second time")
    apply(*gateway_objects())
    written = {right for right in granted(installed, "kajitori-gateway") if right[1].endswith("/status")}
    installed.until(
        lambda: written <= used(installed, "kajitori-gateway"), "the status of each kind is written"
    )
    # A route that leaves our Gateways takes what stands for it along.
    apply(ai_route("one", "m", {"name": "r"}, parentRefs=[{"name": "of-somebody-else"}]))
    taken_away = {right for right in granted(installed, "kajitori-gateway") if right[1:] in _TAKEN_AWAY}
    installed.until(lambda: taken_away <= used(installed, "kajitori-gateway"), "what stood for it goes")
    assert process.terminate() == 0
    assert refused(installed, "kajitori-gateway") == []
    idle = granted(installed, "kajitori-gateway") - used(installed, "kajitori-gateway")
    assert idle == ONLY_CHECKED_OF_ROUTES
