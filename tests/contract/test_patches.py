"""PATCH: JSON, merge and strategic merge patches, and server-side apply, each by itself."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import Server, config_map
from tests.wire import Answer

Object = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
REJECTED = "the server rejected our request due to an error in our request"


@pytest.fixture
async def one(server: Server, namespace: str) -> str:
    """A map `a` with `data: {a: "1", b: "2"}`."""
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    (await server.http.create(collection, config_map("a", a="1", b="2"), fieldManager="first")).ok()
    return f"{collection}/a"


@pytest.fixture
async def template(server: Server, namespace: str) -> str:
    """A PodTemplate `t`, which no controller writes to."""
    collection = f"/api/v1/namespaces/{namespace}/podtemplates"
    container = {
        "name": "c",
        "image": "i",
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"containerPort": 80}],
        "args": ["x"],
    }
    spec = {"containers": [container, {"name": "d", "image": "i"}], "tolerations": [{"operator": "Exists"}]}
    body = {
        "metadata": {"name": "t", "labels": {"a": "b"}, "finalizers": ["x/a", "x/b"]},
        "template": {"spec": spec},
    }
    (await server.http.create(collection, body)).ok()
    return f"{collection}/t"


async def patch(server: Server, path: str, body: Any, content_type: str, **query: str) -> Answer:
    return await server.http.request("PATCH", path, body, content_type=content_type, **query)


# JSON patches


async def test_operations_of_a_json_patch_follow_each_other(server: Server, one: str) -> None:
    operations = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/x~1y~0z", "value": "3"},
        {"op": "copy", "from": "/data/a", "path": "/data/c"},
        {"op": "move", "from": "/data/b", "path": "/data/m"},
        {"op": "replace", "path": "/data/a", "value": "9"},
        {"op": "remove", "path": "/data/x~1y~0z"},
    ]
    assert (await patch(server, one, operations, JSON_PATCH)).ok()["data"] == {"a": "9", "c": "1", "m": "2"}
    assert (await patch(server, one, [], JSON_PATCH)).ok()["data"]["a"] == "9"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/a", "value": "no"},
        {"op": "remove", "path": "/data/none"},
        {"op": "jump", "path": "/data/a"},
        {"path": "/data/a"},
        {"op": "add", "path": "data", "value": 1},
    ],
    ids=str,
)
async def test_a_json_patch_that_does_not_fit_is_unprocessable(
    server: Server, one: str, operation: Object
) -> None:
    answer = await patch(server, one, [operation], JSON_PATCH)
    assert (answer.code, answer.json["reason"], answer.json["message"]) == (422, "Invalid", REJECTED)


async def test_a_json_patch_is_a_list(server: Server, one: str) -> None:
    answer = await patch(server, one, {"op": "test"}, JSON_PATCH)
    start = "error decoding patch: json: cannot unmarshal object into Go value of type"
    assert answer.code == 400
    assert answer.json["message"].startswith(start)


async def test_a_version_in_a_patch_is_a_precondition(server: Server, one: str) -> None:
    old = {"metadata": {"resourceVersion": "1"}}
    answers = [
        await patch(
            server, one, [{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}], JSON_PATCH
        ),
        await patch(server, one, old, MERGE_PATCH),
        await patch(server, one, old, STRATEGIC),
        await server.http.apply(
            one, {**config_map("a"), "metadata": {"name": "a", "resourceVersion": "1"}}, "m"
        ),
    ]
    assert [(answer.code, answer.json["reason"]) for answer in answers] == [(409, "Conflict")] * 4
    free = await patch(server, one, [{"op": "remove", "path": "/metadata/resourceVersion"}], JSON_PATCH)
    assert free.code == 200


# Merge patches


async def test_a_merge_patch_merges_maps_and_null_removes(server: Server, one: str) -> None:
    merged = (await patch(server, one, {"data": {"a": None, "c": "3"}}, MERGE_PATCH)).ok()
    assert merged["data"] == {"b": "2", "c": "3"}
    assert "data" not in (await patch(server, one, {"data": None}, MERGE_PATCH)).ok()


async def test_a_merge_patch_replaces_lists(server: Server, template: str) -> None:
    body = {"template": {"spec": {"containers": [{"name": "e", "image": "i"}]}}}
    merged = (await patch(server, template, body, MERGE_PATCH)).ok()
    assert [container["name"] for container in merged["template"]["spec"]["containers"]] == ["e"]


IDENTITY: list[tuple[Object, int, str]] = [
    ({"metadata": {"name": "q"}}, 400, "the name of the object (q) does not match the name on the URL (a)"),
    (
        {"metadata": {"namespace": "q"}},
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    ),
    (
        {"metadata": None},
        400,
        "the name of the object (a based on URL) was undeterminable: name must be provided",
    ),
    (
        {"metadata": {"uid": "q"}},
        422,
        'ConfigMap "a" is invalid: metadata.uid: Invalid value: "q": field is immutable',
    ),
]


@pytest.mark.parametrize(("body", "code", "message"), IDENTITY, ids=lambda value: str(value)[:30])
async def test_a_patch_may_not_change_which_object_it_is(
    server: Server, one: str, body: Object, code: int, message: str
) -> None:
    answer = await patch(server, one, body, MERGE_PATCH)
    assert (answer.code, answer.json["message"]) == (code, message)


async def test_a_patch_may_not_change_the_kind(server: Server, one: str) -> None:
    for body in ({"kind": "Secret"}, {"apiVersion": "v2"}):
        assert (await patch(server, one, body, MERGE_PATCH)).code in (400, 422)


async def test_what_the_server_owns_stays(server: Server, one: str) -> None:
    before = (await server.http.get(one)).ok()
    body = {"metadata": {"creationTimestamp": None, "deletionTimestamp": None, "uid": None, "selfLink": "x"}}
    assert (await patch(server, one, body, MERGE_PATCH)).ok() == before
    body = {"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}}
    assert (await patch(server, one, body, MERGE_PATCH)).ok() == before
    refused = await patch(
        server, one, {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}, MERGE_PATCH
    )
    text = 'metadata.deletionTimestamp: Invalid value: "2020-01-01T00:00:00Z": field is immutable'
    assert (refused.code, refused.json["message"]) == (422, f'ConfigMap "a" is invalid: {text}')


async def test_a_patched_value_of_a_wrong_type_is_unprocessable(server: Server, one: str) -> None:
    answer = await patch(server, one, {"data": {"a": 1}}, MERGE_PATCH)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    (cause,) = answer.json["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "patch")
    text = "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    assert cause["message"].endswith(text)


async def test_unknown_fields_of_a_patch_are_told_or_refused(server: Server, one: str) -> None:
    for content_type in (MERGE_PATCH, STRATEGIC):
        warned = await patch(server, one, {"foo": 1}, content_type)
        assert warned.code == 200
        (text,) = warned.headers.getall("Warning")
        assert text.startswith('299 - "unknown field \\"foo\\"')
        ignored = await patch(server, one, {"foo": 1}, content_type, fieldValidation="Ignore")
        assert ignored.code == 200
        assert "Warning" not in ignored.headers
        strict = await patch(server, one, {"foo": 1}, content_type, fieldValidation="Strict")
        assert strict.code == 422
        assert strict.json["details"]["causes"][0]["message"].endswith(
            'strict decoding error: unknown field "foo"'
        )


async def test_force_is_for_apply_only_and_a_manager_is_needed_there(server: Server, one: str) -> None:
    answer = await patch(server, one, {}, MERGE_PATCH, force="true")
    assert [cause["message"] for cause in answer.json["details"]["causes"]] == [
        "Forbidden: may not be specified for non-apply patch"
    ]
    answer = await patch(server, one, config_map("a"), "application/apply-patch+yaml")
    assert [cause["message"] for cause in answer.json["details"]["causes"]] == [
        "Required value: is required for apply patch"
    ]


# Strategic merge patches


def _spec(**fields: Any) -> Object:
    return {"template": {"spec": fields}}


def _container(**fields: Any) -> Object:
    return _spec(containers=[{"name": "c", **fields}])


def _names(obj: Object, field: str = "containers") -> list[str]:
    return [item["name"] for item in obj["template"]["spec"][field]]


async def test_items_merge_by_their_key_and_new_ones_go_first(server: Server, template: str) -> None:
    body = _spec(containers=[{"name": "new", "image": "n"}, {"name": "c", "image": "2"}])
    merged = (await patch(server, template, body, STRATEGIC)).ok()
    assert _names(merged) == ["new", "c", "d"]
    assert merged["template"]["spec"]["containers"][1]["env"] == [{"name": "A", "value": "1"}]


async def test_the_order_can_be_said(server: Server, template: str) -> None:
    body = {
        **_spec(
            **{"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}, {"name": "z"}]},
            containers=[{"name": "z", "image": "z"}],
        )
    }
    assert _names((await patch(server, template, body, STRATEGIC)).ok()) == ["d", "c", "z"]
    alone = _spec(**{"$setElementOrder/containers": [{"name": "z"}, {"name": "c"}, {"name": "d"}]})
    assert _names((await patch(server, template, alone, STRATEGIC)).ok()) == ["z", "c", "d"]


async def test_items_can_be_deleted_and_lists_replaced(server: Server, template: str) -> None:
    body = _container(env=[{"name": "A", "$patch": "delete"}, {"name": "B", "value": "2"}])
    merged = (await patch(server, template, body, STRATEGIC)).ok()
    assert merged["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]
    body = _container(env=[{"$patch": "replace"}, {"name": "Z", "value": "9"}])
    merged = (await patch(server, template, body, STRATEGIC)).ok()
    assert merged["template"]["spec"]["containers"][0]["env"] == [{"name": "Z", "value": "9"}]
    merged = (
        await patch(server, template, _spec(containers=[{"name": "d", "$patch": "delete"}]), STRATEGIC)
    ).ok()
    assert _names(merged) == ["c"]


async def test_maps_can_be_replaced_and_deleted(server: Server, template: str) -> None:
    body = {"metadata": {"labels": {"$patch": "replace", "q": "r"}}}
    assert (await patch(server, template, body, STRATEGIC)).ok()["metadata"]["labels"] == {"q": "r"}
    body = {"metadata": {"labels": {"$patch": "delete"}}}
    assert "labels" not in (await patch(server, template, body, STRATEGIC)).ok()["metadata"]


async def test_lists_without_a_key_are_replaced_unless_their_values_merge(
    server: Server, template: str
) -> None:
    merged = (await patch(server, template, _container(args=["y", "z"]), STRATEGIC)).ok()
    assert merged["template"]["spec"]["containers"][0]["args"] == ["y", "z"]
    merged = (
        await patch(server, template, _spec(tolerations=[{"key": "k", "operator": "Exists"}]), STRATEGIC)
    ).ok()
    assert merged["template"]["spec"]["tolerations"] == [{"key": "k", "operator": "Exists"}]
    merged = (await patch(server, template, {"metadata": {"finalizers": ["x/c"]}}, STRATEGIC)).ok()
    assert sorted(merged["metadata"]["finalizers"]) == ["x/a", "x/b", "x/c"]
    body = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/b", "x/c"]}}
    assert (await patch(server, template, body, STRATEGIC)).ok()["metadata"]["finalizers"] == ["x/a"]


async def test_a_union_keeps_the_keys_that_are_retained(server: Server, template: str) -> None:
    volume = {"name": "v", "emptyDir": {}}
    (await patch(server, template, _spec(volumes=[volume]), STRATEGIC)).ok()
    other = {"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}
    merged = (await patch(server, template, _spec(volumes=[other]), STRATEGIC)).ok()
    (shown,) = merged["template"]["spec"]["volumes"]
    assert shown == {"name": "v", "configMap": {"name": "m", "defaultMode": 420}}


async def test_what_a_strategic_patch_cannot_do_is_refused(server: Server, template: str) -> None:
    keyless = await patch(server, template, _spec(containers=[{"image": "x"}]), STRATEGIC)
    assert keyless.code >= 400
    assert "does not contain declared merge key: name" in keyless.json["message"]
    unknown = await patch(server, template, {"metadata": {"labels": {"$patch": "jump"}}}, STRATEGIC)
    assert unknown.code >= 400
    assert "jump" in unknown.json["message"]


# Server-side apply


def _entries(obj: Object) -> list[tuple[str, str]]:
    return [(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]]


async def test_an_apply_creates_and_then_updates(server: Server, one: str) -> None:
    path = one.removesuffix("/a") + "/new"
    made = await server.http.apply(path, config_map("new", a="1"), "m")
    assert (made.code, _entries(made.json)) == (201, [("m", "Apply")])
    assert made.json["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
    again = await server.http.apply(path, config_map("new", a="1"), "m")
    assert again.code == 200
    assert again.json == made.json


async def test_another_s_value_is_a_conflict_unless_it_is_forced(server: Server, one: str) -> None:
    refused = await server.http.apply(one, config_map("a", a="9"), "m")
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")
    message = 'Apply failed with 1 conflict: conflict with "first" using v1: .data.a'
    assert refused.json["message"] == message
    assert refused.json["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "first" using v1', "field": ".data.a"}
    ]
    both = await server.http.apply(one, config_map("a", a="9", b="9"), "m")
    assert both.json["message"] == (
        'Apply failed with 2 conflicts: conflicts with "first" using v1:\n- .data.a\n- .data.b'
    )
    tried = await server.http.apply(one, config_map("a", a="9"), "m", force="true", dryRun="All")
    assert tried.ok()["data"]["a"] == "9"
    assert (await server.http.get(one)).ok()["data"]["a"] == "1"
    forced = (await server.http.apply(one, config_map("a", a="9"), "m", force="true")).ok()
    owned = {entry["manager"]: entry["fieldsV1"]["f:data"] for entry in forced["metadata"]["managedFields"]}
    assert owned == {"m": {"f:a": {}}, "first": {".": {}, "f:b": {}}}


async def test_the_same_value_is_shared_and_goes_when_nobody_owns_it(server: Server, one: str) -> None:
    path = one.removesuffix("/a") + "/shared"
    (await server.http.apply(path, config_map("shared", a="1", b="2"), "m")).ok()
    (await server.http.apply(path, config_map("shared", a="1"), "n")).ok()
    nothing = {key: config_map("shared")[key] for key in ("apiVersion", "kind", "metadata")}
    assert (await server.http.apply(path, nothing, "m")).ok()["data"] == {"a": "1"}
    left = (await server.http.apply(path, nothing, "n")).ok()
    assert "data" not in left
    assert "managedFields" not in left["metadata"]


BAD_APPLIES: list[tuple[Object, int, str]] = [
    ({"metadata": {"name": "a"}}, 400, "invalid object type: /, Kind="),
    ({"apiVersion": "v1", "metadata": {"name": "a"}}, 400, "invalid object type: /v1, Kind="),
    (
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}},
        400,
        "invalid object type: /v1, Kind=Secret",
    ),
    (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{}]}},
        400,
        "metadata.managedFields must be nil",
    ),
    (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}},
        400,
        "the name of the object (b) does not match the name on the URL (a)",
    ),
    (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "q"}},
        422,
        'ConfigMap "a" is invalid: metadata.uid: Invalid value: "q": field is immutable',
    ),
]


@pytest.mark.parametrize(("body", "code", "message"), BAD_APPLIES, ids=lambda value: str(value)[-40:])
async def test_an_apply_must_say_what_it_is_about(
    server: Server, one: str, body: Object, code: int, message: str
) -> None:
    answer = await server.http.apply(one, body, "m")
    assert (answer.code, answer.json["message"]) == (code, message)


async def test_an_apply_with_a_uid_never_creates_but_with_a_version_it_does(server: Server, one: str) -> None:
    collection = one.removesuffix("/a")
    sent = config_map("u")
    sent["metadata"]["uid"] = "1"
    answer = await server.http.apply(f"{collection}/u", sent, "m")
    assert (answer.code, answer.json["message"]) == (
        409,
        'Operation cannot be fulfilled on configmaps "u": uid mismatch: the provided object specified uid 1, and no'
        " existing object was found",
    )
    sent = config_map("v")
    sent["metadata"]["resourceVersion"] = "1"
    assert (await server.http.apply(f"{collection}/v", sent, "m")).code == 201


async def test_an_apply_that_does_not_fit_the_schema_is_refused(
    server: Server, one: str, namespace: str
) -> None:
    sent = {**config_map("a"), "foo": 1}
    sent["metadata"]["namespace"] = namespace
    answer = await server.http.apply(one, sent, "m")
    assert answer.code == (500 if server.name == "real" else 400)  # it is the client's fault
    assert answer.json["message"] == (
        f"failed to create typed patch object ({namespace}/a; /v1, Kind=ConfigMap): .foo: field not declared in"
        " schema"
    )


async def test_an_apply_may_be_yaml(server: Server, one: str) -> None:
    path = one.removesuffix("/a") + "/yaml"
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata:\n  a: text\n"
    made = await patch(server, path, body, "application/apply-patch+yaml", fieldManager="m")
    assert made.ok()["data"] == {"a": "text"}
    old_truth = body.replace(b"text", b"y")
    refused = await patch(server, path, old_truth, "application/apply-patch+yaml", fieldManager="m")
    assert ".data.a: expected string, got " in refused.json["message"]
