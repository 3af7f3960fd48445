"""Plans of arbitrary Gateways and routes: always what Envoy understands, whatever order the objects come in."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.envoy.encode import encoder
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import CLUSTER, ROUTES, SECRET
from tests.gateway.authority import Authority
from tests.gateway.test_route_filters import extension, modify, route_filter
from tests.gateway.test_tls_listeners import https
from tests.gateway.workbench import backend, observe

HOSTS = st.sampled_from(["a.example", "b.example", "*.example", "x.a.example", "*.a.example"])
PORTS = st.sampled_from([8080, 8443])
PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/", "(", "/[a-z]+"])
EXTENSIONS = {
    "tea": {"directResponse": {"statusCode": 418}},
    "regex": {
        "urlRewrite": {
            "hostname": {"type": "Backend"},
            "path": {"type": "ReplaceRegexMatch", "replaceRegexMatch": {"pattern": "a", "substitution": "b"}},
        }
    },
    "bad": {
        "urlRewrite": {
            "path": {"type": "ReplaceRegexMatch", "replaceRegexMatch": {"pattern": "(", "substitution": "b"}}
        }
    },
    "cookie": {"matches": [{"cookies": [{"name": "a", "value": "b"}]}]},
}
REWRITE = {
    "type": "URLRewrite",
    "urlRewrite": {
        "hostname": "c.example",
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
    },
}
FILTERS = st.sampled_from(
    [
        modify(x_a="50%"),
        modify(host="x"),
        REWRITE,
        {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "port": 8443}},
        {"type": "CORS", "cors": {"allowOrigins": ["https://*.example"]}},
        {
            "type": "RequestMirror",
            "requestMirror": {"backendRef": {"name": "missing", "port": 1}, "percent": 7},
        },
        *(extension(name) for name in (*EXTENSIONS, "missing")),
    ]
)


@cache
def secrets() -> tuple[dict[str, Any], ...]:
    authority = Authority()
    return authority.secret("good", "a.example"), authority.secret("other", "b.example")


@st.composite
def listeners(draw: st.DrawFn, name: str) -> dict[str, Any]:
    hostname = draw(st.none() | HOSTS)
    if draw(st.booleans()):
        return https(name, draw(PORTS), draw(st.sampled_from(["good", "other", "missing"])), hostname)
    found: dict[str, Any] = {"name": name, "protocol": "HTTP", "port": draw(PORTS)}
    return found | ({"hostname": hostname} if hostname else {})


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    refs = [
        {
            "group": "gateway.envoyproxy.io",
            "kind": "Backend",
            "name": draw(st.sampled_from(["a", "b", "last", "missing"])),
            "weight": draw(st.integers(0, 3)),
            "filters": draw(st.lists(FILTERS, max_size=1)),
        }
        for _ in range(draw(st.integers(0, 3)))
    ]
    kind = draw(st.sampled_from(["PathPrefix", "Exact", "RegularExpression"]))
    return {
        "matches": [{"path": {"type": kind, "value": draw(PATHS)}}],
        "filters": draw(st.lists(FILTERS, max_size=2)),
        "backendRefs": refs,
        **draw(st.sampled_from([{}, {"sessionPersistence": {}}, {"retry": {"attempts": 2}}])),
    }


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    last = backend("last", 3)
    last[0]["spec"]["fallback"] = True
    documents = [*backend("a", 1), *backend("b", 2), *last, *secrets()]
    documents += [route_filter(name, **spec) for name, spec in EXTENSIONS.items()]
    for number in range(draw(st.integers(1, 3))):
        found = [draw(listeners(f"l{place}")) for place in range(draw(st.integers(1, 3)))]
        documents.append(
            {
                "kind": "Gateway",
                "metadata": {"name": f"g{number}"},
                "spec": {"gatewayClassName": "kajitori", "listeners": found},
            }
        )
    for number in range(draw(st.integers(1, 3))):
        spec = {
            "parentRefs": [{"name": draw(st.sampled_from(["g0", "g1"]))}],
            "hostnames": draw(st.lists(HOSTS, max_size=2, unique=True)),
        }
        if draw(st.booleans()):
            rule = {"backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}]}
            documents.append(
                {"kind": "GRPCRoute", "metadata": {"name": f"r{number}"}, "spec": {**spec, "rules": [rule]}}
            )
        else:
            spec["rules"] = [draw(rules()) for _ in range(draw(st.integers(1, 2)))]
            documents.append({"kind": "HTTPRoute", "metadata": {"name": f"r{number}"}, "spec": spec})
    return documents


def names_asked_for(value: Any) -> set[str]:
    """Of secrets, anywhere in a resource."""
    if isinstance(value, list):
        return set().union(*map(names_asked_for, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = {value["name"]} if "sds_config" in value else set[str]()
    return found.union(*map(names_asked_for, value.values()))


def resources(plan: Plan) -> str:
    return json.dumps(plan.resources.by_type, sort_keys=True)


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_every_plan_is_one_that_envoy_understands_and_lacks_nothing_that_it_names(
    documents: list[dict[str, Any]],
) -> None:
    plan = make_plan(observe(*documents))
    assert "defect of the gateway" not in repr(plan.statuses)
    for kind, items in plan.resources.by_type.items():
        for value in items.values():
            encoder().encode(kind, value)
            assert names_asked_for(value) <= plan.resources.by_type[SECRET].keys()
    for table in plan.resources.by_type[ROUTES].values():
        domains = [domain for host in table["virtual_hosts"] for domain in host["domains"]]
        assert len(domains) == len(set(domains))
        for host in table["virtual_hosts"]:
            names = [route["name"] for route in host["routes"]]
            assert len(names) == len(set(names))
            for route in host["routes"]:
                cluster = route.get("route", {}).get("cluster")
                assert cluster is None or cluster in plan.resources.by_type[CLUSTER]


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_objects_changes_no_plan_of_routes(documents: list[dict[str, Any]], random: Any) -> None:
    shuffled = list(documents)
    random.shuffle(shuffled)
    plan, other = make_plan(observe(*documents)), make_plan(observe(*shuffled))
    assert resources(plan) == resources(other)
    assert sorted(map(repr, plan.statuses)) == sorted(map(repr, other.statuses))
