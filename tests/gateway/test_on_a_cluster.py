"""What the plan does on a cluster with a fleet of Envoys behind a Service, and beside upstream controllers."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import Service
from kajitori.gateway.credentials.secrets import referenced_secrets
from kajitori.gateway.fleet.front import Front, differs, service_addresses, service_body
from kajitori.gateway.foreign_kinds import ForeignKinds
from kajitori.gateway.observed import Index, Observed, Settings
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import LISTENER
from tests.gateway.workbench import ai_route, backend, gateway, key_policy, observe

ON_A_CLUSTER = Settings(service=("system", "envoy"))
FRONT = Front(
    namespace="system", name="envoy", selector={"app": "envoy"}, spec={"type": "LoadBalancer"},
    annotations={"example/balancer": "internal"},
)  # fmt: skip


def on_a_cluster(*documents: dict[str, Any], **changes: Any) -> Observed:
    return msgspec.structs.replace(observe(*documents), settings=ON_A_CLUSTER, **changes)


def status(plan: Plan, kind: str) -> dict[str, Any] | None:
    return next((each.status for each in plan.statuses if each.resource.kind == kind), None)


def front_service(
    *, ingress: list[dict[str, str]] | None = None, kind: str = "LoadBalancer"
) -> dict[str, Any]:
    body = service_body(FRONT, ON_A_CLUSTER, [80, 8080], None)
    body["spec"] |= {"clusterIP": "10.96.0.7", "type": kind}
    return {**body, "status": {"loadBalancer": {"ingress": ingress or []}}}


def programmed(plan: Plan) -> dict[str, str]:
    found = status(plan, "Gateway")
    assert found is not None
    return next(each for each in found["conditions"] if each["type"] == "Programmed")


def test_a_port_that_needs_privileges_is_opened_higher_up_and_the_service_leads_there() -> None:
    plan = make_plan(on_a_cluster(gateway(80), gateway(8080, "other")))
    opened = {
        name: each["address"]["socket_address"]["port_value"]
        for name, each in plan.resources.by_type[LISTENER].items()
    }
    assert opened == {"http/80": 10080, "http/8080": 8080}
    ports = service_body(FRONT, ON_A_CLUSTER, plan.ports, None)["spec"]["ports"]
    assert [(each["port"], each["targetPort"]) for each in ports] == [(80, 10080), (8080, 8080)]


def test_a_gateway_has_the_addresses_of_the_service_once_it_has_any() -> None:
    waiting = make_plan(on_a_cluster(gateway(80), front_service()))
    assert programmed(waiting)["reason"] == "AddressNotAssigned"
    there = front_service(ingress=[{"ip": "192.0.2.1"}, {"hostname": "balancer.example"}])
    plan = make_plan(on_a_cluster(gateway(80), there))
    found = status(plan, "Gateway")
    assert found and programmed(plan)["status"] == "True"
    assert found["addresses"] == [
        {"type": "IPAddress", "value": "192.0.2.1"},
        {"type": "Hostname", "value": "balancer.example"},
    ]


def test_without_a_load_balancer_it_is_the_clusters_own_address() -> None:
    service = msgspec.convert(front_service(kind="ClusterIP"), Service)
    assert service_addresses(service) == [("IPAddress", "10.96.0.7")]
    assert service_addresses(None) == []


def test_the_service_is_written_only_if_it_lacks_something() -> None:
    body = service_body(FRONT, ON_A_CLUSTER, [80], None)
    stored = msgspec.convert(body, Service)
    assert differs(None, body) and not differs(stored, body)
    assert differs(stored, service_body(FRONT, ON_A_CLUSTER, [80, 81], None))
    bare = msgspec.structs.replace(stored, metadata=msgspec.structs.replace(stored.metadata, annotations={}))
    assert differs(bare, body)


def test_what_envoy_ai_gateway_serves_gets_neither_routes_nor_statuses_from_us() -> None:
    documents = [gateway(8080), *backend("a", 1), *key_policy("a", "k"), ai_route("one", "m", {"name": "a"})]
    foreign_kinds = ForeignKinds()
    foreign_kinds.set(ai_gateway=True, envoy_gateway=False)
    plan = make_plan(
        on_a_cluster(*documents, foreign=foreign_kinds.foreign, controllers=foreign_kinds.controllers)
    )
    assert {each.resource.kind for each in plan.statuses} == {"GatewayClass", "Gateway", "Backend"}
    assert "a" not in str(plan.backends)


def test_classes_of_envoy_gateway_are_left_to_it_while_it_is_there() -> None:
    theirs = {
        "kind": "GatewayClass",
        "metadata": {"name": "eg"},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    }
    of_theirs = gateway(8080)
    of_theirs["spec"]["gatewayClassName"] = "eg"
    foreign_kinds = ForeignKinds()
    heard: list[int] = []
    foreign_kinds.on_change(lambda: heard.append(1))
    assert make_plan(on_a_cluster(theirs, of_theirs)).ports == (8080,)
    for there in (True, True, False):
        foreign_kinds.set(ai_gateway=False, envoy_gateway=there)
        plan = make_plan(
            on_a_cluster(
                theirs, of_theirs, foreign=foreign_kinds.foreign, controllers=foreign_kinds.controllers
            )
        )
        assert plan.ports == (() if there else (8080,))
    assert len(heard) == 2


def test_only_secrets_that_a_policy_may_use_are_wanted() -> None:
    policy = key_policy("a", "k")[1]
    elsewhere = key_policy("b", "k")[1]
    elsewhere["spec"]["apiKey"]["secretRef"]["namespace"] = "vault"
    observed = observe(policy, elsewhere)
    assert referenced_secrets(Index(observed)) == {("default", "a-key")}
    narrow = msgspec.structs.replace(observed, settings=Settings(secret_namespaces=("models",)))
    assert referenced_secrets(Index(narrow)) == set()
    found = status(make_plan(narrow), "BackendSecurityPolicy")
    assert found and "may not read" in found["conditions"][0]["message"]
