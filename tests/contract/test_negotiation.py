"""Which form an answer has and which forms a body may have, on both servers."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
import yaml
from tests.servers import Server, config_map
from tests.wire import Answer

from kajitori.laptop.apiserver.protobuf import read_envelope, read_message

PROTOBUF = "application/vnd.kubernetes.protobuf"
GROUPS = "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
ALL_FORMS = f"application/json, application/yaml, {PROTOBUF}"
OTHER_FORM = f"only the following media types are accepted: {ALL_FORMS}"
NO_FORM = f"406: Not Acceptable\n\nAvailable representations: {ALL_FORMS}"


def message(answer: Answer) -> str:
    if answer.body.startswith(b"k8s\0"):
        status = read_message("io.k8s.apimachinery.pkg.apis.meta.v1.Status", read_envelope(answer.body).raw)
        return status["message"]
    return answer.json["message"]


async def _accepting(server: Server, path: str, accept: str, **query: str) -> Answer:
    return await server.http.request("GET", path, headers={"Accept": accept}, **query)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, */*", "application/json;q=0.9"])
async def test_json_is_what_a_client_gets_that_takes_it(server: Server, namespace: str, accept: str) -> None:
    answer = await _accepting(server, f"/api/v1/namespaces/{namespace}", accept)
    assert (answer.code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["kind"] == "Namespace"


async def test_objects_lists_and_refusals_come_as_yaml(server: Server, namespace: str) -> None:
    one = await _accepting(server, f"/api/v1/namespaces/{namespace}", "application/yaml")
    assert one.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(one.body)["metadata"]["name"] == namespace
    several = await _accepting(server, f"/api/v1/namespaces/{namespace}/secrets", "application/yaml")
    assert yaml.safe_load(several.body)["kind"] == "SecretList"
    none = await _accepting(server, f"/api/v1/namespaces/{namespace}/secrets/none", "application/yaml")
    assert none.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(none.body)["message"] == 'secrets "none" not found'


async def test_a_list_comes_as_protobuf(server: Server, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("a", "b"):
        (await server.http.create(maps, config_map(name, key="value"))).ok()
    answer = await _accepting(server, maps, PROTOBUF, fieldSelector="metadata.name!=kube-root-ca.crt")
    assert answer.headers["Content-Type"] == PROTOBUF
    envelope = read_envelope(answer.body)
    assert (envelope.api_version, envelope.kind) == ("v1", "ConfigMapList")
    assert envelope.raw.count(b"value") == 2


async def test_a_watch_comes_as_protobuf(server: Server, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    version = (await server.http.get(maps)).json["metadata"]["resourceVersion"]
    (await server.http.create(maps, config_map("seen", key="value"))).ok()
    (await server.http.delete(f"{maps}/seen")).ok()
    events: list[tuple[str, Any]] = []
    async with server.http.watch(maps, {"Accept": PROTOBUF}, resourceVersion=version) as watch:
        assert watch.response.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
        while len(events) < 2:
            (size,) = struct.unpack(">I", await watch.response.content.readexactly(4))
            frame = await watch.response.content.readexactly(size)
            kind_length = frame[1]
            envelope = read_envelope(frame[frame.index(b"k8s\0") :])
            obj = read_message("io.k8s.api.core.v1.ConfigMap", envelope.raw)
            if obj["metadata"]["name"] == "seen":
                events.append((frame[2 : 2 + kind_length].decode(), obj["data"]))
    assert events == [("ADDED", {"key": "value"}), ("DELETED", {"key": "value"})]


async def test_metadata_comes_as_protobuf_of_custom_resources_too(server: Server) -> None:
    answer = await _accepting(server, GROUPS, f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
    assert read_envelope(answer.body)[:2] == ("meta.k8s.io/v1", "PartialObjectMetadataList")


async def test_custom_resources_have_no_form_in_protobuf(server: Server) -> None:
    answer = await _accepting(server, GROUPS, PROTOBUF)
    assert (answer.code, message(answer)) == (406, OTHER_FORM)
    answer = await _accepting(server, GROUPS, f"{PROTOBUF},application/json")
    assert (answer.code, answer.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("accept", ["application/cbor", "text/html", "application/xml"])
async def test_a_form_that_is_not_offered_is_406(server: Server, namespace: str, accept: str) -> None:
    one = await _accepting(server, f"/api/v1/namespaces/{namespace}/configmaps/x", accept)
    assert (one.code, message(one)) == (406, NO_FORM)
    assert one.json["details"] == {}
    several = await _accepting(server, f"/api/v1/namespaces/{namespace}/configmaps", accept)
    streams = f"application/json;stream=watch, {PROTOBUF};stream=watch"
    assert (several.code, message(several)) == (406, f"{NO_FORM}, {streams}")
    custom = await _accepting(server, GROUPS, accept)
    assert (custom.code, message(custom)) == (406, OTHER_FORM)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json;as=Other;v=v1;g=meta.k8s.io",
        "application/json;as=Table;v=v9;g=meta.k8s.io",
        "application/json;as=Table;v=v1;g=example.com",
        f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io",
    ],
)
async def test_an_unknown_transformation_is_406(server: Server, namespace: str, accept: str) -> None:
    answer = await _accepting(server, f"/api/v1/namespaces/{namespace}/configmaps", accept)
    assert (answer.code, message(answer)) == (406, OTHER_FORM)


@pytest.mark.parametrize("content_type", ["application/cbor", "text/plain", "application/xml"])
async def test_a_body_in_another_form_is_415(server: Server, namespace: str, content_type: str) -> None:
    answer = await server.http.request(
        "POST", f"/api/v1/namespaces/{namespace}/configmaps", b"x", content_type=content_type
    )
    assert answer.code == 415
    assert answer.json["reason"] == "UnsupportedMediaType"
    assert answer.json["message"] == (
        f"the body of the request was in an unknown format - accepted media types include: {ALL_FORMS}"
    )


@pytest.mark.parametrize("content_type", ["application/yaml", "application/json", ""])
async def test_a_body_may_be_yaml_or_json_or_say_nothing(
    server: Server, namespace: str, content_type: str
) -> None:
    body = config_map("made", a="1")
    sent = yaml.safe_dump(body).encode() if content_type == "application/yaml" else msgspec.json.encode(body)
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = await server.http.request("POST", maps, sent, content_type=content_type)
    assert answer.code == 201, answer.body
    assert answer.json["data"] == {"a": "1"}


async def test_a_list_of_metadata_is_no_form_of_one_object(server: Server, namespace: str) -> None:
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    answer = await _accepting(server, f"/api/v1/namespaces/{namespace}", accept)
    assert answer.code == 406


async def test_pretty_answers_are_indented(server: Server, namespace: str) -> None:
    answer = await server.http.get(f"/api/v1/namespaces/{namespace}", pretty="true")
    assert answer.body.startswith(b'{\n  "kind": "Namespace",\n')
