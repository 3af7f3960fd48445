"""lightkube, unmodified, synchronous and asynchronous, against both API servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import lightkube
import pytest
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType

from tests.servers import Place, Server

pytestmark = pytest.mark.world
Groups = create_namespaced_resource("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets")


def _config(place: Place) -> lightkube.KubeConfig:
    return lightkube.KubeConfig.from_file(str(place.kubeconfig))


@pytest.fixture
def client(place: Place, namespace: str) -> Iterator[lightkube.Client]:
    with lightkube.Client(config=_config(place), namespace=namespace, field_manager="light") as client:
        yield client


def _deployment(name: str, replicas: int) -> Deployment:
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": name}),
        spec=PodSpec(containers=[Container(name="main", image="busybox:1")]),
    )
    spec = DeploymentSpec(
        selector=LabelSelector(matchLabels={"app": name}), template=template, replicas=replicas
    )
    return Deployment(metadata=ObjectMeta(name=name), spec=spec)


def test_objects_are_made_read_changed_and_deleted(client: lightkube.Client) -> None:
    made = client.create(ConfigMap(metadata=ObjectMeta(name="one", labels={"a": "b"}), data={"x": "1"}))
    made.data = {"x": "2"}
    client.replace(made)
    client.patch(ConfigMap, "one", {"data": {"y": "3"}})
    client.patch(ConfigMap, "one", {"data": {"x": None}}, patch_type=PatchType.MERGE)
    client.patch(
        ConfigMap, "one", [{"op": "add", "path": "/data/z", "value": "4"}], patch_type=PatchType.JSON
    )
    assert client.get(ConfigMap, "one").data == {"y": "3", "z": "4"}
    made.data = {"x": "5"}
    with pytest.raises(ApiError) as conflict:
        client.replace(made)
    assert conflict.value.status.reason == "Conflict"
    assert [each.metadata.name for each in client.list(ConfigMap, labels={"a": "b"}, chunk_size=1)] == ["one"]
    client.delete(ConfigMap, "one")
    with pytest.raises(ApiError) as gone:
        client.get(ConfigMap, "one")
    assert gone.value.status.code == 404
    assert gone.value.status.details.name == "one"


def test_a_deployment_is_applied_scaled_and_waited_for(client: lightkube.Client, nodes: list[str]) -> None:
    client.apply(_deployment("web", 1))
    found = client.wait(Deployment, "web", for_conditions=["Available"])
    assert found.status.readyReplicas == 1
    scale = client.get(Deployment.Scale, "web")
    scale.spec = ScaleSpec(replicas=2)
    client.replace(scale, "web")
    for _event, deployment in client.watch(Deployment, fields={"metadata.name": "web"}, server_timeout=30):
        if (deployment.status.readyReplicas or 0) == 2:
            break
    assert len(list(client.list(Pod, labels={"app": "web"}))) == 2
    client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)


def test_custom_resources_need_no_models(client: lightkube.Client) -> None:
    template = {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    spec = {"replicas": 0, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
    client.create(Groups(metadata=ObjectMeta(name="groups"), spec=spec))
    client.patch(Groups, "groups", {"spec": {"replicas": 1}}, patch_type=PatchType.MERGE)
    assert client.get(Groups, "groups").spec["replicas"] == 1
    client.patch(Groups.Status, "groups", {"status": {"replicas": 0}}, patch_type=PatchType.MERGE)
    client.delete(Groups, "groups")


def test_a_watch_tells_each_change_in_order(client: lightkube.Client) -> None:
    seen: list[tuple[str, str]] = []
    found = client.list(ConfigMap)
    list(found)
    version = found.resourceVersion

    def watch() -> None:
        for event, found in client.watch(ConfigMap, resource_version=version, server_timeout=20):
            seen.append((event, (found.data or {}).get("x", "")))
            if event == "DELETED":
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    client.create(ConfigMap(metadata=ObjectMeta(name="one"), data={"x": "1"}))
    client.patch(ConfigMap, "one", {"data": {"x": "2"}})
    client.delete(ConfigMap, "one")
    watcher.join(20)
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


async def test_the_asynchronous_client_does_the_same(server: Server, namespace: str) -> None:
    client = lightkube.AsyncClient(config=_config(server.place), namespace=namespace, field_manager="light")
    names = [f"c{number}" for number in range(5)]
    await asyncio.gather(
        *(client.apply(ConfigMap(metadata=ObjectMeta(name=name), data={"x": name})) for name in names)
    )
    found = [each.metadata.name async for each in client.list(ConfigMap, fields={"metadata.name": "c3"})]
    assert found == ["c3"]
    async for event, each in client.watch(ConfigMap, server_timeout=20):
        if each.metadata.name in names:
            names.remove(each.metadata.name)
        assert event == "ADDED"
        if not names:
            break
    await client.deletecollection(ConfigMap)
    await client.close()
