import asyncio
import contextlib
import gzip
import json
import logging

import msgspec
import pytest

from kajitori.api.resource import CONFIG_MAPS, DEPLOYMENTS, PODS
from kajitori.base.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig
from kajitori.kube.watching import decode_object


class Meta(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str = ""


class View(msgspec.Struct):
    metadata: Meta


def status(code, reason, **details):
    return json.dumps(
        {"kind": "Status", "code": code, "reason": reason, "message": f"says {reason}", "details": details}
    ).encode()


def event(kind, name, version):
    obj = {"kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": str(version)}}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


async def collect(client, events, **options):
    async with contextlib.aclosing(client.watch(CONFIG_MAPS, "default", type=View, **options)) as watch:
        async for change in watch:
            events.append((change.type, change.object.metadata.name))


async def test_events_are_whole_wherever_the_chunks_end(wire):
    lines = event("ADDED", "a", 1) + event("MODIFIED", "b\u00e9", 2) + b"\n" + event("DELETED", "c" * 5000, 3)

    async def handler(request):
        size = sizes[len(wire.requests) - 1]
        await request.begin_chunks()
        for start in range(0, len(lines), size):
            await request.chunk(lines[start : start + size])
        await request.end_chunks()

    sizes = [1, 7, 100, 4096, 1 << 20]
    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        for _ in sizes:
            events = []
            await collect(client, events)
            assert events == [("ADDED", "a"), ("MODIFIED", "b\u00e9"), ("DELETED", "c" * 5000)]


async def test_a_watch_cut_in_the_middle_of_a_line_is_unreachable_and_what_came_before_counts(wire):
    async def handler(request):
        await request.begin_chunks()
        await request.chunk(event("ADDED", "a", 1) + event("ADDED", "b", 2)[:20])
        if "cut" in request.target:
            request.cut()
        else:
            await request.end_chunks()

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        for selector in ("cut", "ended"):
            events = []
            with pytest.raises(Unreachable, match="cut"):
                await collect(client, events, label_selector=selector)
            assert events == [("ADDED", "a")]


async def test_garbage_in_a_watch_is_unreachable(wire):
    async def handler(request):
        await request.begin_chunks()
        await request.chunk(event("ADDED", "a", 1) + b"<html>no</html>\n" + event("ADDED", "b", 2))
        await request.end_chunks()

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        events = []
        with pytest.raises(Unreachable, match="no event"):
            await collect(client, events)
        assert events == [("ADDED", "a")]


async def test_a_version_that_is_too_old_is_gone_in_the_head_and_in_the_stream(wire):
    async def handler(request):
        if "old=head" in request.target.replace("%3D", "="):
            await request.answer(410, status(410, "Expired"))
            return
        await request.begin_chunks()
        await request.chunk(b'{"type":"ERROR","object":' + status(410, "Expired") + b"}\n")
        await request.end_chunks()

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        for where in ("head", "stream"):
            with pytest.raises(Gone, match="Expired"):
                await collect(client, [], label_selector=f"old={where}")


async def test_bookmarks_move_the_version_and_are_no_objects(wire):
    async def handler(request):
        await request.begin_chunks()
        await request.chunk(
            b'{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}\n'
            b'{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"12",'
            b'"annotations":{"k8s.io/initial-events-end":"true"}}}}\n'
        )
        await request.end_chunks()

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        marks, events = [], []
        await collect(client, events, on_bookmark=lambda version, end: marks.append((version, end)))
        assert (marks, events) == ([("9", False), ("12", True)], [])
    assert "allowWatchBookmarks=true" in wire.requests[0].target


async def test_leaving_a_watch_early_closes_its_connection(wire):
    closed = asyncio.Event()

    async def handler(request):
        await request.begin_chunks()
        await request.chunk(event("ADDED", "a", 1))
        while not request.writer.transport.is_closing():
            await asyncio.sleep(0.01)
            with contextlib.suppress(ConnectionError):
                await request.chunk(b"\n")
        closed.set()

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        async with contextlib.aclosing(client.watch(CONFIG_MAPS, type=View)) as watch:
            async for _ in watch:
                break
        await asyncio.wait_for(closed.wait(), 10)


async def test_a_list_is_read_page_by_page_and_once_more_in_one_piece_if_a_page_is_gone(wire):
    gone = []

    async def handler(request):
        if "continue=t1" in request.target:
            if gone:
                await request.answer(410, status(410, "Expired"))
                return
            body = {"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "b"}}]}
        elif "limit" in request.target:
            body = {
                "metadata": {"resourceVersion": "5", "continue": "t1"},
                "items": [{"metadata": {"name": "a"}}],
            }
        else:
            body = {"metadata": {"resourceVersion": "8"}, "items": [{"metadata": {"name": n}} for n in "abc"]}
        await request.answer(200, json.dumps(body).encode())

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        found = await client.list(CONFIG_MAPS, "default", page_size=1)
        assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
        assert found.resource_version == "5" and found.items[0]["kind"] == "ConfigMap"
        gone.append(True)
        found = await client.list(CONFIG_MAPS, "default", page_size=1, type=View)
        assert [item.metadata.name for item in found.items] == ["a", "b", "c"]
        assert found.resource_version == "8"


async def test_an_empty_list_may_be_null(wire):
    async def handler(request):
        await request.answer(200, b'{"metadata":{"resourceVersion":"1"},"items":null}')

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        assert (await client.list(PODS)).items == []


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (422, "Invalid", Invalid),
        (500, "InternalError", ServerError),
    ],
)
async def test_a_status_becomes_its_error(wire, code, reason, kind):
    async def handler(request):
        await request.answer(
            code, status(code, reason, causes=[{"field": "spec.x", "reason": "R", "message": "M"}])
        )

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        with pytest.raises(kind, match=f"says {reason}") as caught:
            await client.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
        assert caught.value.causes[0]["field"] == "spec.x"


async def test_an_answer_that_is_no_status_still_says_what_it_was(wire):
    async def handler(request):
        if request.method == "GET":
            await request.answer(200, b"<html>login</html>")
        else:
            await request.answer(502, b"<html>bad gateway</html>\nmore")

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        with pytest.raises(ServerError, match="HTTP 502: <html>bad gateway"):
            await client.delete(PODS, "a", "default")
        with pytest.raises(ApiError, match="cannot be read"):
            await client.get(PODS, "a", "default")


async def test_429_is_waited_out_for_reads_and_writes_alike(wire):
    async def handler(request):
        if len(wire.requests) % 2:
            await request.answer(429, status(429, "TooManyRequests"), "Retry-After: 0")
        else:
            await request.answer(200, b"{}")

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        await client.get(PODS, "a", "default")
        await client.create(PODS, {"metadata": {"name": "a", "namespace": "default"}})
        assert len(wire.requests) == 4


async def test_an_eviction_refused_by_a_budget_is_told_at_once(wire):
    async def handler(request):
        await request.answer(429, status(429, "TooManyRequests"))

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        with pytest.raises(TooManyRequests):
            await client.create(PODS, {"metadata": {"name": "a", "namespace": "d"}}, subresource="eviction")
        assert [r.target for r in wire.requests] == ["/api/v1/namespaces/d/pods/a/eviction"]


async def test_a_read_is_tried_again_when_cut_and_a_write_is_not(wire):
    async def handler(request):
        if len(wire.requests) == 1:
            request.cut()
        else:
            await request.answer(200, b"{}")

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        await client.get(PODS, "a", "default")
        assert len(wire.requests) == 2
        wire.requests.clear()
        with pytest.raises(Unreachable):
            await client.create(PODS, {"metadata": {"name": "a", "namespace": "default"}})
        assert len(wire.requests) == 1


async def test_a_refused_connection_is_tried_again_until_the_server_is_back(wire):
    async def handler(request):
        await request.answer(200, b"{}")

    wire.handler = handler
    await wire.stop()
    async with Client(ClusterConfig(wire.url)) as client:
        writing = asyncio.ensure_future(
            client.create(PODS, {"metadata": {"name": "a", "namespace": "default"}})
        )
        await asyncio.sleep(0.2)
        await wire.start(wire.port)
        assert await writing == {}


async def test_a_server_that_says_nothing_is_given_up_on(wire):
    async def handler(request):
        await asyncio.sleep(30)

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        with pytest.raises(Unreachable, match="in time"):
            await client.request("POST", "/slow", timeout_seconds=0.2)


async def test_writes_say_what_they_are(wire):
    async def handler(request):
        await request.answer(200, b'{"kind":"Status","status":"Success"}')

    wire.handler = handler
    obj = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"replicas": 2}}
    async with Client(ClusterConfig(wire.url, token="t0p"), user_agent="kaji/test") as client:
        await client.apply(
            DEPLOYMENTS, obj, field_manager="kajitori", dry_run=True, field_validation="Strict"
        )
        await client.patch(DEPLOYMENTS, "web", [{"op": "remove", "path": "/spec"}], namespace="ns")
        await client.patch(
            DEPLOYMENTS, "web", {"spec": {}}, namespace="ns", patch_type="strategic", subresource="status"
        )
        await client.set_scale(DEPLOYMENTS, "web", 3, "ns")
        gone = await client.delete(
            DEPLOYMENTS,
            "web",
            "ns",
            propagation_policy="Foreground",
            preconditions_uid="u",
            grace_period_seconds=0,
        )
    assert gone is None
    apply, json_patch, strategic, scale, delete = wire.requests
    assert apply.target == (
        "/apis/apps/v1/namespaces/ns/deployments/web"
        "?fieldManager=kajitori&dryRun=All&fieldValidation=Strict&force=true"
    )
    assert apply.headers["content-type"] == "application/apply-patch+yaml"
    assert json.loads(apply.body)["kind"] == "Deployment"
    assert json_patch.headers["content-type"] == "application/json-patch+json"
    assert strategic.headers["content-type"] == "application/strategic-merge-patch+json"
    assert strategic.target.endswith("/web/status") and scale.target.endswith("/web/scale")
    assert json.loads(delete.body) == {
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
    }  # fmt: skip
    assert {r.headers["authorization"] for r in wire.requests} == {"Bearer t0p"}
    assert {r.headers["user-agent"] for r in wire.requests} == {"kaji/test"}
    assert wire.connections == 1, "the connection is kept"


async def test_a_lingering_object_is_given_back_by_delete(wire):
    async def handler(request):
        meta = {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f"]}
        await request.answer(200, json.dumps({"kind": "Pod", "metadata": meta}).encode())

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        assert (await client.delete(PODS, "a", "default"))["metadata"]["finalizers"] == ["f"]


async def test_warnings_reach_the_callback_and_the_log_once_each(wire, caplog):
    async def handler(request):
        await request.answer(
            200,
            b"{}",
            'Warning: 299 - "unknown field \\"spec.x\\""',
            'Warning: 299 - "old version", 299 - "b"',
        )

    wire.handler = handler
    heard = []
    async with Client(ClusterConfig(wire.url), on_warning=heard.append) as client:
        await client.get(PODS, "a", "default")
    assert heard == ['unknown field "spec.x"', "old version", "b"]
    with caplog.at_level(logging.WARNING):
        async with Client(ClusterConfig(wire.url)) as client:
            for _ in range(3):
                await client.get(PODS, "a", "default")
    assert len(caplog.records) == 3


async def test_compressed_answers_are_read_and_loopback_asks_for_none(wire):
    async def handler(request):
        await request.answer(200, gzip.compress(b'{"kind":"Pod"}'), "Content-Encoding: gzip")

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        assert await client.get(PODS, "a", "default") == {"kind": "Pod"}
    assert wire.requests[0].headers["accept-encoding"] == "identity"


async def test_objects_that_do_not_fit_are_handed_over_instead_of_failing_the_list(wire):
    async def handler(request):
        items = [{"metadata": {"name": "a"}}, {"metadata": 5}, {"metadata": {"name": "c"}}]
        await request.answer(200, json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode())

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        bad = []
        found = await client.list(PODS, type=View, on_invalid=lambda body, why: bad.append(body))
        assert [v.metadata.name for v in found.items] == ["a", "c"] and bad == [b'{"metadata": 5}']
        with pytest.raises(ApiError):
            await client.list(PODS, type=View)


async def test_metadata_only_asks_for_partial_objects(wire):
    async def handler(request):
        await request.answer(200, b'{"metadata":{"resourceVersion":"1"},"items":[]}')

    wire.handler = handler
    async with Client(ClusterConfig(wire.url)) as client:
        await client.list(PODS, metadata_only=True)
    assert wire.requests[0].headers["accept"].startswith("application/json;as=PartialObjectMetadataList;")


class Listed(msgspec.Struct):
    metadata: Meta
    items: list[str] = []
    labels: dict[str, str] = {}


def test_null_stands_for_an_empty_list_as_servers_in_go_send_it():
    decoder = msgspec.json.Decoder(Listed)
    found = decode_object(decoder, b'{"metadata":{"name":"a"},"items":null,"labels":null}')
    assert found == Listed(Meta("a"))
    with pytest.raises(msgspec.ValidationError, match="Expected `array`, got `int`"):
        decode_object(decoder, b'{"metadata":{"name":"a"},"items":1,"labels":null}')
