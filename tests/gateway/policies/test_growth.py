"""Ten times the policies are ten times the work: counted in calls of functions, whatever the machine."""

from __future__ import annotations

import sys
from typing import Any

from kajitori.gateway.observed import Observed
from kajitori.gateway.plan import make_plan
from kajitori.gateway.plan_memory import PlanMemory

from ..workbench import gateway, observe
from .traffic import plain_backend, plain_route


def calls_of_the_next_plan(observed: Observed) -> int:
    memory = PlanMemory()
    make_plan(observed, memory=memory)
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        make_plan(observed, memory=memory)
    finally:
        sys.setprofile(before)
    return count


def policy(kind: str, target: str, name: str, **spec: Any) -> dict[str, Any]:
    ref = {"group": "gateway.networking.k8s.io", "kind": target, "name": name}
    return {
        "kind": kind,
        "metadata": {"name": f"{target.lower()}-{name}"},
        "spec": {"targetRefs": [ref], **spec},
    }


def gateways_with_policies(count: int) -> Observed:
    documents: list[dict[str, Any]] = [plain_backend("b", 1)]
    for number in range(count):
        name = f"of-{number}"
        listener = {
            "name": "http",
            "port": 8080,
            "protocol": "HTTP",
            "hostname": f"{name}.example",
        }
        place, route = gateway(8080, name), plain_route("b", name=name, path=f"/{number}")
        place["spec"]["listeners"] = [listener]
        route["spec"]["parentRefs"] = [{"name": name}]
        rule = {"action": "Allow", "cel": f"request.path == '/{number}'"}
        documents += [
            place,
            route,
            policy("ClientTrafficPolicy", "Gateway", name, timeout={"http": {"idleTimeout": "9s"}}),
            policy("SecurityPolicy", "Gateway", name, authorization={"defaultAction": "Allow"}),
            policy("SecurityPolicy", "HTTPRoute", name, authorization={"rules": [rule]}),
        ]
    return observe(*documents)


def test_ten_times_the_policies_take_ten_times_the_work() -> None:
    few, many = (calls_of_the_next_plan(gateways_with_policies(count)) for count in (30, 300))
    assert many < 13 * few
