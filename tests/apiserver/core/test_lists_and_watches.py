"""Pages, selectors and watches, as informers rely on them."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest
import yaml
from tests.apiserver.core.conftest import CONFIG_MAPS, Api, Cluster, config_map
from tests.waiting import eventually

from kajitori.laptop.apiserver.protobuf import read_envelope, read_message


async def _fill(api: Api, count: int) -> None:
    answers = await asyncio.gather(
        *(api.create(CONFIG_MAPS, config_map(f"c{n:03}", n=str(n))) for n in range(count))
    )
    assert {answer.code for answer in answers} == {201}


def _names(answer_json: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [item["metadata"]["name"] for item in answer_json["items"]]


async def test_pages_show_the_state_of_the_first_one(api: Api) -> None:
    await _fill(api, 10)
    first = (await api.get(CONFIG_MAPS, limit="4")).json
    assert first["metadata"]["remainingItemCount"] == 6
    (await api.delete(f"{CONFIG_MAPS}/c005")).ok()
    (await api.create(CONFIG_MAPS, config_map("c0045"))).ok()
    (await api.merge(f"{CONFIG_MAPS}/c006", {"data": {"n": "changed"}})).ok()
    second = (await api.get(CONFIG_MAPS, limit="4", **{"continue": first["metadata"]["continue"]})).json
    third = (await api.get(CONFIG_MAPS, limit="4", **{"continue": second["metadata"]["continue"]})).json
    assert _names(first) + _names(second) + _names(third) == [f"c{n:03}" for n in range(10)]
    assert second["items"][2]["data"]["n"] == "6"
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1
    assert "continue" not in third["metadata"]


async def test_an_exact_version_shows_the_past(api: Api) -> None:
    await _fill(api, 2)
    before = (await api.get(CONFIG_MAPS)).json["metadata"]["resourceVersion"]
    (await api.delete(f"{CONFIG_MAPS}/c001")).ok()
    past = await api.get(CONFIG_MAPS, resourceVersion=before, resourceVersionMatch="Exact")
    assert _names(past.json) == ["c000", "c001"]
    assert _names((await api.get(CONFIG_MAPS)).json) == ["c000"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"resourceVersion": "abc"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersion": "0", "resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersion": "1", "resourceVersionMatch": "Bogus"}, 422),
        ({"continue": "garbage"}, 400),
        ({"limit": "x"}, 400),
        ({"labelSelector": "a=="}, 200),
        ({"labelSelector": "=a"}, 400),
        ({"labelSelector": "a in b"}, 400),
        ({"fieldSelector": "spec.foo=1"}, 400),
        ({"watch": "true", "sendInitialEvents": "true"}, 422),
    ],
)
async def test_list_options_are_checked(api: Api, query: dict[str, str], code: int) -> None:
    answer = await api.get(CONFIG_MAPS, **query)
    assert answer.code == code, answer.body


async def test_a_version_of_the_future_times_out_with_a_hint(api: Api) -> None:
    answer = await api.get(CONFIG_MAPS, resourceVersion="100000")
    assert answer.code == 504
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("l=x", ["a", "b"]),
        ("l==x,m", ["b"]),
        ("l!=x", ["c", "d"]),
        ("l in (x, y),!m", ["a", "c"]),
        ("l notin (x)", ["c", "d"]),
        ("n>3", ["d"]),
        ("n<3", []),
    ],
)
async def test_label_selectors(api: Api, selector: str, names: list[str]) -> None:
    labels = {"a": {"l": "x"}, "b": {"l": "x", "m": "1"}, "c": {"l": "y"}, "d": {"n": "5"}}
    for name, own in labels.items():
        obj = config_map(name)
        obj["metadata"]["labels"] = own
        (await api.create(CONFIG_MAPS, obj)).ok()
    assert _names((await api.get(CONFIG_MAPS, labelSelector=selector)).json) == names


async def test_field_selectors(api: Api) -> None:
    await _fill(api, 3)
    assert _names((await api.get(CONFIG_MAPS, fieldSelector="metadata.name=c001")).json) == ["c001"]
    found = await api.get(
        "/api/v1/configmaps", fieldSelector="metadata.name!=c001,metadata.namespace=default"
    )
    assert _names(found.json) == ["c000", "c002"]


async def test_items_of_built_in_kinds_have_no_kind(api: Api) -> None:
    await _fill(api, 1)
    listed = (await api.get(CONFIG_MAPS)).json
    assert listed["kind"] == "ConfigMapList"
    assert "kind" not in listed["items"][0] and "apiVersion" not in listed["items"][0]


async def test_metadata_alone_is_served(api: Api) -> None:
    await _fill(api, 1)
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = (await api.request("GET", CONFIG_MAPS, headers={"Accept": accept})).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}
    refused = await api.request("GET", f"{CONFIG_MAPS}/c000", headers={"Accept": accept})
    assert refused.code == 406


async def test_tables_have_rows_with_cells(api: Api) -> None:
    await _fill(api, 2)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = (await api.request("GET", CONFIG_MAPS, headers={"Accept": accept})).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [["c000", 1], ["c001", 1]]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = (await api.request("GET", f"{CONFIG_MAPS}/c000", headers={"Accept": accept})).json
    assert len(one["rows"]) == 1


async def test_a_watch_tells_the_present_and_then_each_change(api: Api) -> None:
    await _fill(api, 1)
    async with api.watch(CONFIG_MAPS) as watch:
        assert (await watch.next())["type"] == "ADDED"
        (await api.create(CONFIG_MAPS, config_map("d"))).ok()
        changed = (await api.merge(f"{CONFIG_MAPS}/d", {"data": {"x": "1"}})).ok()
        (await api.merge(f"{CONFIG_MAPS}/d", {"data": {"x": "1"}})).ok()
        (await api.delete(f"{CONFIG_MAPS}/d")).ok()
        events = await watch.take(3)
        assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        assert events[1]["object"] == changed
        gone = events[2]["object"]["metadata"]["resourceVersion"]
        assert int(gone) > int(changed["metadata"]["resourceVersion"])


async def test_a_watch_resumes_behind_a_version(api: Api) -> None:
    await _fill(api, 3)
    version = (await api.get(CONFIG_MAPS)).json["metadata"]["resourceVersion"]
    (await api.delete(f"{CONFIG_MAPS}/c001")).ok()
    (await api.create(CONFIG_MAPS, config_map("d"))).ok()
    async with api.watch(CONFIG_MAPS, resourceVersion=version) as watch:
        events = await watch.take(2)
        assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [
            ("DELETED", "c001"),
            ("ADDED", "d"),
        ]


async def test_a_version_that_history_lost_ends_in_410(cluster: Cluster) -> None:
    api = cluster.admin
    await _fill(api, 1)
    table = cluster.running.server.state.store.table("configmaps")
    table.history.floor = table.history.since(0)[-1].version
    async with api.watch(CONFIG_MAPS, resourceVersion="1") as watch:
        event = await watch.next()
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        with pytest.raises(EOFError):
            await watch.next()


async def test_a_watch_list_ends_its_beginning_with_a_typed_bookmark(api: Api) -> None:
    await _fill(api, 2)
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with api.watch(CONFIG_MAPS, **query) as watch:
        events = await watch.take(3)
        assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
        mark = events[2]["object"]
        assert (mark["kind"], mark["apiVersion"]) == ("ConfigMap", "v1")
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        (await api.delete(f"{CONFIG_MAPS}/c000")).ok()
        assert (await watch.next())["type"] == "DELETED"


async def test_entering_and_leaving_a_selector_is_adding_and_deleting(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    async with api.watch(CONFIG_MAPS, labelSelector="l=x") as watch:
        entered = (await api.merge(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"l": "x"}}})).ok()
        event = await watch.next()
        assert (event["type"], event["object"]) == ("ADDED", entered)
        left = (await api.merge(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"l": "y"}}})).ok()
        event = await watch.next()
        assert event["type"] == "DELETED"
        assert event["object"]["metadata"]["labels"] == {"l": "x"}
        assert event["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


async def test_a_watch_ends_at_its_timeout(api: Api) -> None:
    async with api.watch(CONFIG_MAPS, timeoutSeconds="1", allowWatchBookmarks="true") as watch:
        assert (await watch.next())["type"] == "BOOKMARK"
        with pytest.raises(EOFError):
            await watch.next()


async def test_a_table_watch_has_columns_once(api: Api) -> None:
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    api._headers.update(accept)
    async with api.watch(CONFIG_MAPS) as watch:
        api._headers.clear()
        (await api.create(CONFIG_MAPS, config_map("a"))).ok()
        (await api.create(CONFIG_MAPS, config_map("b"))).ok()
        first, second = await watch.take(2)
        assert first["object"]["kind"] == second["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"] and second["object"]["columnDefinitions"] is None
        assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_a_reader_that_does_not_read_is_cut_and_others_go_on(cluster: Cluster) -> None:
    api = cluster.admin
    hub = cluster.running.server.state.hub
    big = "x" * 900_000
    async with api.watch(CONFIG_MAPS) as slow, api.watch(CONFIG_MAPS) as quick:
        (await api.create(CONFIG_MAPS, config_map("a", n="0"))).ok()
        await slow.next()
        await quick.next()
        assert hub.count() == 2
        # The slow one's socket is not read from here on.
        slow.response.connection.transport.pause_reading()
        for n in range(60):
            (await api.merge(f"{CONFIG_MAPS}/a", {"data": {"n": str(n + 1), "big": big}})).ok()
            assert (await quick.next())["object"]["data"]["n"] == str(n + 1)
            if hub.count() == 1:
                break
        assert hub.count() == 1
        slow.response.close()


async def test_a_client_that_leaves_is_forgotten(cluster: Cluster) -> None:
    hub = cluster.running.server.state.hub
    async with cluster.admin.watch(CONFIG_MAPS) as watch:
        (await cluster.admin.create(CONFIG_MAPS, config_map("a"))).ok()
        await watch.next()
        assert hub.count() == 1
        watch.response.close()
    await eventually(lambda: hub.count() == 0, "the watch is forgotten")


async def test_a_client_that_leaves_as_its_watch_ends_is_no_fault(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    hub = cluster.running.server.state.hub
    async with cluster.admin.watch(CONFIG_MAPS) as watch:
        (await cluster.admin.create(CONFIG_MAPS, config_map("a"))).ok()
        await watch.next()
        # The connection is known to be lost, but nobody has been told yet.
        (watcher,) = hub.live("configmaps")
        watcher.transport.close()
        watcher.end()
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await watch.next()
    assert hub.count() == 0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_long_list_is_the_same_in_every_form(api: Api) -> None:
    for n in range(5):
        (await api.create(CONFIG_MAPS, config_map(f"c{n}", n=str(n), long="ü" * 150_000))).ok()
    plain = await api.request("GET", CONFIG_MAPS, headers={"Accept-Encoding": "identity"})
    assert len(plain.body) == int(plain.headers["Content-Length"]) > 1_500_000
    assert _names(plain.json) == [f"c{n}" for n in range(5)]
    assert [item["data"]["n"] for item in plain.json["items"]] == list("01234")
    compressed = await api.request("GET", CONFIG_MAPS, headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    # What the server itself writes meanwhile gives a later list a later version.
    assert compressed.json["items"] == plain.json["items"]
    as_yaml = await api.request("GET", CONFIG_MAPS, headers={"Accept": "application/yaml"})
    assert yaml.load(as_yaml.body, yaml.CSafeLoader)["items"] == plain.json["items"]
    written = await api.request("GET", CONFIG_MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    envelope = read_envelope(written.body)
    assert envelope.kind == "ConfigMapList"
    listed = read_message("io.k8s.api.core.v1.ConfigMapList", envelope.raw)
    assert [item["data"] for item in listed["items"]] == [item["data"] for item in plain.json["items"]]
    assert int(listed["metadata"]["resourceVersion"]) >= int(plain.json["metadata"]["resourceVersion"])


async def test_watchers_of_the_same_share_a_channel_and_leave_it_one_by_one(cluster: Cluster) -> None:
    api, hub = cluster.admin, cluster.running.server.state.hub
    async with api.watch(CONFIG_MAPS, labelSelector="a=b") as other, api.watch(CONFIG_MAPS) as second:
        async with api.watch(CONFIG_MAPS) as first:
            (await api.create(CONFIG_MAPS, config_map("a"))).ok()
            assert [(await watch.next())["object"]["metadata"]["name"] for watch in (first, second)] == [
                "a",
                "a",
            ]
            assert hub.count() == 3
        await eventually(lambda: hub.count() == 2, "one watch is forgotten")
        labelled = config_map("b")
        labelled["metadata"]["labels"] = {"a": "b"}
        (await api.create(CONFIG_MAPS, labelled)).ok()
        assert [(await watch.next())["object"]["metadata"]["name"] for watch in (other, second)] == ["b", "b"]
