"""POST and PUT: what the server sets, what it keeps, what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.servers import Server, config_map
from tests.wire import Answer

Object = dict[str, Any]
PLAIN_POD = {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEPLOYMENT = {
    "metadata": {"name": "d"},
    "spec": {"paused": True, "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE},
}


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def causes(answer: Answer) -> list[tuple[str, str, str]]:
    assert answer.code == 422, answer.body
    return [(one["reason"], one["field"], one["message"]) for one in answer.json["details"]["causes"]]


async def test_the_server_gives_an_object_its_identity(server: Server, maps: str, namespace: str) -> None:
    sent = config_map("a", key="value")
    sent["metadata"] |= {"uid": "mine", "creationTimestamp": "2020-01-01T00:00:00Z", "selfLink": "/x"}
    metadata = (await server.http.create(maps, sent)).ok()["metadata"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
    assert metadata["creationTimestamp"] > "2021"
    assert metadata["namespace"] == namespace
    assert metadata["resourceVersion"].isdigit()
    assert "generation" not in metadata
    (entry,) = metadata["managedFields"]
    assert entry["fieldsV1"] == {"f:data": {".": {}, "f:key": {}}}


async def test_a_generated_name_has_five_letters_behind_its_base(server: Server, maps: str) -> None:
    made = (await server.http.create(maps, {"metadata": {"generateName": "base-"}})).ok()
    assert re.fullmatch(r"base-[bcdfghjklmnpqrstvwxz2456789]{5}", made["metadata"]["name"])
    assert made["metadata"]["generateName"] == "base-"
    long = (await server.http.create(maps, {"metadata": {"generateName": "x" * 80}})).ok()
    assert len(long["metadata"]["name"]) == 63
    named = (await server.http.create(maps, {"metadata": {"name": "n", "generateName": "base-"}})).ok()
    assert named["metadata"]["name"] == "n"


async def test_a_name_is_needed_and_must_be_one(server: Server, maps: str) -> None:
    required = ("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")
    assert causes(await server.http.create(maps, {"metadata": {}})) == [required]
    form = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
        " and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
        r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    assert causes(await server.http.create(maps, config_map("A_"))) == [
        ("FieldValueInvalid", "metadata.name", f'Invalid value: "A_": {form}')
    ]
    (generated, made) = causes(await server.http.create(maps, {"metadata": {"generateName": "A_"}}))
    assert generated == ("FieldValueInvalid", "metadata.generateName", f'Invalid value: "A_": {form}')
    assert made[1] == "metadata.name"
    long = "x" * 254
    message = f'Invalid value: "{long}": must be no more than 253 characters'
    assert causes(await server.http.create(maps, config_map(long)))[0][2] == message


async def test_a_version_is_refused_on_create(server: Server, maps: str) -> None:
    sent = config_map("a")
    sent["metadata"]["resourceVersion"] = "1"
    answer = await server.http.create(maps, sent)
    assert answer.code == (500 if server.name == "real" else 400)  # it is the client's fault
    assert answer.json["message"] == "resourceVersion should not be set on objects to be created"


async def test_the_namespace_is_that_of_the_path(server: Server, maps: str) -> None:
    sent = config_map("a")
    sent["metadata"]["namespace"] = "other"
    message = "the namespace of the provided object does not match the namespace sent on the request"
    for answer in (await server.http.create(maps, sent), await server.http.put(f"{maps}/a", sent)):
        assert (answer.code, answer.json["message"]) == (400, message)


async def test_bad_metadata_is_told_field_by_field(server: Server, maps: str) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1", "controller": True}
    sent = config_map("a")
    sent["metadata"]["ownerReferences"] = [owner, {**owner, "name": "b"}]
    ((reason, field, message),) = causes(await server.http.create(maps, sent))
    assert (reason, field) == ("FieldValueInvalid", "metadata.ownerReferences")
    assert message.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for ConfigMap/a and'
        " ConfigMap/b"
    )
    sent["metadata"]["ownerReferences"] = [{**owner, "uid": ""}]
    assert causes(await server.http.create(maps, sent)) == [
        ("FieldValueInvalid", "metadata.ownerReferences.uid", 'Invalid value: "": must not be empty')
    ]
    sent = config_map("a")
    sent["metadata"]["annotations"] = {"a": "x" * (256 << 10)}
    assert causes(await server.http.create(maps, sent)) == [
        ("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
    ]


# PUT


async def test_an_update_replaces_all_but_what_the_server_keeps(server: Server, maps: str) -> None:
    made = (await server.http.create(maps, config_map("a", old="1"))).ok()
    new = (await server.http.put(f"{maps}/a", {"metadata": {"name": "a"}, "data": {"new": "2"}})).ok()
    assert new["data"] == {"new": "2"}
    for field in ("uid", "creationTimestamp"):
        assert new["metadata"][field] == made["metadata"][field]
    assert int(new["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_an_update_must_be_of_the_object_in_its_path(server: Server, maps: str) -> None:
    (await server.http.create(maps, config_map("a"))).ok()
    answer = await server.http.put(f"{maps}/a", config_map("b"))
    message = "the name of the object (b) does not match the name on the URL (a)"
    assert (answer.code, answer.json["message"]) == (400, message)
    answer = await server.http.put(f"{maps}/a", {"metadata": {}})
    message = "the name of the object (a based on URL) was undeterminable: name must be provided"
    assert (answer.code, answer.json["message"]) == (400, message)
    other = config_map("a")
    other["metadata"]["uid"] = "zzz"
    answer = await server.http.put(f"{maps}/a", other)
    assert (answer.code, answer.json["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition: zzz, UID in object meta: " in answer.json["message"]


async def test_custom_objects_are_updated_by_version_only(server: Server, namespace: str) -> None:
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets"
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "l"},
        "spec": {"replicas": 0, "leaderWorkerTemplate": {"size": 1, "workerTemplate": TEMPLATE}},
    }
    (await server.http.create(path, body)).ok()
    assert causes(await server.http.put(f"{path}/l", body)) == [
        (
            "FieldValueInvalid",
            "metadata.resourceVersion",
            "Invalid value: 0: must be specified for an update",
        )
    ]


CREATED_BY_PUT = [
    ("/api/v1/namespaces/NS/services", {"spec": {"ports": [{"port": 80}]}}),
    ("/api/v1/namespaces/NS/limitranges", {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "9"}}]}}),
    ("/apis/coordination.k8s.io/v1/namespaces/NS/leases", {"spec": {}}),
    ("/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles", {"rules": []}),
]


@pytest.mark.parametrize(("path", "body"), CREATED_BY_PUT, ids=lambda value: str(value)[-12:])
async def test_some_kinds_are_created_by_an_update(
    server: Server, namespace: str, path: str, body: Object
) -> None:
    where = f"{path.replace('NS', namespace)}/new"
    assert (await server.http.put(where, {"metadata": {"name": "new"}, **body})).code == 201


async def test_a_lease_is_created_by_an_update_with_any_version_but_no_uid(
    server: Server, namespace: str
) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    sent = {"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {}}
    assert (await server.http.put(f"{path}/a", sent)).code == 201
    answer = await server.http.put(f"{path}/b", {"metadata": {"name": "b", "uid": "5"}, "spec": {}})
    assert (answer.code, answer.json["reason"]) == (409, "Conflict")


async def test_some_kinds_are_updated_by_version_only(server: Server, namespace: str) -> None:
    for path, body in (
        (f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", {"spec": {}}),
        (f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", {"spec": {"minAvailable": 1}}),
    ):
        sent = {"metadata": {"name": "a"}, **body}
        (await server.http.create(path, sent)).ok()
        assert causes(await server.http.put(f"{path}/a", sent)) == [
            (
                "FieldValueInvalid",
                "metadata.resourceVersion",
                "Invalid value: 0: must be specified for an update",
            )
        ]


async def test_other_kinds_are_not_created_by_an_update(server: Server, maps: str) -> None:
    assert (await server.http.put(f"{maps}/a", config_map("a"))).code == 404


# Generation, status, dry runs.


async def test_the_generation_counts_changes_of_the_spec(server: Server, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    sent = {**DEPLOYMENT, "metadata": {"name": "d", "generation": 7}}
    assert (await server.http.create(path, sent)).ok()["metadata"]["generation"] == 1

    async def after(patch: Object, part: str = "") -> int:
        return (await server.http.merge(f"{path}/d{part}", patch)).ok()["metadata"]["generation"]

    assert await after({"metadata": {"labels": {"x": "y"}}}) == 1
    assert await after({"status": {"observedGeneration": 1}}, "/status") == 1
    assert await after({"metadata": {"generation": 9}}) == 1
    assert await after({"spec": {"minReadySeconds": 1}}) == 2
    assert await after({"spec": {"minReadySeconds": 1}}) == 2
    assert await after({"metadata": {"annotations": {"x": "y"}}}) == 3  # Deployments hand theirs on


async def test_status_is_written_by_its_subresource_only(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    sent = {"metadata": {"name": "p"}, "spec": PLAIN_POD, "status": {"message": "given"}}
    made = (await server.http.create(path, sent)).ok()
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    merged = (await server.http.merge(f"{path}/p", {"status": {"message": "x"}})).ok()
    assert "message" not in merged["status"]
    patch = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"activeDeadlineSeconds": 9},
        "status": {"message": "said"},
    }
    told = (await server.http.merge(f"{path}/p/status", patch)).ok()
    assert told["status"]["message"] == "said"
    assert "activeDeadlineSeconds" not in told["spec"]
    put = {**told, "status": {**told["status"], "reason": "Because"}, "spec": PLAIN_POD}
    assert (await server.http.put(f"{path}/p/status", put)).ok()["status"]["reason"] == "Because"
    assert (await server.http.get(f"{path}/p/status")).ok()["status"]["reason"] == "Because"


async def test_a_dry_run_answers_as_the_real_one_would_and_stores_nothing(
    server: Server, maps: str, namespace: str
) -> None:
    made = (await server.http.create(maps, config_map("a", k="v"), dryRun="All")).ok()
    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    assert (await server.http.get(f"{maps}/a")).code == 404
    stored = (await server.http.create(maps, config_map("a", k="v"))).ok()
    for answer in (
        await server.http.put(f"{maps}/a", config_map("a", k="w"), dryRun="All"),
        await server.http.merge(f"{maps}/a", {"data": {"k": "w"}}, dryRun="All"),
        await server.http.apply(f"{maps}/a", config_map("a", k="w"), force="true", dryRun="All"),
    ):
        assert answer.ok()["data"] == {"k": "w"}
        assert answer.json["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    assert (await server.http.delete(f"{maps}/a", dryRun="All")).code == 200
    assert (await server.http.delete(maps, dryRun="All")).code == 200
    assert (await server.http.get(f"{maps}/a")).ok() == stored
    assert (await server.http.create(maps, config_map("a"), dryRun="All")).code == 409
    assert (await server.http.create(maps, config_map("B_"), dryRun="All")).code == 422
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": PLAIN_POD}
    (await server.http.create(path, pod)).ok()
    assert (
        await server.http.create(f"{path}/p/eviction", {"metadata": {"name": "p"}}, dryRun="All")
    ).code == 201
    assert (await server.http.get(f"{path}/p")).code == 200


async def test_a_tls_secret_without_certificates_is_warned_about(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    secret: Object = {
        "metadata": {"name": "t"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "x", "tls.key": "x"},
    }
    answer = await server.http.create(path, secret)
    assert answer.code == 201
    message = '299 - "tls: failed to find any PEM data in certificate input"'
    assert answer.headers.getall("Warning") == [message]
    secret["stringData"]["tls.crt"] = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    answer = await server.http.create(path, {**secret, "metadata": {"name": "u"}})
    assert answer.headers.getall("Warning") == ['299 - "tls: failed to find any PEM data in key input"']
    opaque = {"metadata": {"name": "v"}, "stringData": {"tls.crt": "x", "tls.key": "x"}}
    assert "Warning" not in (await server.http.create(path, opaque)).headers
