"""What each refusal looks like: code, reason, message, details, causes and headers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tests.servers import Server, config_map, pod
from tests.wire import Answer

Object = dict[str, Any]
NO_RESOURCE = "the server could not find the requested resource"
NO_METHOD = "the server does not allow this method on the requested resource"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def check(answer: Answer, code: int, reason: str, message: str, details: Object | None = None) -> None:
    """details None: that there are none."""
    assert answer.code == code, answer.body
    status = answer.json
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert (status["code"], status.get("reason"), status["message"]) == (code, reason, message)
    assert status.get("details") == details


# 400


async def test_a_body_that_is_no_json_is_a_bad_request_that_names_the_kind(server: Server, maps: str) -> None:
    answer = await server.http.request("POST", maps, b"{bad")
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
    assert answer.json["message"].startswith(
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse"
        " error: invalid character 'b'"
    )
    check(
        await server.http.request("POST", maps, b""),
        400,
        "BadRequest",
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse"
        " error: unexpected end of JSON input (<empty>)",
    )


WRONG_TYPES = [
    ({"data": {"a": 1}}, "number into Go struct field ConfigMap.data of type string"),
    ({"data": []}, "array into Go struct field ConfigMap.data of type map[string]string"),
    ({"data": "s"}, "string into Go struct field ConfigMap.data of type map[string]string"),
    ({"metadata": {"name": 1}}, "number into Go struct field ObjectMeta.metadata.name of type string"),
    ({"metadata": []}, "array into Go struct field ConfigMap.metadata of type v1.ObjectMeta"),
    ({"immutable": "x"}, "string into Go struct field ConfigMap.immutable of type bool"),
    (
        {"metadata": {"ownerReferences": [1]}},
        "number into Go struct field ObjectMeta.metadata.ownerReferences of type v1.OwnerReference",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG_TYPES, ids=lambda value: str(value)[:30])
async def test_a_value_of_a_wrong_type_is_named_by_its_field(
    server: Server, maps: str, body: Object, message: str
) -> None:
    start = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal '
    check(await server.http.create(maps, body), 400, "BadRequest", start + message)


async def test_numbers_that_do_not_fit_are_named_by_their_field(server: Server, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    start = 'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
    for value, shown in ((99999999999, "number 99999999999"), (1.5, "number 1.5"), ("3", "string")):
        answer = await server.http.create(path, {"metadata": {"name": "x"}, "spec": {"replicas": value}})
        message = f"{start}{shown} into Go struct field DeploymentSpec.spec.replicas of type int32"
        check(answer, 400, "BadRequest", message)
    rolling = {"strategy": {"rollingUpdate": {"maxSurge": 99999999999}}}
    answer = await server.http.create(path, {"metadata": {"name": "x"}, "spec": rolling})
    place = "RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge"
    message = f"{start}number 99999999999 into Go struct field {place} of type int32"
    check(answer, 400, "BadRequest", message)


async def test_custom_objects_must_say_their_version_and_kind(server: Server, namespace: str) -> None:
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets"
    answer = await server.http.create(path, {"metadata": {"name": "x"}})
    check(
        answer,
        400,
        "BadRequest",
        "the object provided is unrecognized (must be of type LeaderWorkerSet): Object 'Kind' is missing in"
        ' \'{"metadata":{"name":"x"}}\' ({"metadata":{"name":"x"}})',
    )
    answer = await server.http.create(path, {"kind": "LeaderWorkerSet", "metadata": {"name": "x"}})
    text = (
        "the API version in the data () does not match the expected API version (leaderworkerset.x-k8s.io/v1)"
    )
    check(answer, 400, "BadRequest", text)


async def test_a_selector_that_cannot_be_read_is_a_bad_request(server: Server, namespace: str) -> None:
    base = f"/api/v1/namespaces/{namespace}"
    unknown = "field label not supported: spec.x"
    check(await server.http.get(f"{base}/pods", fieldSelector="spec.x=1"), 400, "BadRequest", unknown)
    lws = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets"
    check(await server.http.get(lws, fieldSelector="spec.x=1"), 400, "BadRequest", unknown)
    text = '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'
    check(await server.http.get(f"{base}/configmaps", fieldSelector="spec.x=1"), 400, "BadRequest", text)


# 401, 403


async def test_nobody_knows_a_bad_token(server: Server) -> None:
    check(await server.bearer("nonsense").get("/api/v1/pods"), 401, "Unauthorized", "Unauthorized")


async def test_what_one_has_no_right_to_is_named(server: Server, namespace: str) -> None:
    jane = server.as_user("jane")
    check(
        await jane.get("/api/v1/pods"),
        403,
        "Forbidden",
        'pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope',
        {"kind": "pods"},
    )
    check(
        await jane.merge(f"/apis/apps/v1/namespaces/{namespace}/deployments/web/scale", {}),
        403,
        "Forbidden",
        'deployments.apps "web" is forbidden: User "jane" cannot patch resource "deployments/scale" in API group'
        f' "apps" in the namespace "{namespace}"',
        {"name": "web", "group": "apps", "kind": "deployments"},
    )
    message = 'forbidden: User "jane" cannot get path "/nothing"'
    check(await jane.get("/nothing"), 403, "Forbidden", message, {})


async def test_admission_says_why_it_forbids(server: Server, namespace: str) -> None:
    name = f"{namespace}-empty"
    spec = pod("x", serviceAccountName="nobody")
    answer = await server.http.create(f"/api/v1/namespaces/{namespace}/pods", spec)
    text = f'error looking up service account {namespace}/nobody: serviceaccount "nobody" not found'
    check(answer, 403, "Forbidden", f'pods "x" is forbidden: {text}', {"name": "x", "kind": "pods"})
    answer = await server.http.delete("/api/v1/namespaces/default")
    message = 'namespaces "default" is forbidden: this namespace may not be deleted'
    check(answer, 403, "Forbidden", message, {"name": "default", "kind": "namespaces"})
    answer = await server.http.create(f"/api/v1/namespaces/{name}/configmaps", config_map("x"))
    message = f'namespaces "{name}" not found'
    check(answer, 404, "NotFound", message, {"name": name, "kind": "namespaces"})


# 404, 405


async def test_an_absent_object_is_named_with_its_resource(server: Server, namespace: str) -> None:
    for path, kind, group in (
        (f"/api/v1/namespaces/{namespace}/configmaps", "configmaps", ""),
        (f"/apis/apps/v1/namespaces/{namespace}/deployments", "deployments", "apps"),
    ):
        details = {"name": "none", **({"group": group} if group else {}), "kind": kind}
        message = f'{kind}{"." if group else ""}{group} "none" not found'
        for method, body in (("GET", None), ("DELETE", None), ("PUT", {"metadata": {"name": "none"}})):
            check(await server.http.request(method, f"{path}/none", body), 404, "NotFound", message, details)
        check(await server.http.merge(f"{path}/none", {}), 404, "NotFound", message, details)


@pytest.mark.parametrize(
    "path", ["/api/v2", "/api/v1/nope", "/apis/apps/v9", "/apis/apps/v1/nope", "/apis/apps/v2/deployments"]
)
async def test_an_unknown_version_or_resource_of_a_built_in_group_is_a_status(
    server: Server, path: str
) -> None:
    check(await server.http.get(path), 404, "NotFound", NO_RESOURCE, {})


@pytest.mark.parametrize(
    "path", ["/nope", "/apis/nope", "/apis/nope/v1/things", "/apis/leaderworkerset.x-k8s.io/v1/nope"]
)
async def test_other_unknown_paths_are_plain_text(server: Server, path: str) -> None:
    answer = await server.http.get(path)
    assert (answer.code, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/configmaps"),
        ("DELETE", "/api/v1/configmaps"),
        ("PUT", "/api/v1/namespaces/default/configmaps"),
        ("PATCH", "/api/v1/namespaces/default/configmaps"),
        ("POST", "/api/v1/namespaces/default/configmaps/x"),
        ("DELETE", "/api/v1/namespaces"),
        ("PATCH", "/api/v1/nodes"),
    ],
)
async def test_a_verb_that_a_resource_lacks_is_not_allowed(server: Server, method: str, path: str) -> None:
    check(await server.http.request(method, path, {}), 405, "MethodNotAllowed", NO_METHOD, {})


# 406, 409, 410, 413, 415


async def test_a_form_that_is_not_to_be_had_is_not_acceptable(server: Server, maps: str) -> None:
    answer = await server.http.request("GET", maps, headers={"Accept": "application/cbor"})
    assert (answer.code, answer.json["reason"]) == (406, "NotAcceptable")


async def test_conflicts_say_what_is_in_the_way(server: Server, maps: str) -> None:
    made = (await server.http.create(maps, config_map("a"))).ok()
    details = {"name": "a", "kind": "configmaps"}
    check(
        await server.http.create(maps, config_map("a")),
        409,
        "AlreadyExists",
        'configmaps "a" already exists',
        details,
    )
    (await server.http.merge(f"{maps}/a", {"data": {"x": "y"}})).ok()
    check(
        await server.http.put(f"{maps}/a", made),
        409,
        "Conflict",
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes'
        " to the latest version and try again",
        details,
    )


async def test_a_body_of_more_than_three_megabytes_is_too_large(server: Server, maps: str) -> None:
    answer = await server.http.request("POST", maps, io.BytesIO(b" " * (3 << 20) + b"{}"))
    check(
        answer,
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    )


async def test_a_body_in_an_unknown_format_is_refused_with_those_that_are_known(
    server: Server, maps: str, namespace: str
) -> None:
    start = "the body of the request was in an unknown format - accepted media types include: "
    forms = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    answer = await server.http.request("POST", maps, config_map("a"), content_type="text/plain")
    check(answer, 415, "UnsupportedMediaType", start + forms)
    lws = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets/a"
    answer = await server.http.request(
        "PATCH", lws, {}, content_type="application/strategic-merge-patch+json"
    )
    forms = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    check(answer, 415, "UnsupportedMediaType", start + forms)


# 422, 429, 504


async def test_what_is_invalid_is_told_by_kind_with_a_cause_each(server: Server, maps: str) -> None:
    answer = await server.http.create(
        maps, {"metadata": {"name": "x", "finalizers": ["a"]}, "data": {"b c": ""}}
    )
    form = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or"
        " 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    )
    finalizer = "name is neither a standard finalizer name nor is it fully qualified"
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": f'Invalid value: "a": {finalizer}',
            "field": "metadata.finalizers[0]",
        },
        {"reason": "FieldValueInvalid", "message": f'Invalid value: "b c": {form}', "field": "data[b c]"},
    ]
    texts = ", ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
    check(
        answer,
        422,
        "Invalid",
        f'ConfigMap "x" is invalid: [{texts}]',
        {"name": "x", "kind": "ConfigMap", "causes": causes},
    )


OPTIONS = [
    ("dryRun", "Some", "FieldValueNotSupported", 'Unsupported value: ["Some"]: supported values: "All"'),
    (
        "fieldValidation",
        "Some",
        "FieldValueNotSupported",
        'Unsupported value: "Some": supported values: "", "Ignore", "Strict", "Warn"',
    ),
    ("fieldManager", "x" * 129, "FieldValueTooLong", "Too long: may not be more than 128 bytes"),
    (
        "fieldManager",
        "x\x01",
        "FieldValueInvalid",
        'Invalid value: "x\\x01": invalid character U+0001 (at position 1)',
    ),
]


@pytest.mark.parametrize(("option", "value", "reason", "message"), OPTIONS, ids=lambda value: str(value)[:20])
async def test_options_that_mean_nothing_are_told_by_their_kind(
    server: Server, maps: str, option: str, value: str, reason: str, message: str
) -> None:
    answer = await server.http.create(maps, config_map("a"), **{option: value})
    check(
        answer,
        422,
        "Invalid",
        f'CreateOptions.meta.k8s.io "" is invalid: {option}: {message}',
        {
            "group": "meta.k8s.io",
            "kind": "CreateOptions",
            "causes": [{"reason": reason, "message": message, "field": option}],
        },
    )


async def test_an_eviction_that_a_budget_does_not_allow_is_too_many_requests(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    base = f"/api/v1/namespaces/{namespace}"
    budget = {
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}},
    }
    (await server.http.create(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)).ok()
    (await server.http.create(f"{base}/pods", pod("p", nodeName=nodes[0]))).ok()
    (
        await server.http.merge(
            f"{base}/pods/p/status",
            {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
        )
    ).ok()
    answer = await server.http.create(f"{base}/pods/p/eviction", {"metadata": {"name": "p"}})
    assert (answer.code, answer.json["reason"]) == (429, "TooManyRequests")
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    assert answer.json["message"] == message
    assert answer.json["details"]["causes"][0]["reason"] == "DisruptionBudget"


async def test_a_version_of_the_future_is_a_timeout_to_try_again(server: Server, maps: str) -> None:
    now = int((await server.http.get(maps)).ok()["metadata"]["resourceVersion"])
    answer = await server.http.get(maps, resourceVersion=str(now + 100_000))
    assert (answer.code, answer.json["reason"]) == (504, "Timeout")
    assert answer.json["message"].startswith(
        f"Timeout: Too large resource version: {now + 100_000}, current: "
    )
    assert answer.json["details"] == {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    assert answer.headers["Retry-After"] == "1"
