"""The HTTPRoutes that stand for AIGatewayRoutes, on a real API server."""

from __future__ import annotations

import msgspec

from kajitori.api.resource import AI_GATEWAY_ROUTES, GATEWAYS, HTTP_ROUTE_FILTERS, HTTP_ROUTES
from kajitori.gateway.foreign_kinds import AI_KINDS
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import ROUTES
from tests.gateway.cluster import Cluster
from tests.gateway.workbench import ai_route, backend, gateway, observe
from tests.waiting import eventually


async def test_an_http_route_stands_for_an_ai_route_and_goes_with_it(cluster: Cluster) -> None:
    route = ai_route("chat", "gpt-4o", {"name": "a", "weight": 3}, rule={"name": "big"})
    route["metadata"] |= {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    await cluster.apply(gateway(cluster.bench.port), *backend("a", 1), route)
    made = await cluster.there(HTTP_ROUTES, "chat")
    assert made["metadata"]["labels"]["team"] == "x"
    assert made["metadata"]["annotations"].items() >= {"note": "y", "ai-gateway-generated": "true"}.items()
    assert made["metadata"]["ownerReferences"][0]["kind"] == "AIGatewayRoute"
    first, last = made["spec"]["rules"]
    assert first["name"] == "big"
    assert first["matches"][0]["headers"][0]["value"] == "gpt-4o"
    assert (first["backendRefs"][0]["name"], first["backendRefs"][0]["weight"]) == ("a", 3)
    assert last["name"] == "route-not-found"
    answer = last["filters"][0]["extensionRef"]["name"]
    found = await cluster.there(HTTP_ROUTE_FILTERS, answer)
    assert found["spec"]["directResponse"]["statusCode"] == 404
    rewrite = await cluster.there(HTTP_ROUTE_FILTERS, first["filters"][0]["extensionRef"]["name"])
    assert rewrite["spec"]["urlRewrite"]["hostname"]["type"] == "Backend"
    await cluster.condition(HTTP_ROUTES, "chat", "ResolvedRefs", status="True")

    # It counts once, though two objects say that it is attached.
    async def attached() -> int:
        return (await cluster.status(GATEWAYS, "gateway"))["listeners"][0]["attachedRoutes"]

    assert await eventually(attached, "a route is attached") == 1
    await cluster.client.delete(AI_GATEWAY_ROUTES, "chat", "default")
    await cluster.gone(HTTP_ROUTES, "chat")
    await cluster.gone(HTTP_ROUTE_FILTERS, answer)


async def test_an_http_route_of_somebody_else_is_left_as_it_is(cluster: Cluster) -> None:
    theirs = {
        "kind": "HTTPRoute",
        "metadata": {"name": "chat"},
        "spec": {"parentRefs": [{"name": "gateway"}], "hostnames": ["theirs.example"]},
    }
    await cluster.apply(gateway(cluster.bench.port), theirs, *backend("a", 1))
    await cluster.apply(ai_route("chat", "gpt-4o", {"name": "a"}))
    told = await cluster.condition(AI_GATEWAY_ROUTES, "chat", "Accepted", status="True")
    assert "HTTPRoute default/chat is not ours" in told["message"]
    kept = await cluster.client.get(HTTP_ROUTES, "chat", "default")
    assert kept["spec"]["hostnames"] == ["theirs.example"]
    assert "ownerReferences" not in kept["metadata"]


def test_a_generated_route_changes_nothing_for_traffic() -> None:
    route = ai_route("chat", "gpt-4o", {"name": "a"})
    route["metadata"]["uid"] = "u"
    documents = [gateway(8080), *backend("a", 1), route]
    plan = make_plan(observe(*documents))
    made = [item.manifest for item in plan.generated]
    assert sorted(item["kind"] for item in made) == ["HTTPRoute", "HTTPRouteFilter", "HTTPRouteFilter"]
    again = make_plan(observe(*documents, *made))
    assert again.resources.by_type[ROUTES] == plan.resources.by_type[ROUTES]
    assert not again.unwanted
    orphaned = make_plan(observe(*documents[:-1], *made))
    assert sorted(item.name for item in orphaned.unwanted) == sorted(
        item["metadata"]["name"] for item in made
    )


def test_where_envoy_ai_gateway_serves_nothing_is_generated_and_nothing_taken_away() -> None:
    route = ai_route("chat", "gpt-4o", {"name": "a"})
    route["metadata"]["uid"] = "u"
    documents = [gateway(8080), *backend("a", 1), route]
    made = [item.manifest for item in make_plan(observe(*documents)).generated]
    theirs = msgspec.structs.replace(observe(*documents, *made), foreign=AI_KINDS)
    plan = make_plan(theirs)
    assert not plan.generated
    assert not plan.unwanted
