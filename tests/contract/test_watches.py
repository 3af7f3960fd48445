"""Watches: from which version, what they tell, how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tests.servers import Server, config_map
from tests.wire import Watch

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


@pytest.fixture
def path(namespace: str) -> str:
    """Where leases are: only the test makes any."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def lease(name: str, holder: str = "a", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"holderIdentity": holder}}


async def told(watch: Watch, count: int) -> list[tuple[str, str]]:
    return [(e["type"], e["object"]["metadata"].get("name", "")) for e in await watch.take(count)]


async def version(server: Server, path: str) -> str:
    return (await server.http.get(path)).ok()["metadata"]["resourceVersion"]


async def test_a_watch_goes_on_after_the_version_it_names(server: Server, path: str) -> None:
    (await server.http.create(path, lease("a"))).ok()
    start = await version(server, path)
    (await server.http.create(path, lease("b"))).ok()
    (await server.http.merge(f"{path}/a", {"spec": {"holderIdentity": "b"}})).ok()
    (await server.http.delete(f"{path}/a")).ok()
    async with server.http.watch(path, resourceVersion=start) as watch:
        assert await told(watch, 3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_without_a_version_what_is_there_comes_first(server: Server, path: str) -> None:
    for name in ("a", "b"):
        await server.http.create(path, lease(name))
    for query in ({}, {"resourceVersion": "0"}):
        async with server.http.watch(path, **query) as watch:
            assert sorted(await told(watch, 2)) == [("ADDED", "a"), ("ADDED", "b")]
            await server.http.merge(
                f"{path}/a", {"metadata": {"labels": {"x": query.get("resourceVersion", "")}}}
            )
            assert await told(watch, 1) == [("MODIFIED", "a")]


async def test_initial_events_end_with_a_marked_bookmark(server: Server, path: str) -> None:
    made = (await server.http.create(path, lease("a"))).ok()
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with server.http.watch(path, **query) as watch:
        added, bookmark = await watch.take(2)
        assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "a")
        assert bookmark["type"] == "BOOKMARK"
        shown = bookmark["object"]
        assert (shown["kind"], shown["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")
        assert shown["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(shown["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
        await server.http.delete(f"{path}/a")
        assert await told(watch, 1) == [("DELETED", "a")]


async def test_an_empty_collection_has_the_bookmark_alone(server: Server, path: str) -> None:
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with server.http.watch(path, **query) as watch:
        (bookmark,) = await watch.take(1)
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_version_that_is_too_old_ends_the_watch_with_410(server: Server, namespace: str) -> None:
    # The real one's cache of a definition's kind begins after its first version; ours holds so many bytes.
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets"
    if server.name == "embedded":
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        (await server.http.create(path, config_map("large"))).ok()
        for number in range(30):
            (await server.http.merge(f"{path}/large", {"data": {"text": f"{number}" + "x" * 900_000}})).ok()
    answer = await server.http.request("GET", path, watch="true", resourceVersion="1", timeoutSeconds="5")
    (line,) = answer.body.splitlines()
    assert answer.code == 200
    event = msgspec.json.decode(line)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: 1 (")


async def test_a_version_of_the_future_is_silent_until_then(server: Server, path: str) -> None:
    async with server.http.watch(
        path, resourceVersion=str(int(await version(server, path)) + 100_000)
    ) as watch:
        (await server.http.create(path, lease("a"))).ok()
        with pytest.raises(TimeoutError):
            await watch.next(0.3)


async def test_a_watch_ends_cleanly_after_its_seconds(server: Server, path: str) -> None:
    async with server.http.watch(
        path, resourceVersion=await version(server, path), timeoutSeconds="1"
    ) as watch:
        with pytest.raises(EOFError):
            await watch.next(20)


async def test_a_write_that_changes_nothing_is_not_told_and_has_no_version(server: Server, path: str) -> None:
    made = (await server.http.create(path, lease("a"))).ok()
    async with server.http.watch(path, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        again = (await server.http.merge(f"{path}/a", {"spec": {"holderIdentity": "a"}})).ok()
        put = (await server.http.put(f"{path}/a", made)).ok()
        assert {again["metadata"]["resourceVersion"], put["metadata"]["resourceVersion"]} == {
            made["metadata"]["resourceVersion"]
        }
        (await server.http.merge(f"{path}/a", {"spec": {"holderIdentity": "b"}})).ok()
        event = await watch.next()
    assert event["object"]["spec"]["holderIdentity"] == "b"


async def test_a_deletion_carries_the_last_state_under_a_new_version(server: Server, path: str) -> None:
    made = (await server.http.create(path, lease("a", "last", app="x"))).ok()
    async with server.http.watch(path, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        await server.http.delete(f"{path}/a")
        event = await watch.next()
    assert event["type"] == "DELETED"
    assert event["object"]["spec"] == {"holderIdentity": "last"}
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_entering_a_selector_is_added_and_leaving_it_deleted(server: Server, path: str) -> None:
    (await server.http.create(path, lease("a", app="y"))).ok()
    start = await version(server, path)
    async with server.http.watch(path, resourceVersion=start, labelSelector="app=x") as watch:
        for app in ("x", "x", "y"):
            (await server.http.merge(f"{path}/a", {"metadata": {"labels": {"app": app}}})).ok()
        (await server.http.merge(f"{path}/a", {"metadata": {"labels": {"app": "x"}}})).ok()
        (await server.http.delete(f"{path}/a")).ok()
        added, left, again, gone = await watch.take(4)
    assert [e["type"] for e in (added, left, again, gone)] == ["ADDED", "DELETED", "ADDED", "DELETED"]
    assert left["object"]["metadata"]["labels"] == {"app": "x"}
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in (added, left, again, gone)]
    assert versions == sorted(set(versions))


async def test_one_name_can_be_watched(server: Server, path: str) -> None:
    start = await version(server, path)
    async with server.http.watch(path, resourceVersion=start, fieldSelector="metadata.name=b") as watch:
        for name in ("a", "b"):
            (await server.http.create(path, lease(name))).ok()
        (await server.http.delete(f"{path}/a")).ok()
        (await server.http.delete(f"{path}/b")).ok()
        assert await told(watch, 2) == [("ADDED", "b"), ("DELETED", "b")]


async def test_all_namespaces_can_be_watched(server: Server, namespace: str) -> None:
    everywhere = "/api/v1/configmaps"
    start = (await server.http.get(everywhere, limit="1")).ok()["metadata"]["resourceVersion"]
    query = {"resourceVersion": start, "fieldSelector": f"metadata.namespace={namespace},metadata.name=w"}
    async with server.http.watch(everywhere, **query) as watch:
        (await server.http.create(f"/api/v1/namespaces/{namespace}/configmaps", config_map("w"))).ok()
        assert await told(watch, 1) == [("ADDED", "w")]


async def test_a_table_names_its_columns_once(server: Server, path: str) -> None:
    for name in ("a", "b"):
        (await server.http.create(path, lease(name))).ok()
    answer = await server.http.request(
        "GET", path, headers={"Accept": TABLE}, watch="true", timeoutSeconds="1"
    )
    first, second = (msgspec.json.decode(line)["object"] for line in answer.body.splitlines()[:2])
    assert first["kind"] == second["kind"] == "Table"
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Holder", "Age"]
    assert not second.get("columnDefinitions")
    assert len(first["rows"]) == len(second["rows"]) == 1


async def test_metadata_alone_can_be_watched(server: Server, path: str) -> None:
    (await server.http.create(path, lease("a", app="x"))).ok()
    answer = await server.http.request(
        "GET", path, headers={"Accept": METADATA}, watch="true", timeoutSeconds="1"
    )
    shown = msgspec.json.decode(answer.body.splitlines()[0])["object"]
    assert (shown["kind"], shown["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert shown["metadata"]["labels"] == {"app": "x"}
    assert "spec" not in shown


async def test_a_reader_that_pauses_loses_nothing_silently(server: Server, namespace: str) -> None:
    """Either all comes after the pause, or the connection is cut and the last version leads on."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    start = (await server.http.get(path)).ok()["metadata"]["resourceVersion"]
    # A namespace that is new gets a ConfigMap of its own at any time; it is not one of these.
    ours = {"labelSelector": "made=here"}
    seen: list[str] = []
    async with server.http.watch(path, resourceVersion=start, **ours) as watch:
        many = [config_map(f"c{n}", text="x" * 50_000) for n in range(40)]
        for each in many:
            each["metadata"]["labels"] = {"made": "here"}
        await asyncio.gather(*(server.http.create(path, each) for each in many))
        last = start
        try:
            while len(seen) < 40:
                event = await watch.next(5)
                seen.append(event["object"]["metadata"]["name"])
                last = event["object"]["metadata"]["resourceVersion"]
        except (EOFError, ConnectionError):
            pass
    async with server.http.watch(path, resourceVersion=last, **ours) as watch:
        seen += [name for _, name in await told(watch, 40 - len(seen))]
    assert sorted(seen) == sorted(f"c{n}" for n in range(40))


FORBIDDEN = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
REFUSED = {
    ("resourceVersionMatch=NotOlderThan",): [FORBIDDEN],
    ("resourceVersionMatch=Exact", "resourceVersion=1"): [
        FORBIDDEN,
        'Unsupported value: "Exact": supported values: "NotOlderThan"',
    ],
    ("sendInitialEvents=true",): [
        "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    ],
    ("continue=abc",): ["Forbidden: resourceVersionMatch is forbidden when continue is provided"],
}


async def test_options_that_make_no_sense_are_refused(server: Server, path: str) -> None:
    for words, messages in REFUSED.items():
        query = dict(word.split("=") for word in words)
        answer = await server.http.request("GET", path, watch="true", **query)
        assert answer.code == 422
        assert [cause["message"] for cause in answer.json["details"]["causes"]] == messages
