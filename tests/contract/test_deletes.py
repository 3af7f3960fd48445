"""DELETE: preconditions, finalizers, the three ways with dependents, graces of pods, collections."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import Server, config_map, pod
from tests.waiting import eventually

Object = dict[str, Any]


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def _gone(server: Server, path: str) -> bool:
    return (await server.http.get(path)).code == 404


async def test_what_is_gone_at_once_is_told_by_a_status(server: Server, maps: str, namespace: str) -> None:
    made = (await server.http.create(maps, config_map("a"))).ok()
    status = (await server.http.delete(f"{maps}/a")).ok()
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("p", schedulerName="nobody"))).ok()
    assert (await server.http.delete(f"{path}/p")).ok()["kind"] == "Pod"
    assert await _gone(server, f"{path}/p")


async def test_a_precondition_names_the_object_that_is_meant(server: Server, maps: str) -> None:
    made = (await server.http.create(maps, config_map("a"))).ok()
    uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    start = 'Operation cannot be fulfilled on ConfigMap "a": '
    for wanted, message in (
        (
            {"uid": "zz"},
            f"the UID in the precondition (zz) does not match the UID in record ({uid}). The object might have been"
            " deleted and then recreated",
        ),
        (
            {"resourceVersion": "1"},
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record"
            f" ({version}). The object might have been modified",
        ),
    ):
        answer = await server.http.delete(f"{maps}/a", {"preconditions": wanted})
        assert (answer.code, answer.json["message"]) == (409, start + message)
        assert answer.json["details"] == {"name": "a", "kind": "ConfigMap"}
    right = {"preconditions": {"uid": uid, "resourceVersion": version}}
    assert (await server.http.delete(f"{maps}/a", right)).code == 200


async def test_options_that_mean_nothing_are_refused(server: Server, maps: str) -> None:
    (await server.http.create(maps, config_map("a"))).ok()
    unknown = 'Unsupported value: "Some": supported values: "Foreground", "Background", "Orphan", "nil"'
    both = 'Invalid value: "Some": orphanDependents and deletionPropagation cannot be both set'
    answer = await server.http.delete(f"{maps}/a", propagationPolicy="Some")
    assert [cause["message"] for cause in answer.json["details"]["causes"]] == [unknown]
    answer = await server.http.delete(f"{maps}/a", {"propagationPolicy": "Some", "orphanDependents": True})
    assert [cause["message"] for cause in answer.json["details"]["causes"]] == [both, unknown]
    assert answer.json["details"]["kind"] == "DeleteOptions"
    answer = await server.http.delete(f"{maps}/a", {"kind": "Foo", "apiVersion": "v1"})
    assert answer.code == 400
    assert answer.json["message"].startswith('no kind "Foo" is registered for version "v1"')
    assert (await server.http.get(f"{maps}/a")).code == 200


async def test_finalizers_keep_an_object_until_the_last_is_taken_away(server: Server, maps: str) -> None:
    sent = config_map("a")
    sent["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    made = (await server.http.create(maps, sent)).ok()
    marked = (await server.http.delete(f"{maps}/a")).ok()
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    again = (await server.http.delete(f"{maps}/a")).ok()
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    (await server.http.merge(f"{maps}/a", {"data": {"still": "writable"}})).ok()
    refused = await server.http.merge(f"{maps}/a", {"metadata": {"finalizers": ["x/new", "example.com/one"]}})
    assert refused.code == 422
    text = "no new finalizers can be added if the object is being deleted, found new finalizers"
    # A real server may tell a cause twice.
    told = {cause["message"] for cause in refused.json["details"]["causes"]}
    assert told == {f'Forbidden: {text} []string{{"x/new"}}'}
    (await server.http.merge(f"{maps}/a", {"metadata": {"finalizers": ["example.com/two"]}})).ok()
    last = (await server.http.merge(f"{maps}/a", {"metadata": {"finalizers": None}})).ok()
    assert last["metadata"]["uid"] == made["metadata"]["uid"]
    assert await _gone(server, f"{maps}/a")


async def test_marking_for_deletion_counts_as_a_generation(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    sent = {
        "metadata": {"name": "r", "finalizers": ["example.com/x"]},
        "spec": {"replicas": 0, "selector": {"a": "b"}, "template": template},
    }
    assert (await server.http.create(path, sent)).ok()["metadata"]["generation"] == 1
    assert (await server.http.delete(f"{path}/r")).ok()["metadata"]["generation"] == 2
    (await server.http.merge(f"{path}/r", {"metadata": {"finalizers": None}})).ok()


async def _family(server: Server, maps: str, *, blocking: bool = False) -> None:
    """A map `owner` and one `child` that it owns."""
    owner = (await server.http.create(maps, config_map("owner"))).ok()
    child = config_map("child")
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": blocking,
    }
    child["metadata"]["ownerReferences"] = [reference]
    (await server.http.create(maps, child)).ok()


async def test_in_the_background_the_owner_goes_first_and_its_dependents_follow(
    server: Server, maps: str
) -> None:
    await _family(server, maps)
    answer = (await server.http.delete(f"{maps}/owner", {"propagationPolicy": "Background"})).ok()
    assert answer["status"] == "Success"
    assert await _gone(server, f"{maps}/owner")
    await eventually(lambda: _gone(server, f"{maps}/child"), "the dependent is gone")


async def test_in_the_foreground_the_owner_waits_for_its_dependents(server: Server, maps: str) -> None:
    await _family(server, maps, blocking=True)
    (await server.http.merge(f"{maps}/child", {"metadata": {"finalizers": ["example.com/x"]}})).ok()
    answer = (await server.http.delete(f"{maps}/owner", {"propagationPolicy": "Foreground"})).ok()
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert answer["metadata"]["deletionTimestamp"]

    async def marked() -> bool:
        child = (await server.http.get(f"{maps}/child")).ok()
        return "deletionTimestamp" in child["metadata"]

    await eventually(marked, "the dependent is asked to go")
    assert (await server.http.get(f"{maps}/owner")).code == 200
    (await server.http.merge(f"{maps}/child", {"metadata": {"finalizers": None}})).ok()
    await eventually(lambda: _gone(server, f"{maps}/owner"), "the owner is gone")


async def test_an_orphan_stays_without_its_owner(server: Server, maps: str) -> None:
    await _family(server, maps)
    answer = (await server.http.delete(f"{maps}/owner", {"propagationPolicy": "Orphan"})).ok()
    assert answer["metadata"]["finalizers"] == ["orphan"]
    await eventually(lambda: _gone(server, f"{maps}/owner"), "the owner is gone")
    child = (await server.http.get(f"{maps}/child")).ok()
    assert "ownerReferences" not in child["metadata"]


async def test_what_names_an_owner_that_never_was_is_deleted(server: Server, maps: str) -> None:
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "nobody",
            "uid": "00000000-0000-4000-8000-000000000000",
        }
    ]
    (await server.http.create(maps, child)).ok()
    await eventually(lambda: _gone(server, f"{maps}/child"), "the dependent is gone")


async def test_jobs_keep_their_pods_unless_asked_otherwise_and_say_so(server: Server, namespace: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    for name, options, warned in (("a", None, True), ("b", {"propagationPolicy": "Background"}, False)):
        (
            await server.http.create(
                path, {"metadata": {"name": name}, "spec": {"suspend": True, "template": template}}
            )
        ).ok()
        answer = await server.http.delete(f"{path}/{name}", options)
        assert answer.code == 200
        texts = answer.headers.getall("Warning", [])
        assert len(texts) == warned
        assert all("child pods are preserved by default when jobs are deleted" in text for text in texts)


async def test_a_bound_pod_gets_its_grace_which_later_deletes_only_shorten(
    server: Server, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = pod("p", schedulerName="nobody", terminationGracePeriodSeconds=40)
    (await server.http.create(path, spec)).ok()
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "nowhere"}}
    (await server.http.create(f"{path}/p/binding", binding)).ok()

    async def grace(options: Object | None = None) -> int:
        shown = (await server.http.delete(f"{path}/p", options)).ok()["metadata"]
        assert shown["deletionTimestamp"]
        return shown["deletionGracePeriodSeconds"]

    assert await grace() == 40
    assert await grace({"gracePeriodSeconds": 60}) == 40
    assert await grace({"gracePeriodSeconds": 10}) == 10
    assert (await server.http.delete(f"{path}/p", {"gracePeriodSeconds": 0})).code == 200
    assert await _gone(server, f"{path}/p")


async def test_a_collection_is_deleted_by_selectors_and_shows_what_was_there(
    server: Server, maps: str
) -> None:
    for name, app in (("a", "x"), ("b", "x"), ("c", "y")):
        sent = config_map(name, key="value")
        sent["metadata"]["labels"] = {"app": app}
        (await server.http.create(maps, sent)).ok()
    shown = (await server.http.delete(maps, labelSelector="app=x", dryRun="All")).ok()
    assert [item["metadata"]["name"] for item in shown["items"]] == ["a", "b"]
    shown = (await server.http.delete(maps, labelSelector="app=x", fieldSelector="metadata.name=a")).ok()
    assert shown["kind"] == "ConfigMapList"
    assert [item["data"] for item in shown["items"]] == [{"key": "value"}]
    left = (await server.http.get(maps, labelSelector="app")).ok()["items"]
    assert [item["metadata"]["name"] for item in left] == ["b", "c"]
    assert (await server.http.delete(maps, labelSelector="app=none")).ok()["items"] == []
