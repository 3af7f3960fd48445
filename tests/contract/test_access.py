"""Who may what: roles that every cluster has, rights that nobody can give away without having them, reviews."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.servers import Server
from tests.waiting import eventually
from tests.wire import Answer, Api

GROUP = "rbac.authorization.k8s.io"
ROLES = f"/apis/{GROUP}/v1"
REVIEWS = "/apis/authorization.k8s.io/v1"


def rule(resource: str, *verbs: str, group: str = "", names: tuple[str, ...] = ()) -> dict[str, Any]:
    named = {"resourceNames": list(names)} if names else {}
    return {"apiGroups": [group], "resources": resource.split(), "verbs": list(verbs), **named}


def role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, role: str, user: str = "bob", kind: str = "Role") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": GROUP}],
    }


@dataclass
class Maker:
    """A user who may write roles and bindings, read pods and one secret."""

    name: str
    api: Api
    path: str


@pytest.fixture
async def maker(server: Server, namespace: str) -> AsyncIterator[Maker]:
    path = f"{ROLES}/namespaces/{namespace}"
    name = f"jane-{namespace}"
    rules = [
        rule("roles rolebindings", "get", "create", "update", "patch", group=GROUP),
        rule("pods", "get", "list"),
        rule("secrets", "get", names=("one",)),
    ]
    (await server.http.create(f"{path}/roles", role("maker", *rules))).ok()
    (await server.http.create(f"{path}/rolebindings", binding("maker", "maker", name))).ok()
    api = server.as_user(name)

    async def may() -> bool:
        return (await api.get(f"/api/v1/namespaces/{namespace}/pods")).code == 200

    await eventually(may, "the role is in force")
    yield Maker(name, api, path)


def lacks(answer: Answer, *rights: str) -> None:
    assert (answer.code, answer.json["reason"]) == (403, "Forbidden"), answer.body
    said = answer.json["message"].partition("not currently held:\n")[2]
    assert said.split("\n") == list(rights)


async def test_a_role_cannot_grant_what_its_author_does_not_hold(maker: Maker) -> None:
    path = f"{maker.path}/roles"
    (await maker.api.create(path, role("same", rule("pods", "get")))).ok()
    (await maker.api.create(path, role("named", rule("secrets", "get", names=("one",))))).ok()
    lacks(
        await maker.api.create(path, role("more", rule("pods", "get", "delete"))),
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}',
    )
    lacks(
        await maker.api.create(path, role("log", rule("pods/log", "get"))),
        '{APIGroups:[""], Resources:["pods/log"], Verbs:["get"]}',
    )
    lacks(
        await maker.api.create(path, role("names", rule("secrets", "get", names=("one", "two")))),
        '{APIGroups:[""], Resources:["secrets"], ResourceNames:["two"], Verbs:["get"]}',
    )
    lacks(
        await maker.api.create(path, role("all", rule("secrets", "get"))),
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
    )
    lacks(
        await maker.api.merge(f"{path}/same", {"rules": [rule("pods services", "get", "list")]}),
        '{APIGroups:[""], Resources:["services"], Verbs:["get" "list"]}',
    )
    (await maker.api.merge(f"{path}/maker", {"metadata": {"labels": {"a": "b"}}})).ok()


async def test_a_binding_cannot_grant_what_its_author_does_not_hold(maker: Maker) -> None:
    path = f"{maker.path}/rolebindings"
    (await maker.api.create(path, binding("own", "maker"))).ok()
    answer = await maker.api.create(path, binding("view", "view", kind="ClusterRole"))
    assert answer.code == 403
    assert (
        f'user "{maker.name}" (groups=["system:authenticated"]) is attempting to grant'
        in (answer.json["message"])
    )
    answer = await maker.api.create(path, binding("nothing", "nothing"))
    assert (answer.code, answer.json["message"]) == (404, f'rolebindings.{GROUP} "nothing" not found')


async def test_escalate_and_bind_are_rights_of_their_own(server: Server, maker: Maker) -> None:
    rights = rule("roles rolebindings", "get", "create", "bind", "escalate", group=GROUP)
    (await server.http.merge(f"{maker.path}/roles/maker", {"rules": [rights]})).ok()

    async def may() -> bool:
        found = await maker.api.create(f"{maker.path}/roles", role("more", rule("pods", "delete")))
        return found.code in (201, 409)

    await eventually(may, "the right to escalate is in force")
    (await maker.api.create(f"{maker.path}/rolebindings", binding("more", "more"))).ok()
    answer = await maker.api.create(f"{maker.path}/rolebindings", binding("v", "view", kind="ClusterRole"))
    assert answer.code == 403
    assert (await maker.api.create(f"{ROLES}/clusterroles", role("x"))).json["message"] == (
        f'clusterroles.{GROUP} is forbidden: User "{maker.name}" cannot create resource "clusterroles" in API group '
        f'"{GROUP}" at the cluster scope'
    )


async def test_the_role_of_a_binding_stays(server: Server, maker: Maker) -> None:
    answer = await server.http.put(f"{maker.path}/rolebindings/maker", binding("maker", "other"))
    assert answer.code == 422
    assert answer.json["message"].endswith(": cannot change roleRef")


REFUSED = {
    "rules[0].verbs: Required value: verbs must contain at least one value": [
        {"apiGroups": [""], "resources": ["pods"]}
    ],
    "rules[0].apiGroups: Required value: resource rules must supply at least one api group": [
        {"resources": ["pods"], "verbs": ["get"]}
    ],
    "rules[0].resources: Required value: resource rules must supply at least one resource": [
        {"apiGroups": [""], "verbs": ["get"]}
    ],
    'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs': [
        {"nonResourceURLs": ["/x"], "verbs": ["get"]}
    ],
}


async def test_a_rule_says_what_it_is_about(server: Server, namespace: str) -> None:
    path = f"{ROLES}/namespaces/{namespace}/roles"
    for message, rules in REFUSED.items():
        answer = await server.http.create(path, {"metadata": {"name": "bad"}, "rules": rules})
        assert answer.json["message"] == f'Role.{GROUP} "bad" is invalid: {message}'


def rights(found: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """(group, resource or URL, verb, name) of each right of a role."""
    return {
        (group, thing, verb, name)
        for rule in found.get("rules") or ()
        for group in rule.get("apiGroups") or ("URL",)
        for thing in rule.get("resources") or rule.get("nonResourceURLs") or ()
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or ("",)
    }


OURS = (
    "leaderworkerset.x-k8s.io",
    "gateway.networking.k8s.io",
    "gateway.envoyproxy.io",
    "aigateway.envoyproxy.io",
)
COUNTS = {
    "cluster-admin": 2,
    "system:discovery": 11,
    "system:basic-user": 3,
    "system:public-info-viewer": 5,
    "system:auth-delegator": 2,
}


async def test_roles_of_every_cluster_are_there_and_collected(server: Server) -> None:
    async def get(name: str) -> dict[str, Any]:
        return (await server.http.get(f"{ROLES}/clusterroles/{name}")).ok()

    for name, count in COUNTS.items():
        assert len(rights(await get(name))) == count, name
    view, edit, admin = [
        {right for right in rights(await get(name)) if right[0] not in OURS}
        for name in ("view", "edit", "admin")
    ]
    assert view < edit < admin
    assert ("", "pods", "get", "") in view
    assert ("", "secrets", "get", "") in edit - view
    assert (GROUP, "rolebindings", "create", "") in admin - edit
    assert not {right for right in view if right[2] not in ("get", "list", "watch")}
    for name in ("view", "edit", "admin"):
        parts = rights(await get(f"system:aggregate-to-{name}"))
        assert parts and parts <= {"view": view, "edit": edit, "admin": admin}[name]


async def test_a_role_that_collects_follows_its_parts(server: Server, namespace: str) -> None:
    label = f"collect-{namespace}"
    whole = {
        **role(f"whole-{namespace}"),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]},
    }
    part = role(f"part-{namespace}", rule("widgets", "get", group="example.com"))
    part["metadata"]["labels"] = {label: "true"}
    path = f"{ROLES}/clusterroles"
    (await server.http.create(path, whole)).ok()
    (await server.http.create(path, part)).ok()
    try:

        async def collected() -> bool:
            return (await server.http.get(f"{path}/whole-{namespace}")).ok().get("rules") == part["rules"]

        await eventually(collected, "the rules are collected")
        await server.http.delete(f"{path}/part-{namespace}")

        async def empty() -> bool:
            return not (await server.http.get(f"{path}/whole-{namespace}")).ok().get("rules")

        await eventually(empty, "the rules are gone with their role")
    finally:
        await server.http.delete(f"{path}/whole-{namespace}")


async def test_acting_as_others_asks_for_the_right_to(server: Server, maker: Maker, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    account = f"system:serviceaccount:{namespace}:default"
    for headers in (
        {"Impersonate-User": "bob"},
        {"Impersonate-User": "bob", "Impersonate-Group": "g"},
        {"Impersonate-User": account},
        {"Impersonate-User": "bob", "Impersonate-Uid": "u"},
        {"Impersonate-User": "bob", "Impersonate-Extra-Team": "x"},
    ):
        assert (await maker.api.request("GET", pods, headers=headers)).code == 403
    for headers in ({"Impersonate-Group": "g"}, {"Impersonate-Uid": "u"}, {"Impersonate-Extra-Team": "x"}):
        assert (await server.http.request("GET", pods, headers=headers)).code == 400
    (
        await server.http.merge(
            f"{maker.path}/roles/maker", {"rules": [rule("serviceaccounts", "impersonate")]}
        )
    ).ok()

    async def acts() -> bool:
        answer = await maker.api.request("GET", pods, headers={"Impersonate-User": account})
        return f'User "{account}" cannot list' in answer.json["message"]

    await eventually(acts, "jane acts as the service account")


async def test_who_acts_as_another_is_shown_as_that(server: Server) -> None:
    headers = {
        "Impersonate-User": "bob",
        "Impersonate-Group": "g",
        "Impersonate-Uid": "u1",
        "Impersonate-Extra-Team": "x",
    }
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    shown = (await server.http.request("POST", path, body, headers=headers)).ok()["status"]["userInfo"]
    assert shown == {
        "username": "bob",
        "uid": "u1",
        "groups": ["g", "system:authenticated"],
        "extra": {"team": ["x"]},
    }


def pods(namespace: str, verb: str = "get", **more: str) -> dict[str, Any]:
    return {"resourceAttributes": {"namespace": namespace, "verb": verb, "resource": "pods", **more}}


async def test_reviews_say_who_may(server: Server, maker: Maker, namespace: str) -> None:
    async def allowed(api: Api, plural: str, spec: dict[str, Any], path: str = REVIEWS) -> bool:
        return (await api.create(f"{path}/{plural}", {"spec": spec})).ok()["status"]["allowed"]

    assert await allowed(maker.api, "selfsubjectaccessreviews", pods(namespace))
    assert not await allowed(maker.api, "selfsubjectaccessreviews", pods(namespace, "delete"))
    assert not await allowed(maker.api, "selfsubjectaccessreviews", pods("default"))
    assert await allowed(
        maker.api, "selfsubjectaccessreviews", {"nonResourceAttributes": {"path": "/healthz", "verb": "get"}}
    )
    assert await allowed(server.http, "subjectaccessreviews", {"user": maker.name, **pods(namespace, "list")})
    assert await allowed(
        server.http, "subjectaccessreviews", {"groups": ["system:masters"], **pods("x", "eat")}
    )
    local = f"{REVIEWS}/namespaces/{namespace}"
    assert not await allowed(
        server.http, "localsubjectaccessreviews", {"user": "x", **pods(namespace)}, local
    )


ONE_OF = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
REFUSED_REVIEWS: list[tuple[str, dict[str, Any], str]] = [
    ("selfsubjectaccessreviews", {}, f"spec.resourceAttributes: Invalid value: null: {ONE_OF}"),
    (
        "selfsubjectaccessreviews",
        {**pods("default"), "nonResourceAttributes": {"path": "/x", "verb": "get"}},
        'spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: cannot be specified in combination '
        "with resourceAttributes",
    ),
    (
        "subjectaccessreviews",
        pods("default"),
        'spec.user: Invalid value: "": at least one of user or group must be specified',
    ),
    (
        "namespaces/kube-public/localsubjectaccessreviews",
        {"user": "x", **pods("default")},
        'spec.resourceAttributes.namespace: Invalid value: "default": must match metadata.namespace',
    ),
]


@pytest.mark.parametrize(("plural", "spec", "message"), REFUSED_REVIEWS)
async def test_a_review_that_asks_nothing_is_refused(
    server: Server, plural: str, spec: dict[str, Any], message: str
) -> None:
    answer = await server.http.create(f"{REVIEWS}/{plural}", {"spec": spec})
    assert (answer.code, answer.json["message"]) == (
        422,
        f'.authorization.k8s.io "" is invalid: {message}',
    )


async def test_rules_of_oneself_are_listed(maker: Maker, namespace: str) -> None:
    answer = await maker.api.create(f"{REVIEWS}/selfsubjectrulesreviews", {"spec": {"namespace": namespace}})
    shown = answer.ok()["status"]
    assert shown["incomplete"] is False
    assert {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]} in shown["resourceRules"]
    assert any("/healthz" in found["nonResourceURLs"] for found in shown["nonResourceRules"])
    answer = await maker.api.create(f"{REVIEWS}/selfsubjectrulesreviews", {"spec": {}})
    assert (answer.code, answer.json["message"]) == (400, "no namespace on request")


async def test_who_shows_nothing_may_see_health_and_version_only(server: Server) -> None:
    nobody = server.bearer()
    for path in ("/version", "/healthz", "/readyz", "/livez"):
        assert (await nobody.get(path)).code == 200
    for path in ("/api", "/metrics", "/nope", "/.well-known/openid-configuration"):
        answer = await nobody.get(path)
        assert (answer.code, answer.json["message"]) == (
            403,
            f'forbidden: User "system:anonymous" cannot get path "{path}"',
        )
    assert (await server.bearer("nonsense").get("/version")).code == 401
