"""ValidatingAdmissionPolicies on a running server."""

from __future__ import annotations

from typing import Any

import pytest
from tests.apiserver.admission.conftest import REGISTRATION, Cluster, rule
from tests.apiserver.core.conftest import CONFIG_MAPS, config_map
from tests.wire import Api, Object

POLICIES = f"{REGISTRATION}/validatingadmissionpolicies"
BINDINGS = f"{REGISTRATION}/validatingadmissionpolicybindings"


def policy(name: str, *validations: Object, resources: str = "configmaps", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule(resources, operations=("CREATE", "UPDATE"))]},
            "validations": list(validations),
            **spec,
        },
    }


def binding(policy_name: str, name: str = "", actions: tuple[str, ...] = ("Deny",), **spec: Any) -> Object:
    return {
        "metadata": {"name": name or policy_name},
        "spec": {"policyName": policy_name, "validationActions": list(actions), **spec},
    }


async def enforce(api: Api, declared: Object, *bindings: Object) -> None:
    (await api.create(POLICIES, declared)).ok()
    for bound in bindings or (binding(declared["metadata"]["name"]),):
        (await api.create(BINDINGS, bound)).ok()


async def test_a_validation_that_does_not_hold_refuses(api: Api) -> None:
    await enforce(
        api,
        policy(
            "small",
            {"expression": "!has(object.data) || size(object.data) <= variables.most"},
            variables=[{"name": "most", "expression": "1"}],
        ),
    )
    (await api.create(CONFIG_MAPS, config_map("x", a="1"))).ok()
    answer = await api.create(CONFIG_MAPS, config_map("y", a="1", b="2"))
    assert answer.code == 422
    message = (
        "ValidatingAdmissionPolicy 'small' with binding 'small' denied request: "
        "failed expression: !has(object.data) || size(object.data) <= variables.most"
    )
    assert answer.json["message"] == f'configmaps "y" is forbidden: {message}'
    assert answer.json["reason"] == "Invalid"
    assert answer.json["details"]["causes"] == [{"message": message}]
    assert (await api.merge(f"{CONFIG_MAPS}/x", {"data": {"b": "2"}})).code == 422


@pytest.mark.parametrize(
    ("validation", "words", "code"),
    [
        ({"message": "no more"}, "no more", 422),
        ({"messageExpression": "'%d is too many'.format([size(object.data)])"}, "2 is too many", 422),
        ({"messageExpression": "string(object.nothing.there)", "message": "else"}, "else", 422),
        ({"message": "go", "reason": "Forbidden"}, "go", 403),
        ({"message": "go", "reason": "RequestEntityTooLarge"}, "go", 413),
    ],
)
async def test_messages_and_reasons_are_the_policy_s(
    api: Api, validation: Object, words: str, code: int
) -> None:
    await enforce(api, policy("p", {"expression": "size(object.data) < 2", **validation}))
    answer = await api.create(CONFIG_MAPS, config_map("y", a="1", b="2"))
    assert answer.code == code
    assert answer.json["message"].endswith(f"denied request: {words}")


async def test_old_objects_requests_namespaces_and_rights_are_seen(cluster: Cluster) -> None:
    api = cluster.admin
    await enforce(
        api,
        policy(
            "all",
            {
                "expression": (
                    "request.operation == 'CREATE' ? oldObject == null : oldObject.data.a != object.data.a"
                ),
                "message": "same",
            },
            {"expression": "namespaceObject.metadata.name == request.namespace"},
            {"expression": "authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()"},
            {"expression": "authorizer.requestResource.check('delete').allowed()"},
        ),
    )  # fmt: skip
    (await api.create(CONFIG_MAPS, config_map("x", a="1"))).ok()
    assert (await api.merge(f"{CONFIG_MAPS}/x", {"metadata": {"labels": {"a": "b"}}})).code == 422
    (await api.merge(f"{CONFIG_MAPS}/x", {"data": {"a": "2"}})).ok()


async def test_actions_warn_and_audit_instead_of_refusing(api: Api) -> None:
    await enforce(
        api,
        policy("p", {"expression": "false", "message": "hm"}, auditAnnotations=[{"key": "k", "valueExpression": "string(object.metadata.name)"}]),
        binding("p", "b", ("Warn", "Audit")),
    )  # fmt: skip
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    answer.ok()
    assert (
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': hm"
        in answer.headers["Warning"]
    )
    audit = await api.get("/kajitori/audit", resource="configmaps", namespace="default", name="x")
    assert "validation.policy.admission.k8s.io/validation_failure" in audit.body.decode()
    assert "p/k" in audit.body.decode()


async def test_an_error_fails_closed_or_open(api: Api) -> None:
    await enforce(api, policy("closed", {"expression": "object.data.missing == 'x'"}))
    answer = await api.create(CONFIG_MAPS, config_map("x", a="1"))
    assert answer.code == 422
    assert answer.json["message"].endswith(
        "expression 'object.data.missing == 'x'' resulted in error: no such key: missing"
    )
    changed = {"spec": {"failurePolicy": "Ignore"}}
    (await api.merge(f"{POLICIES}/closed", changed)).ok()
    (await api.create(CONFIG_MAPS, config_map("x", a="1"))).ok()


async def test_an_evaluation_that_never_ends_is_stopped(api: Api) -> None:
    loop = "range.all(a, range.all(b, range.all(c, a + b + c >= 0)))".replace("range", "lists")
    numbers = ", ".join(str(n) for n in range(120))
    await enforce(
        api,
        policy(
            "slow",
            {"expression": loop.replace("lists", "variables.numbers")},
            variables=[{"name": "numbers", "expression": f"[{numbers}]"}],
        ),
    )
    answer = await api.create(CONFIG_MAPS, config_map("x"))
    assert answer.code == 422
    assert answer.json["message"].endswith(
        "resulted in error: operation cancelled: actual cost limit exceeded"
    )


async def test_conditions_and_bindings_choose_requests(api: Api) -> None:
    named = policy(
        "p",
        {"expression": "false"},
        matchConditions=[{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}],
    )
    named["spec"]["matchConstraints"]["excludeResourceRules"] = [
        {**rule("configmaps"), "resourceNames": ["free"]}
    ]
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}
    await enforce(api, named, binding("p", matchResources=here))
    assert (await api.create(CONFIG_MAPS, config_map("other"))).code == 422
    (await api.create(CONFIG_MAPS, config_map("mine"))).ok()
    (await api.create(CONFIG_MAPS, config_map("free"))).ok()
    elsewhere = "/api/v1/namespaces/kube-system/configmaps"
    (await api.create(elsewhere, config_map("other", "kube-system"))).ok()
    (await api.delete(f"{BINDINGS}/p")).ok()
    (await api.create(CONFIG_MAPS, config_map("other"))).ok()


async def test_parameters_come_from_the_object_that_a_binding_names(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("limits", most="1"))).ok()
    with_params = policy(
        "p",
        {"expression": "size(object.data) <= int(params.data.most)", "message": "too many"},
        resources="secrets",
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    with_params["spec"]["validations"][0]["expression"] = (
        "!has(object.data) || size(object.data) <= int(params.data.most)"
    )
    await enforce(
        api,
        with_params,
        binding("p", paramRef={"name": "limits", "parameterNotFoundAction": "Deny"}),
    )
    secrets = "/api/v1/namespaces/default/secrets"
    (await api.create(secrets, {"metadata": {"name": "a"}, "stringData": {"a": "1"}})).ok()
    body = {"metadata": {"name": "b"}, "stringData": {"a": "1", "b": "2"}}
    assert (await api.create(secrets, body)).code == 422
    (await api.delete(f"{CONFIG_MAPS}/limits")).ok()
    answer = await api.create(secrets, {"metadata": {"name": "c"}})
    assert answer.json["message"].endswith(
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )


async def test_what_cannot_work_is_refused_with_its_place(api: Api) -> None:
    async def places(declared: Object, path: str = POLICIES) -> list[str]:
        answer = await api.create(path, declared)
        assert answer.code == 422, answer.body
        return [cause["field"] for cause in answer.json["details"]["causes"]]

    assert await places(policy("p", {"expression": "object."})) == ["spec.validations[0].expression"]
    assert await places(policy("p", {"expression": "1 + 1"})) == ["spec.validations[0].expression"]
    dynamic = policy("p", {"expression": "true", "messageExpression": "object.a"})
    answer = await api.create(POLICIES, dynamic)
    assert "must evaluate to string but got dyn" in answer.json["message"]
    assert await places(policy("p", {"expression": "variables.x"})) == ["spec.validations[0].expression"]
    assert await places(policy("p", {"expression": "params.x"})) == ["spec.validations[0].expression"]
    assert await places(policy("p")) == ["spec.validations", "spec.auditAnnotations"]
    assert await places(policy("p", {"expression": "true", "reason": "No"})) == ["spec.validations[0].reason"]
    assert await places({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "true"}]}}) == [
        "spec.matchConstraints"
    ]
    assert await places(binding("p", actions=("Deny", "Warn")), BINDINGS) == ["spec.validationActions"]
    assert await places(binding("", "b"), BINDINGS) == ["spec.policyName"]
    hook = {"metadata": {"name": "h"}, "webhooks": [{"name": "short", "clientConfig": {"url": "http://x/"}}]}
    assert await places(hook, f"{REGISTRATION}/validatingwebhookconfigurations") == [
        "webhooks[0].name",
        "webhooks[0].sideEffects",
        "webhooks[0].clientConfig.url",
        "webhooks[0].admissionReviewVersions",
    ]


async def test_the_status_tells_which_expressions_do_not_fit_their_kind(api: Api) -> None:
    declared = policy("p", {"expression": "object.dta.x == 'y'"}, {"expression": "object.data.x == 'y'"})
    status = (await api.create(POLICIES, declared)).ok()["status"]
    assert status["observedGeneration"] == 1
    (warning,) = status["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression"
    assert "v1, Kind=ConfigMap" in warning["warning"]
    assert "undefined field 'dta'" in warning["warning"]
    changed = {"spec": {"validations": [{"expression": "true"}]}}
    status = (await api.merge(f"{POLICIES}/p", changed)).ok()["status"]
    assert status == {"observedGeneration": 2, "typeChecking": {}}
