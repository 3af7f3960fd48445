"""Create, read, change, delete: over the wire."""

from __future__ import annotations

import asyncio
import gzip
import io

import pytest
import yaml
from tests.apiserver.core.conftest import (
    CONFIG_MAPS,
    PODS,
    Api,
    Cluster,
    add_service_account,
    config_map,
    pod,
    tls_context,
)


async def test_a_new_object_gets_what_the_server_gives(api: Api) -> None:
    answer = await api.create(CONFIG_MAPS, config_map("a", x="1"))
    assert answer.code == 201
    metadata = answer.json["metadata"]
    assert metadata["uid"] and metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 1
    assert metadata["managedFields"][0]["manager"] == "Python"
    assert (await api.get(f"{CONFIG_MAPS}/a")).json == answer.json


async def test_a_second_object_of_the_same_name_is_refused(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answer = await api.create(CONFIG_MAPS, config_map("a"))
    assert answer.code == 409
    assert answer.json["message"] == 'configmaps "a" already exists'
    assert answer.json["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_generated_name_ends_in_five_letters(api: Api) -> None:
    obj = config_map("")
    obj["metadata"] = {"generateName": "a-"}
    names = {(await api.create(CONFIG_MAPS, obj)).ok()["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("a-") and len(name) == 7 for name in names)


async def test_a_name_is_required(api: Api) -> None:
    obj = config_map("")
    obj["metadata"] = {}
    answer = await api.create(CONFIG_MAPS, obj)
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["field"] == "metadata.name"
    assert "name or generateName is required" in answer.json["message"]


async def test_an_object_in_a_namespace_that_does_not_exist_is_refused(api: Api) -> None:
    answer = await api.create("/api/v1/namespaces/none/configmaps", config_map("a", "none"))
    assert (answer.code, answer.json["message"]) == (404, 'namespaces "none" not found')


async def test_a_namespace_that_differs_from_the_path_is_refused(api: Api) -> None:
    answer = await api.create(CONFIG_MAPS, config_map("a", "other"))
    assert answer.code == 400


async def test_an_old_resource_version_is_a_conflict(api: Api) -> None:
    first = (await api.create(CONFIG_MAPS, config_map("a", x="1"))).ok()
    (await api.put(f"{CONFIG_MAPS}/a", {**first, "data": {"x": "2"}})).ok()
    answer = await api.put(f"{CONFIG_MAPS}/a", {**first, "data": {"x": "3"}})
    assert answer.code == 409
    assert answer.json["message"].startswith(
        'Operation cannot be fulfilled on configmaps "a": the object has'
    )


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Api) -> None:
    first = (await api.create(CONFIG_MAPS, config_map("a", x="1"))).ok()
    again = (await api.put(f"{CONFIG_MAPS}/a", first)).ok()
    patched = (await api.merge(f"{CONFIG_MAPS}/a", {"data": {"x": "1"}})).ok()
    assert first == again == patched


async def test_racing_patches_are_all_kept(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answers = await asyncio.gather(
        *(api.merge(f"{CONFIG_MAPS}/a", {"data": {f"k{n}": str(n)}}) for n in range(40))
    )
    assert {answer.code for answer in answers} == {200}
    assert len((await api.get(f"{CONFIG_MAPS}/a")).json["data"]) == 40


async def test_racing_updates_with_one_resource_version_have_one_winner(api: Api) -> None:
    first = (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answers = await asyncio.gather(
        *(api.put(f"{CONFIG_MAPS}/a", {**first, "data": {"x": str(n)}}) for n in range(20))
    )
    assert sorted(answer.code for answer in answers) == [200] + [409] * 19


async def test_put_to_an_absent_name_creates_only_kinds_that_allow_it(api: Api) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    assert (await api.put(path, lease)).code == 201
    assert (await api.put(f"{CONFIG_MAPS}/a", config_map("a"))).code == 404


async def test_dry_run_stores_nothing(api: Api) -> None:
    answer = await api.create(CONFIG_MAPS, config_map("a"), dryRun="All")
    assert answer.code == 201
    assert "resourceVersion" not in answer.json["metadata"] and answer.json["metadata"]["uid"]
    assert (await api.get(f"{CONFIG_MAPS}/a")).code == 404
    assert (await api.create(CONFIG_MAPS, config_map("a"), dryRun="Some")).code == 422


async def test_each_kind_of_patch_does_its_own(api: Api) -> None:
    await add_service_account(api)
    (await api.create(PODS, pod("p"))).ok()
    strategic = await api.request(
        "PATCH",
        f"{PODS}/p",
        {"spec": {"containers": [{"name": "c", "image": "alpine"}]}},
        content_type="application/strategic-merge-patch+json",
    )
    assert strategic.ok()["spec"]["containers"][0]["image"] == "alpine"
    merged = await api.merge(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
    assert merged.ok()["metadata"]["labels"] == {"a": "b"}
    json_patch = await api.request(
        "PATCH",
        f"{PODS}/p",
        [{"op": "remove", "path": "/metadata/labels/a"}],
        content_type="application/json-patch+json",
    )
    assert "a" not in json_patch.ok()["metadata"].get("labels", {})
    applied = await api.apply(
        f"{PODS}/p", {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"c": "d"}}}
    )
    assert applied.ok()["metadata"]["labels"] == {"c": "d"}
    assert (await api.request("PATCH", f"{PODS}/p", b"x", content_type="text/plain")).code == 415


async def test_apply_creates_and_two_appliers_conflict(api: Api) -> None:
    path = f"{CONFIG_MAPS}/a"
    assert (await api.apply(path, config_map("a", x="1"), "one")).code == 201
    assert (await api.apply(path, config_map("a", x="1"), "one")).code == 200
    conflict = await api.apply(path, config_map("a", x="2"), "two")
    assert conflict.code == 409
    assert conflict.json["details"]["causes"][0]["field"] == ".data.x"
    assert (await api.apply(path, config_map("a", x="2"), "two", force="true")).ok()["data"] == {"x": "2"}


async def test_unknown_fields_warn_or_are_refused(api: Api) -> None:
    obj = {**config_map("a"), "dta": {"x": "1"}}
    warned = await api.create(CONFIG_MAPS, obj)
    assert warned.code == 201
    assert warned.headers["Warning"].startswith('299 - "unknown field \\"dta\\"')
    strict = await api.create(CONFIG_MAPS, {**obj, "metadata": {"name": "b"}}, fieldValidation="Strict")
    assert strict.code == 400 and 'unknown field "dta"' in strict.json["message"]


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", 400), (b"[]", 400), (b"", 400), (b'{"metadata": 3}', 400), (b"\xff\xfe", 400)]
)
async def test_a_body_that_cannot_be_read_gets_a_status(api: Api, body: bytes, code: int) -> None:
    answer = await api.request("POST", CONFIG_MAPS, body)
    assert answer.code == code and answer.json["kind"] == "Status"


async def test_a_body_over_the_limit_is_refused_and_others_are_served(api: Api) -> None:
    answer = await api.request("POST", CONFIG_MAPS, io.BytesIO(b"x" * (4 << 20)))
    assert answer.code == 413 and answer.json["reason"] == "RequestEntityTooLarge"
    assert (await api.get(CONFIG_MAPS)).code == 200


async def test_a_body_without_content_type_is_json(api: Api) -> None:
    body = b'{"metadata":{"name":"a"},"data":{"x":"1"}}'
    answer = await api.request("POST", CONFIG_MAPS, body, headers={"Content-Type": ""}, content_type="")
    assert answer.code == 201, answer.body


async def test_answers_come_as_yaml_and_indented_when_asked(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a", x="1"))).ok()
    as_yaml = await api.request("GET", f"{CONFIG_MAPS}/a", headers={"Accept": "application/yaml"})
    assert yaml.safe_load(as_yaml.body)["data"] == {"x": "1"}
    for_people = await api.request("GET", f"{CONFIG_MAPS}/a", headers={"User-Agent": "curl/8"})
    assert b'\n  "data": {' in for_people.body
    assert (await api.request("GET", CONFIG_MAPS, headers={"Accept": "text/html"})).code == 406


async def test_long_answers_are_compressed_when_asked(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a", x="y" * 300_000))).ok()
    answer = await api.request("GET", f"{CONFIG_MAPS}/a", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    plain = await api.request("GET", f"{CONFIG_MAPS}/a", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert (gzip.decompress(answer.body) if answer.body[:2] == b"\x1f\x8b" else answer.body) == plain.body


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/api/v1/nothing", 404, "NotFound"),
        ("GET", "/api/v2/pods", 404, "NotFound"),
        ("POST", "/api/v1/namespaces/default/pods/x", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/namespaces/default/pods/x/nothing", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", "/api/v1/pods/x", 404, "NotFound"),
        ("DELETE", "/api/v1/namespaces", 405, "MethodNotAllowed"),
    ],
)
async def test_what_is_not_served_gets_a_status(
    api: Api, method: str, path: str, code: int, reason: str
) -> None:
    answer = await api.request(method, path)
    assert (answer.code, answer.json["reason"]) == (code, reason)


async def test_an_unknown_group_gets_a_text(api: Api) -> None:
    answer = await api.get("/apis/nothing.example.com/v1/things")
    assert (answer.code, answer.body.strip()) == (404, b"404 page not found")


async def test_custom_name_and_uid_in_a_put_must_be_the_stored_ones(api: Api) -> None:
    first = (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    renamed = {**first, "metadata": {**first["metadata"], "name": "b"}}
    assert (await api.put(f"{CONFIG_MAPS}/a", renamed)).code == 400
    other = {**first, "metadata": {**first["metadata"], "uid": "x"}}
    answer = await api.put(f"{CONFIG_MAPS}/a", other)
    assert answer.code == 409 and "Precondition failed: UID" in answer.json["message"]


@pytest.mark.parametrize(
    "noise", [b"GET\r\n\r\n", b"\x00" * 100, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 300_000]
)
async def test_noise_on_a_connection_harms_nobody(cluster: Cluster, noise: bytes) -> None:
    context = tls_context(cluster.running.kubeconfig)
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.running.server.port, ssl=context)
    writer.write(noise)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n")[0]
    writer.close()
    assert (await cluster.admin.get(CONFIG_MAPS)).code == 200


async def test_a_header_that_is_no_text_holds_up_no_write(cluster: Cluster) -> None:
    api = cluster.admin
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    context = tls_context(cluster.running.kubeconfig)
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.running.server.port, ssl=context)
    writer.write(
        f"DELETE {CONFIG_MAPS}/a HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n".encode()
        + b"User-Agent: curl\xff\r\nImpersonate-User: root\xff\r\nImpersonate-Group: system:masters\r\n\r\n"
    )
    async with asyncio.timeout(20):
        assert b" 200 " in await reader.readline()
        (await api.create(CONFIG_MAPS, config_map("b"))).ok()
    writer.close()
    _, record = (await api.get("/kajitori/audit", resource="configmaps", name="a")).ok()["items"]
    assert (record["userAgent"], record["user"]) == ("curl\ufffd", "root\ufffd")
