"""Who asks, whom they act for, and what they may."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
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

from kajitori.laptop.apiserver import pki

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
SECRETS = "/api/v1/namespaces/default/secrets"


async def _may(api: Api, verb: str, resource: str, **more: str) -> bool:
    attributes = {"verb": verb, "resource": resource, "namespace": "default", **more}
    review = {"spec": {"resourceAttributes": attributes}}
    answer = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return answer.ok()["status"]["allowed"]


async def _grant(api: Api, user: str, rules: list[dict[str, Any]], namespace: str = "default") -> None:
    role = {"metadata": {"name": user.rsplit(":", 1)[-1]}, "rules": rules}
    name = role["metadata"]["name"]
    (await api.create(f"{RBAC}/namespaces/{namespace}/roles", role)).ok()
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    }
    (await api.create(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)).ok()


async def _token(api: Api, name: str = "default", **spec: Any) -> str:
    answer = await api.create(f"{ACCOUNTS}/{name}/token", {"spec": spec})
    assert answer.code == 201, answer.body
    return answer.json["status"]["token"]


async def _who(api: Api) -> dict[str, Any]:
    answer = await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    return answer.ok()["status"]["userInfo"]


async def test_a_certificate_names_user_and_groups(cluster: Cluster) -> None:
    who = await _who(cluster.admin)
    assert who["username"] == "kubernetes-admin"
    assert who["groups"] == ["system:masters", "system:authenticated"]
    assert (await _who(cluster.client("node-1")))["username"] == "system:node:node-1"


async def test_nobody_gets_health_and_version_and_nothing_else(cluster: Cluster) -> None:
    nobody = cluster.bearer()
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert (await nobody.get(path)).code == 200
    refused = await nobody.get(CONFIG_MAPS)
    assert refused.code == 403
    assert refused.json["message"] == (
        'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" '
        'in API group "" in the namespace "default"'
    )
    assert (await nobody.get("/apis")).code == 403
    assert (await nobody.get("/metrics")).json["message"] == (
        'forbidden: User "system:anonymous" cannot get path "/metrics"'
    )


async def test_a_token_that_is_not_ours_is_unauthorized(cluster: Cluster) -> None:
    for token in ("x", "a.b.c", "e30.e30.e30"):
        answer = await cluster.bearer(token).get("/version")
        assert (answer.code, answer.json["message"]) == (401, "Unauthorized")


async def test_a_certificate_of_another_authority_does_not_connect(cluster: Cluster, tmp_path: Any) -> None:
    foreign = pki.Authority(tmp_path / "foreign")
    path = tmp_path / "kubeconfig"
    pki.write_kubeconfig(path, cluster.running.url, foreign, pki.ADMIN)
    context = tls_context(path)
    ours = (cluster.running.home / "pki" / "ca.crt").read_text()
    context.load_verify_locations(cadata=ours)
    intruder = Api(cluster.running.url, context)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await intruder.get("/version")
    await intruder.close()


async def test_a_service_account_token_is_its_account_until_that_goes(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    token = await _token(admin)
    holder = cluster.bearer(token)
    who = await _who(holder)
    assert who["username"] == "system:serviceaccount:default:default"
    assert "system:serviceaccounts:default" in who["groups"]
    review = {"spec": {"token": token}}
    checked = (await admin.create("/apis/authentication.k8s.io/v1/tokenreviews", review)).ok()["status"]
    assert checked["authenticated"] and checked["user"]["username"] == who["username"]
    (await admin.delete(f"{ACCOUNTS}/default")).ok()
    assert (await holder.get("/version")).code == 401
    await add_service_account(admin)
    assert (await holder.get("/version")).code == 401


async def test_a_token_bound_to_a_pod_ends_with_it(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    (await admin.create(PODS, pod("p"))).ok()
    holder = cluster.bearer(await _token(admin, boundObjectRef={"kind": "Pod", "name": "p"}))
    assert (await _who(holder))["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    (await admin.delete(f"{PODS}/p")).ok()
    assert (await holder.get("/version")).code == 401


async def test_a_token_shorter_than_ten_minutes_or_for_nobody_is_refused(api: Api) -> None:
    await add_service_account(api)
    short = await api.create(f"{ACCOUNTS}/default/token", {"spec": {"expirationSeconds": 60}})
    assert short.code == 422 and "less than 10 minutes" in short.json["message"]
    assert (await api.create(f"{ACCOUNTS}/none/token", {"spec": {}})).code == 404


async def test_a_token_for_another_audience_opens_nothing(cluster: Cluster) -> None:
    await add_service_account(cluster.admin)
    token = await _token(cluster.admin, audiences=["vault"])
    assert (await cluster.bearer(token).get("/version")).code == 401


async def test_keys_are_published(cluster: Cluster) -> None:
    keys = (await cluster.admin.get("/openid/v1/jwks")).ok()["keys"]
    assert keys[0]["alg"] == "RS256" and keys[0]["kty"] == "RSA"
    document = (await cluster.admin.get("/.well-known/openid-configuration")).ok()
    assert document["jwks_uri"].endswith("/openid/v1/jwks")


async def test_a_role_grants_what_it_says_and_no_more(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    holder = cluster.bearer(await _token(admin))
    assert not await _may(holder, "get", "pods")
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]},
    ]
    await _grant(admin, "system:serviceaccount:default:default", rules)
    assert await _may(holder, "get", "pods")
    assert not await _may(holder, "get", "pods", subresource="log")
    assert not await _may(holder, "get", "pods", namespace="kube-system")
    assert await _may(holder, "get", "configmaps", name="a")
    assert not await _may(holder, "get", "configmaps", name="b")
    assert (await holder.get(PODS)).code == 200
    assert (await holder.get(SECRETS)).code == 403
    (await admin.delete(f"{RBAC}/namespaces/default/rolebindings/default")).ok()
    assert (await holder.get(PODS)).code == 403


async def test_view_edit_and_admin_are_made_of_their_parts(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    holder = cluster.bearer(await _token(admin))
    binding = {
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    }
    (await admin.create(f"{RBAC}/namespaces/default/rolebindings", binding)).ok()
    assert await _may(holder, "list", "deployments", group="apps")
    assert not await _may(holder, "create", "deployments", group="apps")
    assert not await _may(holder, "get", "secrets")
    part = {
        "metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["x.example.com"], "resources": ["xs"], "verbs": ["get"]}],
    }
    (await admin.create(f"{RBAC}/clusterroles", part)).ok()
    assert await _may(holder, "get", "xs", group="x.example.com")


async def test_an_aggregated_role_holds_only_what_its_whole_selector_chooses(cluster: Cluster) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    for name, tier in (("safe", "low"), ("risky", "high")):
        rules = [{"apiGroups": [""], "resources": [f"{name}things"], "verbs": ["get"]}]
        metadata = {"name": name, "labels": {"part": "yes", "tier": tier}}
        (await cluster.admin.create(roles, {"metadata": metadata, "rules": rules})).ok()
    wanted = {
        "matchLabels": {"part": "yes"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["high"]}],
    }
    whole = {"metadata": {"name": "whole"}, "aggregationRule": {"clusterRoleSelectors": [wanted]}}
    (await cluster.admin.create(roles, whole)).ok()
    authorizer = cluster.running.server.state.authorizer
    held = authorizer.role_rules(("clusterroles.rbac.authorization.k8s.io", "", "whole"))
    assert {resource for rule in held for resource in rule.resources} == {"safethings"}


async def test_nobody_can_grant_what_they_do_not_hold(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    holder = cluster.bearer(await _token(admin))
    may_write_roles = {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": ["create", "get", "update", "patch"],
    }
    own = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    await _grant(admin, "system:serviceaccount:default:default", [may_write_roles, own])
    roles = f"{RBAC}/namespaces/default/roles"
    assert (await holder.create(roles, {"metadata": {"name": "fine"}, "rules": [own]})).code == 201
    more = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    refused = await holder.create(roles, {"metadata": {"name": "more"}, "rules": [more]})
    assert refused.code == 403
    assert "is attempting to grant RBAC permissions not currently held" in refused.json["message"]
    assert '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}' in refused.json["message"]
    assert (await holder.merge(f"{roles}/fine", {"rules": [more]})).code == 403
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    }
    assert (await holder.create(f"{RBAC}/namespaces/default/rolebindings", binding)).code == 403


async def test_impersonation_needs_its_right_and_is_judged_as_the_other(cluster: Cluster) -> None:
    admin = cluster.admin
    jane = {"Impersonate-User": "jane", "Impersonate-Group": "testers"}
    who = await admin.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers=jane)
    assert who.ok()["status"]["userInfo"] == {
        "username": "jane",
        "groups": ["testers", "system:authenticated"],
    }
    assert (await admin.request("GET", CONFIG_MAPS, headers=jane)).code == 403
    await add_service_account(admin)
    holder = cluster.bearer(await _token(admin))
    refused = await holder.request("GET", "/version", headers=jane)
    assert refused.code == 403 and 'cannot impersonate resource "users"' in refused.json["message"]


async def test_rules_of_oneself_are_listed(cluster: Cluster) -> None:
    review = {"spec": {"namespace": "default"}}
    answer = await cluster.admin.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    assert answer.ok()["status"]["resourceRules"] == [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    ]
    local = {
        "spec": {
            "user": "jane",
            "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"},
        },
    }
    path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    assert (await cluster.admin.create(path, local)).ok()["status"]["allowed"] is False


async def _run_on(api: Api, name: str, node: str, **spec: Any) -> None:
    (await api.create(PODS, pod(name, **spec))).ok()
    target = {"target": {"kind": "Node", "name": node}}
    assert (await api.create(f"{PODS}/{name}/binding", target)).code == 201


async def test_a_node_reads_secrets_only_of_pods_bound_to_it(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    for name in ("used", "other"):
        (await admin.create(SECRETS, {"metadata": {"name": name}})).ok()
    first, second = cluster.client("node-1"), cluster.client("node-2")
    assert (await first.get(f"{SECRETS}/used")).code == 403
    volumes = [{"name": "v", "secret": {"secretName": "used"}}]
    await _run_on(admin, "p", "node-1", volumes=volumes)
    assert (await first.get(f"{SECRETS}/used")).code == 200
    assert (await first.get(SECRETS, fieldSelector="metadata.name=used")).code == 200
    assert (await first.get(f"{SECRETS}/other")).code == 403
    assert (await first.get(SECRETS)).code == 403
    assert (await second.get(f"{SECRETS}/used")).code == 403
    (await admin.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})).ok()
    assert (await first.get(f"{SECRETS}/used")).code == 403


async def test_a_node_writes_only_what_is_its_own(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    await _run_on(admin, "p", "node-1")
    first, second = cluster.client("node-1"), cluster.client("node-2")
    assert (await first.create("/api/v1/nodes", {"metadata": {"name": "node-1"}})).code == 201
    assert (await second.create("/api/v1/nodes", {"metadata": {"name": "node-3"}})).code == 403
    status = {"status": {"phase": "Running"}}
    assert (await first.merge(f"{PODS}/p/status", status)).code == 200
    assert (await second.merge(f"{PODS}/p/status", status)).code == 403
    assert (await second.merge("/api/v1/nodes/node-1/status", {"status": {}})).code == 403
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    lease = {"metadata": {"name": "node-1"}}
    assert (await first.put(f"{leases}/node-1", lease)).code in (200, 201)
    assert (await second.put(f"{leases}/node-1", lease)).code == 403
    assert (await first.create(CONFIG_MAPS, config_map("a"))).code == 403
    assert (await first.get("/api/v1/pods", fieldSelector="spec.nodeName=node-1")).code == 200
    assert (await second.get("/api/v1/pods", fieldSelector="spec.nodeName=node-1")).code == 403
    assert (await first.get("/api/v1/pods")).code == 403
    assert (await first.get(f"{PODS}/p")).code == 200 and (await second.get(f"{PODS}/p")).code == 403
    (await admin.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})).ok()
    assert (await first.merge(f"{PODS}/p/status", status)).code == 404


async def test_a_node_gets_tokens_only_for_its_pods(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    await _run_on(admin, "p", "node-1")
    first, second = cluster.client("node-1"), cluster.client("node-2")
    spec = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "p"}}}
    assert (await first.create(f"{ACCOUNTS}/default/token", spec)).code == 201
    assert (await first.create(f"{ACCOUNTS}/default/token", {"spec": {}})).code == 403
    assert (await second.create(f"{ACCOUNTS}/default/token", spec)).code == 403


async def test_a_pod_cannot_read_secrets_with_the_token_that_it_is_given(cluster: Cluster) -> None:
    admin = cluster.admin
    await add_service_account(admin)
    (await admin.create(SECRETS, {"metadata": {"name": "s"}})).ok()
    await _run_on(admin, "p", "node-1")
    inside = cluster.bearer(await _token(admin, boundObjectRef={"kind": "Pod", "name": "p"}))
    for path in (SECRETS, f"{SECRETS}/s", "/api/v1/secrets", PODS):
        assert (await inside.get(path)).code == 403


async def test_accepted_writes_are_audited_with_who_and_how(cluster: Cluster) -> None:
    admin = cluster.admin
    created = (await admin.create(CONFIG_MAPS, config_map("a"))).ok()
    await admin.create(CONFIG_MAPS, config_map("a"))
    (await admin.delete(f"{CONFIG_MAPS}/a")).ok()
    answer = await admin.get("/kajitori/audit", resource="configmaps", namespace="default", name="a")
    records = answer.ok()["items"]
    assert [record["verb"] for record in records] == ["create", "delete"]
    assert {record["user"] for record in records} == {"kubernetes-admin"}
    assert {record["uid"] for record in records} == {created["metadata"]["uid"]}
    assert records[0]["userAgent"].startswith("Python")
    assert (await cluster.client("node-1").get("/kajitori/audit")).code == 403
