"""BackendTrafficPolicies, and plain routes and backends for them to bear upon."""

from __future__ import annotations

from typing import Any

from kajitori.gateway.plan import Plan

from ..workbench import Workbench, gateway

QUESTION = {"model": "m", "messages": []}
GROUP = "gateway.networking.k8s.io"


def policy(kind: str = "HTTPRoute", name: str = "route", section: str = "", **spec: Any) -> dict[str, Any]:
    target = {"group": GROUP, "kind": kind, "name": name, **({"sectionName": section} if section else {})}
    return {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": f"for-{name}{section}-{kind}".lower()},
        "spec": {"targetRefs": [target], **spec},
    }


def plain_route(*backends: str, name: str = "route", path: str = "/", **rule: Any) -> dict[str, Any]:
    refs = [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": backend} for backend in backends]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"backendRefs": refs, "matches": [{"path": {"value": path}}], **rule}],
        },
    }


def plain_backend(name: str, *ports: int) -> dict[str, Any]:
    endpoints = [{"ip": {"address": "127.0.0.1", "port": port}} for port in ports]
    return {"kind": "Backend", "metadata": {"name": name}, "spec": {"endpoints": endpoints}}


async def apply(bench: Workbench, *documents: dict[str, Any]) -> Plan:
    plan = await bench.apply(gateway(bench.port), *documents)
    assert bench.ads.rejected == {}
    return plan


def policy_conditions(plan: Plan, name: str) -> dict[str, dict[str, Any]]:
    (status,) = [
        item.status
        for item in plan.statuses
        if (item.resource.kind, item.name) == ("BackendTrafficPolicy", name)
    ]
    return {each["type"]: each for ancestor in status["ancestors"] for each in ancestor["conditions"]}
