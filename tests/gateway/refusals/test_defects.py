"""Objects on which our own plan raises: one is played by an annotation that makes the plan's functions fail."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.gateway import plan as planning
from kajitori.gateway.controller import watched
from kajitori.gateway.defects import Defects
from kajitori.gateway.memory import PlanMemory
from kajitori.gateway.observed import Observed
from kajitori.gateway.plan import Plan
from kajitori.gateway.policies.security.policies import SecurityPolicies
from kajitori.gateway.resources import ROUTES
from tests.gateway.security.objects import for_route, local_jwt, plain_route, policy
from tests.gateway.workbench import ai_route, backend, gateway, observe


def budget(name: str, requests: int = 5) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.kajitori.dev/v1alpha1",
        "kind": "Budget",
        "metadata": {"name": name},
        "spec": {
            "amount": {"requests": requests},
            "window": {"calendar": {"unit": "Month"}},
            "routes": ["*"],
        },
    }


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of Budgets and SecurityPolicies on which the plan raises."""
    names: set[str] = set()
    make_limits, protection = planning.make_limits, SecurityPolicies._protection

    def failing(observed: Observed, *others: Any) -> Any:
        for item in observed.budgets:
            if item.metadata.name in names:
                raise ZeroDivisionError(f"in {item.metadata.name}")
        return make_limits(observed, *others)

    def failing_protection(self: Any, one: Any, parent: Any) -> Any:
        if one.key[1] in names and "jwt" in one.spec:
            raise ZeroDivisionError(f"in {one.key[1]}")
        return protection(self, one, parent)

    monkeypatch.setattr(planning, "make_limits", failing)
    monkeypatch.setattr(SecurityPolicies, "_protection", failing_protection)
    return names


def defects() -> Defects:
    return Defects({field: resource for field, (resource, _) in watched().items()})


def state(plan: Plan, kind: str, name: str) -> tuple[str, str, str]:
    status = next(each.status for each in plan.statuses if (each.resource.kind, each.name) == (kind, name))
    holder = next(iter(status.get("ancestors", [status])))
    found = next(each for each in holder["conditions"] if each["type"] in ("Accepted", "NotAccepted"))
    return found["type"], found["status"], found["message"]


def world(*more: dict[str, Any]) -> Observed:
    return observe(
        gateway(80), *backend("a", 1), ai_route("r", "m", {"name": "a"}), plain_route("web", "/web"), *more
    )


def test_an_object_on_which_the_plan_raises_is_named_and_all_others_are_planned(broken: set[str]) -> None:
    broken |= {"b7"}
    line, memory = defects(), PlanMemory()
    budgets = [budget(f"b{number}") for number in range(20)]
    for observed in (world(*budgets), world(*budgets, ai_route("later", "n", {"name": "a"}))):
        plan = line.plan(observed, {}, envoys=1, memory=memory)
        assert len(plan.policy.limits) == 19
        assert "in b7" in state(plan, "Budget", "b7")[2]
        assert "defect of the gateway, and it is left out" in state(plan, "Budget", "b7")[2]
        assert state(plan, "Budget", "b8")[:2] == ("Accepted", "True")
    names = str(plan.resources.by_type[ROUTES]["http/80"])
    assert "ai/default/later/" in names
    # When it is another object it is looked at again.
    broken.clear()
    budgets[7] = budget("b7", 6)
    plan = line.plan(world(*budgets), {}, envoys=1, memory=memory)
    assert len(plan.policy.limits) == 20
    assert state(plan, "Budget", "b7")[:2] == ("Accepted", "True")


def test_a_security_policy_on_which_the_plan_raises_lets_nobody_in(broken: set[str]) -> None:
    broken |= {"of-web"}
    plan = defects().plan(
        world(policy("of-web", for_route("web"), jwt=local_jwt())), {}, envoys=1, memory=PlanMemory()
    )
    (route,) = [
        each
        for host in plan.resources.by_type[ROUTES]["http/80"]["virtual_hosts"]
        for each in host["routes"]
        if each["name"].startswith("http/default/web/")
    ]
    assert route["direct_response"]["status"] == 500
    kind, status, message = state(plan, "SecurityPolicy", "of-web")
    assert (kind, status) == ("Accepted", "False")
    assert "nobody is let in by it: ZeroDivisionError: in of-web" in message


def test_where_it_is_due_to_no_object_that_a_plan_can_do_without_the_plan_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(planning, "make_limits", failing)
    with pytest.raises(ZeroDivisionError):
        defects().plan(world(), {}, envoys=1, memory=PlanMemory())
