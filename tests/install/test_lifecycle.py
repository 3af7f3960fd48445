"""From nothing to nothing on a real API server with RBAC on: install, use, upgrade, uninstall; two replicas, one dies."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tools.kubernetes.build import build

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, LEADER_WORKER_SETS
from kajitori.app.install.definitions import storage_version_hash
from kajitori.app.install.render import render
from kajitori.app.install.values import complete
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from tests.install.installation import NAMESPACE, Installation, lease_holder

SHORT_LEASE = ("--lease-seconds=4", "--renew-deadline-seconds=3", "--retry-seconds=0.5")
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


def a_set(name: str, *, replicas: int = 1, size: int = 4) -> dict[str, Any]:
    return {
        "apiVersion": LEADER_WORKER_SETS.api_version,
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": {
                "size": size,
                "workerTemplate": {"spec": {"containers": [{"name": "engine", "image": "busybox:1"}]}},
            },
        },
    }


def apply_set(cluster: Installation, body: dict[str, Any]) -> None:
    cluster.apply(body, LEADER_WORKER_SETS.path("default", body["metadata"]["name"]))


def pods_of(cluster: Installation, name: str) -> list[dict[str, Any]]:
    query = {"labelSelector": f"leaderworkerset.sigs.k8s.io/name={name}"}
    return cluster.client.get("/api/v1/namespaces/default/pods", query=query)["items"]


def test_what_others_brought_stays_and_is_named(cluster: Installation) -> None:
    name = "leaderworkersets.leaderworkerset.x-k8s.io"
    bundle = next(each for each in all_crds() if each["metadata"]["name"] == name)
    bundle["metadata"] = {
        "name": name,
        "annotations": {
            "api-approved.kubernetes.io": "unapproved, a test",
            "controller-gen.kubebuilder.io/version": "v0.17.2",
        },
    }
    path = CUSTOM_RESOURCE_DEFINITIONS.path(None, name)
    cluster.kaji("uninstall", "--yes", "--delete-crds")
    cluster.until(lambda: cluster.get(path) is None, "ours is gone")
    cluster.apply(bundle, path)
    try:
        before = cluster.client.get(path)["metadata"]["generation"]
        told = cluster.kaji("install", "--no-wait")
        assert f"{name}: it is not Kajitori's (of v0.17.2); managed by test" in told
        assert cluster.client.get(path)["metadata"]["generation"] == before
        cluster.kaji("uninstall", "--yes", "--delete-crds")
        assert cluster.get(path), "nor is it deleted"
    finally:
        # The next installation may meet it while it goes.
        cluster.client.delete(path)
        cluster.until(lambda: cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None, "no namespace")


def test_a_definition_that_is_on_its_way_out_is_waited_for_and_made_anew(installed: Installation) -> None:
    name = "leaderworkersets.leaderworkerset.x-k8s.io"
    path = CUSTOM_RESOURCE_DEFINITIONS.path(None, name)
    held = a_set("held", replicas=0)
    held["metadata"]["finalizers"] = ["example.com/held"]
    apply_set(installed, held)
    installed.client.delete(path)
    gone = installed.get(path)
    assert gone and gone["metadata"]["deletionTimestamp"]
    release = threading.Timer(1.0, _release, (installed.plane.kubeconfig,))
    release.start()
    try:
        installed.kaji("install", "--no-wait", "--set", "envoy.service.type=ClusterIP")
    finally:
        release.join()
    made = installed.get(path)
    assert made and made["metadata"]["uid"] != gone["metadata"]["uid"]
    apply_set(installed, a_set("free", replicas=0))


def _release(kubeconfig: Path) -> None:
    with DirectClient(load_config(str(kubeconfig))) as client:
        client.request(
            "PATCH",
            LEADER_WORKER_SETS.path("default", "held"),
            body=b'{"metadata": {"finalizers": null}}',
            content_type="application/merge-patch+json",
        )


def test_two_replicas_act_as_one_and_the_second_takes_over_when_the_first_is_killed(
    installed: Installation,
) -> None:
    both = [installed.start("controllers", *SHORT_LEASE) for _ in range(2)]
    installed.until(lambda: all(each.ready for each in both), "both are ready")
    leader = installed.until(lambda: next((each for each in both if each.leads), None), "one leads")
    follower = next(each for each in both if each is not leader)
    assert not follower.leads
    apply_set(installed, a_set("calm"))
    installed.until(lambda: len(pods_of(installed, "calm")) == 4, "the leader makes pods")

    apply_set(installed, a_set("stormy", replicas=12, size=3))
    installed.until(lambda: len(pods_of(installed, "stormy")) >= 2, "it has begun")
    leader.kill()
    # 4 s of lease, half a second to the next attempt; the rest is for a busy machine.
    installed.until(lambda: follower.leads, "the other takes over", seconds=20)
    installed.until(lambda: len(pods_of(installed, "stormy")) == 36, "and finishes")
    assert_created_once(installed, "calm", "stormy")
    assert follower.terminate() == 0


def assert_created_once(cluster: Installation, *sets: str) -> None:
    """By the audit log: whoever was cut off when, no pod was made a second time."""
    created = Counter(
        event["objectRef"]["name"]
        for event in cluster.audited("kajitori-controllers")
        if event["verb"] == "create"
        and event["objectRef"]["resource"] == "pods"
        and event["objectRef"]["name"].startswith(sets)
        and event["responseStatus"]["code"] == 201
    )
    assert created and set(created.values()) == {1}, created.most_common(3)


def test_a_rolling_restart_hands_over_at_once(installed: Installation) -> None:
    first = installed.start("controllers")
    installed.until(lambda: first.leads, "it leads")
    second = installed.start("controllers")
    installed.until(lambda: second.ready, "the other waits, ready")
    assert first.terminate() == 0
    # The lease lasts 15 s: whoever waits for its end would not make it.
    installed.until(lambda: second.leads, "the other leads", seconds=10)


def test_ours_stands_back_while_an_upstream_controller_is_there(installed: Installation) -> None:
    upstream = "/apis/apps/v1/namespaces/default/deployments/lws-controller-manager"
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "lws-controller-manager", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "lws"}},
            "template": {
                "metadata": {"labels": {"app": "lws"}},
                "spec": {"containers": [{"name": "manager", "image": "example/lws"}]},
            },
        },
    }
    controllers = installed.start("controllers")
    installed.until(lambda: controllers.leads, "it leads")
    installed.apply(deployment, upstream)
    status = f"/api/v1/namespaces/{NAMESPACE}/configmaps/kajitori-controllers-status"

    def acts() -> bool | None:
        data = (installed.get(status) or {}).get("data", {}).get("capabilities")
        return json.loads(data)[0]["acts"] if data else None

    installed.until(lambda: acts() is False, "it says that it stands back")
    apply_set(installed, a_set("theirs"))
    told = installed.kaji("install", "--no-wait", "--set", "envoy.service.type=ClusterIP")
    assert "off" in told and "Deployment default/lws-controller-manager" in told
    assert "lws-controller-manager" in installed.kaji("status", code=0)
    assert not pods_of(installed, "theirs")
    installed.client.delete(upstream)
    installed.until(lambda: len(pods_of(installed, "theirs")) == 4, "it takes over when the other goes")
    installed.until(lambda: acts() is True, "and says so")
    reasons = {
        event["reason"]
        for event in installed.client.get(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")["items"]
    }
    assert {"ServedByUpstream", "TakenOver"} <= reasons


def test_missing_rights_are_named_before_anything_is_applied(cluster: Installation) -> None:
    poor = cluster.plane.kubeconfig_of("poor", groups=("nobody",))
    told = cluster.kaji("install", "--no-wait", code=2, kubeconfig=poor)
    assert "this user may not:\n  get, create, patch, list namespaces\n" in told
    assert "nothing was changed" in told
    assert cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None
    told = cluster.kaji("uninstall", "--yes", code=2, kubeconfig=poor)
    assert "list deployments.apps" in told
    assert "use a kubeconfig of a cluster administrator" in told
    told = cluster.kaji("upgrade", code=2, kubeconfig=poor)
    assert f"get configmaps in namespace {NAMESPACE}" in told
    assert "nothing was changed" in told


def test_an_upgrade_rewrites_what_is_stored_in_an_old_version(installed: Installation) -> None:
    """An earlier version of ours stored AIServiceBackends as v1alpha1."""
    name = "aiservicebackends.aigateway.envoyproxy.io"
    path = CUSTOM_RESOURCE_DEFINITIONS.path(None, name)
    old = installed.client.get(path)
    for version in old["spec"]["versions"]:
        version["storage"] = version["name"] == "v1alpha1"
    old["metadata"] = {
        "name": name,
        "labels": old["metadata"]["labels"],
        "annotations": old["metadata"]["annotations"],
    }
    old.pop("status")
    installed.client.apply(path, old, {"fieldManager": "kaji-install", "force": "true"})
    installed.until(lambda: "v1alpha1" in installed.client.get(path)["status"]["storedVersions"], "stored so")
    backend = {
        "apiVersion": "aigateway.envoyproxy.io/v1alpha1",
        "kind": "AIServiceBackend",
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {
            "schema": {"name": "OpenAI"},
            "backendRef": {"name": "b", "kind": "Backend", "group": "gateway.envoyproxy.io"},
        },
    }
    group = "/apis/aigateway.envoyproxy.io/v1alpha1"
    where = f"{group}/namespaces/default/aiservicebackends/b"
    hashed = storage_version_hash("aigateway.envoyproxy.io", "v1alpha1", "AIServiceBackend")
    installed.until(
        lambda: any(
            item.get("storageVersionHash") == hashed for item in installed.client.get(group)["resources"]
        ),
        "the server writes the old version",
    )
    installed.until(lambda: _tried(lambda: installed.apply(backend, where)), "the old version takes it")
    before = installed.client.get(where)["metadata"]
    told = installed.kaji("upgrade", "--no-wait")
    assert f"{name}: 1 objects are stored as v1beta1 now" in told
    assert installed.client.get(path)["status"]["storedVersions"] == ["v1beta1"]
    after = installed.client.get(where)["metadata"]
    assert after["uid"] == before["uid"] and after["resourceVersion"] != before["resourceVersion"]


def _tried(action: Any) -> bool:
    from kajitori.base.errors import ApiError

    try:
        action()
    except ApiError:
        return False
    return True


def test_a_downgrade_is_refused(installed: Installation) -> None:
    patch = {"metadata": {"labels": {"app.kubernetes.io/version": "99.0.0"}}}
    installed.client.request(
        "PATCH",
        f"{DEPLOYMENTS}/kajitori-controllers",
        body=json.dumps(patch).encode(),
        content_type="application/merge-patch+json",
    )
    for command in ("install", "upgrade"):
        told = installed.kaji(command, "--no-wait", code=2)
        assert "99.0.0 is installed" in told and "downgrades are refused" in told


def test_helm_installs_and_removes_the_same_and_the_two_do_not_mix(cluster: Installation) -> None:
    helm = build() / "helm"
    chart = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "kajitori"

    def run(*words: str) -> None:
        command = [helm, *words, "--namespace", NAMESPACE, "--kubeconfig", str(cluster.plane.kubeconfig)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run("install", "kajitori", str(chart), "--create-namespace", "--set", "groups.replicas=1")
    try:
        controllers = cluster.start("controllers")
        cluster.until(lambda: controllers.leads, "what Helm installed leads")
        apply_set(cluster, a_set("by-helm"))
        cluster.until(lambda: len(pods_of(cluster, "by-helm")) == 4, "and makes pods")
        run("upgrade", "kajitori", str(chart), "--set", "groups.replicas=3")
        assert cluster.client.get(f"{DEPLOYMENTS}/kajitori-controllers")["spec"]["replicas"] == 3
        assert "Helm manages this installation" in cluster.kaji("install", "--no-wait", code=2)
        assert "from" not in cluster.kaji("upgrade", "--only-definitions")
        assert "Helm manages the installation" in cluster.kaji("uninstall", "--yes", code=2)
    finally:
        cluster.stop_all()
        run("uninstall", "kajitori")
    assert cluster.get(f"{DEPLOYMENTS}/kajitori-controllers") is None
    assert len(pods_of(cluster, "by-helm")) == 4, "users' objects stay"
    cluster.client.delete(LEADER_WORKER_SETS.path("default", "by-helm"))
    cluster.kaji("uninstall", "--yes")
    cluster.client.delete(f"/api/v1/namespaces/{NAMESPACE}")
    cluster.until(lambda: cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None, "no namespace")


def _path(obj: dict[str, Any]) -> str:
    from kajitori.app.install.cluster import path_of

    return path_of(obj)


def test_install_use_upgrade_uninstall(cluster: Installation) -> None:
    told = cluster.kaji("install", "--no-wait", "--set", "groups.replicas=1")
    assert f"{len(all_crds())} of {len(all_crds())} applied and served" in told
    assert "off" not in told
    labels = cluster.client.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def versions() -> dict[str, str]:
        return {
            f"{each['kind']}/{name}": found["metadata"]["resourceVersion"]
            for each in render(complete({}), NAMESPACE)
            if each["kind"] in ("ClusterRole", "ConfigMap", "Service", "NetworkPolicy")
            and "status" not in (name := each["metadata"]["name"])
            and (found := cluster.get(_path(each)))
        }

    before = versions()
    assert before
    cluster.kaji("install", "--no-wait", "--set", "groups.replicas=1")
    assert versions() == before, "a second time changes nothing"

    controllers, gateway = cluster.start("controllers"), cluster.start("gateway")
    cluster.until(lambda: controllers.ready and gateway.ready, "both are ready")
    apply_set(cluster, a_set("first"))
    cluster.until(lambda: len(pods_of(cluster, "first")) == 4, "the group's pods are made")

    told = cluster.kaji("upgrade", "--no-wait", "--set", "envoy.replicas=3")
    assert cluster.client.get(f"{DEPLOYMENTS}/kajitori-controllers")["spec"]["replicas"] == 1, "kept"
    assert cluster.client.get(f"{DEPLOYMENTS}/kajitori-envoy")["spec"]["replicas"] == 3
    uids = {pod["metadata"]["uid"] for pod in pods_of(cluster, "first")}

    assert controllers.terminate() == 0 and gateway.terminate() == 0
    assert lease_holder(cluster, "controllers") == "", "given back"
    cluster.kaji("uninstall", code=2)
    assert cluster.get(f"{DEPLOYMENTS}/kajitori-controllers")
    told = cluster.kaji("uninstall", "--yes")
    assert f"{len(all_crds())} definitions with 1 objects of users" in told
    cluster.until(lambda: cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None, "the namespace is gone")
    for kind in ("clusterroles", "clusterrolebindings"):
        left = cluster.client.get(f"/apis/rbac.authorization.k8s.io/v1/{kind}")["items"]
        assert not [each for each in left if each["metadata"]["name"].startswith("kajitori")]
    policies = cluster.client.get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")[
        "items"
    ]
    assert not [each for each in policies if each["metadata"]["name"].endswith("kajitori.dev")]
    assert {pod["metadata"]["uid"] for pod in pods_of(cluster, "first")} == uids, "users' objects stay"
    assert "nothing" in cluster.kaji("uninstall", "--yes")
    assert "leaderworkersets" in cluster.kaji("uninstall", "--yes", "--delete-crds")
    cluster.until(lambda: not pods_of(cluster, "first"), "with its definition the set goes, and its pods")


def test_an_installation_right_after_an_uninstallation_waits_for_the_namespace(
    installed: Installation,
) -> None:
    installed.kaji("uninstall", "--yes")
    assert "done" in installed.kaji("install", "--no-wait", "--set", "envoy.service.type=ClusterIP")
