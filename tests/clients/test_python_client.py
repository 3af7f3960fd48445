"""The Python `kubernetes` client, unmodified, against both API servers: typed, dynamic, watches, elections."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

from tests.servers import Place
from tests.world.conftest import wait_until

pytestmark = pytest.mark.world
GROUPS = ("leaderworkerset.x-k8s.io", "v1")


@pytest.fixture
def api(place: Place) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(place.kubeconfig)) as made:
        yield made
        made.rest_client.pool_manager.clear()


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def _config_map(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"a": "b"}), data=data)


def _groups(name: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    spec = {"replicas": 0, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
    return {
        "apiVersion": "/".join(GROUPS),
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_typed_objects_are_made_read_changed_and_deleted(core: client.CoreV1Api, namespace: str) -> None:
    made = core.create_namespaced_config_map(namespace, _config_map("one", x="1"))
    core.patch_namespaced_config_map("one", namespace, {"data": {"y": "2"}})
    core.patch_namespaced_config_map("one", namespace, [{"op": "add", "path": "/data/z", "value": "3"}])
    assert core.read_namespaced_config_map("one", namespace).data == {"x": "1", "y": "2", "z": "3"}
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("one", namespace, made)
    assert (conflict.value.status, conflict.value.reason) == (409, "Conflict")
    page = core.list_namespaced_config_map(namespace, limit=1)
    rest = core.list_namespaced_config_map(namespace, limit=10, _continue=page.metadata._continue)
    assert "one" in {each.metadata.name for each in [*page.items, *rest.items]}
    core.delete_namespaced_config_map("one", namespace, body=client.V1DeleteOptions())
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("one", namespace)
    assert gone.value.status == 404


def test_a_watch_tells_each_change_in_order(core: client.CoreV1Api, namespace: str) -> None:
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    seen: list[tuple[str, str]] = []
    watcher = watch.Watch()

    def follow() -> None:
        stream = watcher.stream(
            core.list_namespaced_config_map,
            namespace,
            label_selector="a=b",
            resource_version=version,
            timeout_seconds=20,
        )
        for event in stream:
            seen.append((event["type"], event["object"].data["x"]))
            if event["type"] == "DELETED":
                watcher.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    core.create_namespaced_config_map(namespace, _config_map("one", x="1"))
    core.patch_namespaced_config_map("one", namespace, {"data": {"x": "2"}})
    core.delete_namespaced_config_map("one", namespace)
    thread.join(20)
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_deployment_from_yaml_is_scaled(
    api: client.ApiClient, namespace: str, nodes: list[str], tmp_path: Path
) -> None:
    container = {"name": "main", "image": "busybox:1"}
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(document))
    utils.create_from_yaml(api, str(tmp_path / "web.yaml"), namespace=namespace)
    apps = client.AppsV1Api(api)
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, timeout_seconds=30):
        if (event["object"].status.ready_replicas or 0) == 2:
            break
    else:
        pytest.fail("the deployment has not two ready pods")
    assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 2


def test_custom_objects_are_patched_and_have_a_status(api: client.ApiClient, namespace: str) -> None:
    custom = client.CustomObjectsApi(api)
    where = (*GROUPS, namespace, "leaderworkersets")
    custom.create_namespaced_custom_object(*where, _groups("one"))
    custom.patch_namespaced_custom_object(*where, "one", {"spec": {"replicas": 1}})
    custom.patch_namespaced_custom_object_status(*where, "one", {"status": {"replicas": 0}})
    assert custom.get_namespaced_custom_object(*where, "one")["spec"]["replicas"] == 1
    assert custom.get_namespaced_custom_object_scale(*where, "one")["spec"]["replicas"] == 1
    assert len(custom.list_namespaced_custom_object(*where)["items"]) == 1
    custom.delete_namespaced_custom_object(*where, "one")


def test_the_dynamic_client_discovers_and_applies(api: client.ApiClient, namespace: str) -> None:
    found = dynamic.DynamicClient(api)
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"x": "1"}}
    maps.server_side_apply(body=body, name="one", namespace=namespace, field_manager="py")
    with pytest.raises(dynamic.exceptions.ConflictError):
        changed = {**body, "data": {"x": "2"}}
        maps.server_side_apply(body=changed, name="one", namespace=namespace, field_manager="other")
    maps.server_side_apply(
        body=changed, name="one", namespace=namespace, field_manager="other", force_conflicts=True
    )
    assert maps.get(name="one", namespace=namespace).data.x == "2"
    groups = found.resources.get(api_version="/".join(GROUPS), kind="LeaderWorkerSet")
    groups.create(body=_groups("one"), namespace=namespace)
    assert [each.metadata.name for each in groups.get(namespace=namespace).items] == ["one"]
    with pytest.raises(dynamic.exceptions.NotFoundError):
        maps.get(name="none", namespace=namespace)


def test_a_token_in_a_kubeconfig_is_its_account(core: client.CoreV1Api, place: Place, namespace: str) -> None:
    body = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot"))
    core.create_namespaced_service_account(namespace, body)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    token = core.create_namespaced_service_account_token("robot", namespace, request).status.token
    document = yaml.safe_load(place.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    with config.new_client_from_config_dict(document) as robot:
        review = client.AuthenticationV1Api(robot).create_self_subject_review(client.V1SelfSubjectReview())
        assert review.status.user_info.username == f"system:serviceaccount:{namespace}:robot"
        with pytest.raises(ApiException) as refused:
            client.CoreV1Api(robot).list_namespaced_config_map(namespace)
        robot.rest_client.pool_manager.clear()
    assert refused.value.status == 403


def test_one_of_two_candidates_leads_and_the_other_takes_over(
    core: client.CoreV1Api, api: client.ApiClient, place: Place, namespace: str
) -> None:
    words = [sys.executable, str(Path(__file__).with_name("elector.py")), str(place.kubeconfig), namespace]
    coordination = client.CoordinationV1Api(api)

    def holder() -> str:
        try:
            return coordination.read_namespaced_lease("leader", namespace).spec.holder_identity
        except ApiException:
            return ""

    electors = {name: subprocess.Popen([*words, name], stderr=subprocess.DEVNULL) for name in ("a", "b")}
    try:
        leader = wait_until(holder, "one leads", 20)
        electors[leader].kill()
        other = "b" if leader == "a" else "a"
        wait_until(lambda: holder() == other, "the other leads", 20)
    finally:
        for process in electors.values():
            process.kill()
            process.wait()
