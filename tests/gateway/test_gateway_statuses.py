"""Statuses as the Gateway API demands them, of plans alone."""

from __future__ import annotations

from typing import Any

from kajitori.api.resource import HTTP_ROUTES
from kajitori.gateway.conditions import StatusUpdate, condition
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.routes.features import SUPPORTED_FEATURES
from kajitori.gateway.status import complete_status
from tests.gateway.test_http_routes import http_route, matching, path, to
from tests.gateway.workbench import ai_route, backend, gateway, observe

OURS, THEIRS = "kajitori.dev/gateway-controller", "other.example/controller"


def status_of(plan: Plan, kind: str, name: str) -> Any:
    return next(item for item in plan.statuses if (item.resource.kind, item.name) == (kind, name))


def accepted(plan: Plan, name: str = "web") -> list[tuple[str, str]]:
    """Of each parent: status and reason."""
    parents = status_of(plan, "HTTPRoute", name).status["parents"]
    return [
        (c["status"], c["reason"]) for item in parents for c in item["conditions"] if c["type"] == "Accepted"
    ]


def parent(name: str, conditions: list[dict[str, Any]] | None = None, who: str = OURS) -> dict[str, Any]:
    return {
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name},
        "controllerName": who,
        "conditions": conditions or [],
    }


def test_each_parent_reference_has_an_entry_with_its_own_reason() -> None:
    doors = gateway(8080, name="doors")
    doors["spec"]["listeners"] += [
        {"name": "named", "protocol": "HTTP", "port": 8081, "hostname": "a.example"},
        {
            "name": "closed",
            "protocol": "HTTP",
            "port": 8082,
            "allowedRoutes": {"namespaces": {"from": "None"}},
        },
    ]
    route = http_route(
        "web",
        matching([to("one")], path("/")),
        hostnames=["b.example"],
        parentRefs=[
            {"name": "doors", "sectionName": "http"},
            {"name": "doors", "sectionName": "named"},
            {"name": "doors", "sectionName": "closed"},
            {"name": "doors", "sectionName": "nothing"},
            {"name": "doors", "port": 9999},
            {"name": "doors", "sectionName": "http", "port": 8081},
            {"name": "somebody-elses"},
        ],
    )
    plan = make_plan(observe(doors, *backend("one", 1), route))
    assert accepted(plan) == [
        ("True", "Accepted"),
        ("False", "NoMatchingListenerHostname"),
        ("False", "NotAllowedByListeners"),
        ("False", "NoMatchingParent"),
        ("False", "NoMatchingParent"),
        ("False", "NoMatchingParent"),
    ]
    listeners = status_of(plan, "Gateway", "doors").status["listeners"]
    assert [item["attachedRoutes"] for item in listeners] == [1, 0, 0]


def test_a_route_that_comes_to_a_listener_twice_counts_once() -> None:
    route = http_route(
        "web",
        matching([to("one")], path("/")),
        parentRefs=[{"name": "gateway"}, {"name": "gateway", "sectionName": "http"}],
    )
    plan = make_plan(observe(gateway(8080), *backend("one", 1), route, ai_route("r", "m", {"name": "one"})))
    assert len(accepted(plan)) == 2
    assert status_of(plan, "Gateway", "gateway").status["listeners"][0]["attachedRoutes"] == 2


def test_kinds_that_are_not_served_are_named_and_the_others_kept() -> None:
    kinds = [{"kind": "TCPRoute"}, {"kind": "HTTPRoute"}, {"group": "x.example", "kind": "HTTPRoute"}]
    plan = make_plan(observe(gateway(8080, allowedRoutes={"kinds": kinds})))
    listener = status_of(plan, "Gateway", "gateway").status["listeners"][0]
    assert listener["supportedKinds"] == [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    resolved = next(item for item in listener["conditions"] if item["type"] == "ResolvedRefs")
    assert (resolved["status"], resolved["reason"]) == ("False", "InvalidRouteKinds")
    assert "TCPRoute" in resolved["message"]


def test_every_condition_tells_of_which_generation_it_speaks_and_keeps_its_time() -> None:
    route = http_route("web", matching([to("one")], path("/")))
    route["metadata"]["generation"] = 7
    observed = observe(gateway(8080), *backend("one", 1), route)
    update = status_of(make_plan(observed), "HTTPRoute", "web")
    first = complete_status(update, None, "2026-01-01T00:00:00Z")
    assert first is not None
    conditions = first["parents"][0]["conditions"]
    assert {item["observedGeneration"] for item in conditions} == {7}
    assert {item["lastTransitionTime"] for item in conditions} == {"2026-01-01T00:00:00Z"}
    route["metadata"]["generation"] = 8
    route["status"] = first
    observed = observe(gateway(8080), *backend("one", 1), route)
    update = status_of(make_plan(observed), "HTTPRoute", "web")
    second = complete_status(update, observed.http_routes[0].status, "2026-02-02T00:00:00Z")
    assert second is not None
    conditions = second["parents"][0]["conditions"]
    assert {item["observedGeneration"] for item in conditions} == {8}
    assert {item["lastTransitionTime"] for item in conditions} == {"2026-01-01T00:00:00Z"}


def test_entries_of_parents_that_are_ours_no_more_go_and_those_of_others_stay() -> None:
    route = http_route("web", matching([to("one")], path("/")), parentRefs=[{"name": "somebody-elses"}])
    route["status"] = {"parents": [parent("gone"), parent("somebody-elses", who=THEIRS)]}
    observed = observe(gateway(8080), route)
    update = status_of(make_plan(observed), "HTTPRoute", "web")
    status = complete_status(update, observed.http_routes[0].status, "2026-01-01T00:00:00Z")
    assert status is not None
    assert [item["controllerName"] for item in status["parents"]] == [THEIRS]
    route["status"] = status
    observed = observe(gateway(8080), route)
    assert not [item for item in make_plan(observed).statuses if item.resource.kind == "HTTPRoute"]


def test_a_class_reports_what_is_served() -> None:
    plan = make_plan(observe())
    status = status_of(plan, "GatewayClass", "kajitori").status
    names = [item["name"] for item in status["supportedFeatures"]]
    assert names == sorted(names) == list(SUPPORTED_FEATURES)
    assert status["conditions"][0]["reason"] == "Accepted"


def test_fields_of_a_gateway_that_change_nothing_are_named() -> None:
    found = gateway(8080)
    found["spec"] |= {
        "addresses": [{"value": "10.0.0.1"}],
        "allowedListeners": {"namespaces": {"from": "All"}},
        "tls": {"backend": {"clientCertificateRef": {"name": "me"}}},
    }
    status = status_of(make_plan(observe(found)), "Gateway", "gateway").status
    message = next(item["message"] for item in status["conditions"] if item["type"] == "Accepted")
    for field in ("spec.addresses", "spec.allowedListeners", "spec.tls.backend"):
        assert f"{field} is not honoured" in message


def test_a_message_is_no_longer_than_api_servers_take() -> None:
    told = condition("Accepted", False, "Invalid", "x" * 40_000)
    update = StatusUpdate(HTTP_ROUTES, "default", "web", 1, {"parents": [parent("gateway", [told])]})
    status = complete_status(update, None, "2026-01-01T00:00:00Z")
    assert status is not None
    message = status["parents"][0]["conditions"][0]["message"]
    assert len(message) == 32_768 and message.endswith("x...")
