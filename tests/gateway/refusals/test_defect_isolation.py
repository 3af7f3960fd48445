"""Objects on which our own plan raises: one is played by an annotation that makes the plan's functions fail."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from kajitori.gateway import plan as plan_module
from kajitori.gateway import plan_draft
from kajitori.gateway.conditions import condition
from kajitori.gateway.defect_isolation import DefectIsolation
from kajitori.gateway.observed import OUR_CONTROLLER, Observed
from kajitori.gateway.plan import Plan
from kajitori.gateway.plan_memory import PlanMemory
from kajitori.gateway.policies.security.policies import SecurityPolicies
from kajitori.gateway.resources import ROUTES
from kajitori.gateway.status import complete_status
from kajitori.gateway.watched_kinds import WATCHED
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
    make_limits, protection = plan_module.make_limits, SecurityPolicies._protection

    def failing(observed: Observed, *others: Any) -> Any:
        for item in observed.budgets:
            if item.metadata.name in names:
                raise ZeroDivisionError(f"in {item.metadata.name}")
        return make_limits(observed, *others)

    def failing_protection(self: Any, one: Any, parent: Any) -> Any:
        if one.key[1] in names and "jwt" in one.spec:
            raise ZeroDivisionError(f"in {one.key[1]}")
        return protection(self, one, parent)

    monkeypatch.setattr(plan_module, "make_limits", failing)
    monkeypatch.setattr(SecurityPolicies, "_protection", failing_protection)
    return names


def defects() -> DefectIsolation:
    return DefectIsolation({field: resource for field, (resource, _) in WATCHED.items()})


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

    monkeypatch.setattr(plan_module, "make_limits", failing)
    with pytest.raises(ZeroDivisionError):
        defects().plan(world(), {}, envoys=1, memory=PlanMemory())


def with_status(item: Any, status: dict[str, Any]) -> Any:
    kind = get_type_hints(type(item))["status"]
    return msgspec.structs.replace(item, status=msgspec.convert(status, kind))


def test_what_a_status_says_of_a_defect_does_not_grow_and_leaves_others_entries_to_them(
    broken: set[str],
) -> None:
    broken |= {"b", "of-web"}
    line, memory, others = defects(), PlanMemory(), "example.com/other"
    observed = world(budget("b"), policy("of-web", for_route("web"), jwt=local_jwt()))
    theirs = {
        "ancestorRef": {"kind": "Gateway", "name": "x"},
        "controllerName": others,
        "conditions": [condition("Accepted", True, "Accepted", "")],
    }
    items = {"Budget": observed.budgets[0]}
    items["SecurityPolicy"] = with_status(observed.security_policies[0], {"ancestors": [theirs]})
    for _ in range(3):
        observed = msgspec.structs.replace(
            observed, budgets=(items["Budget"],), security_policies=(items["SecurityPolicy"],)
        )
        plan = line.plan(observed, {}, envoys=1, memory=memory)
        for update in plan.statuses:
            item = items.get(update.resource.kind)
            made = complete_status(update, item.status, "2026-01-01T00:00:00Z") if item else None
            if made is not None:
                items[update.resource.kind] = with_status(item, made)
    assert state(plan, "Budget", "b")[2].count("defect of the gateway") == 1
    ancestors = msgspec.to_builtins(items["SecurityPolicy"].status)["ancestors"]
    assert [each["controllerName"] for each in ancestors] == [others, OUR_CONTROLLER]


def test_where_telling_of_refusals_raises_the_plan_goes_out_without_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(plan_module, "refusals_told", failing)
    plan = defects().plan(world(), {"kind/name": "no"}, envoys=1, memory=PlanMemory())
    assert "http/80" in plan.resources.by_type[ROUTES]


def test_a_defect_is_told_without_secrets_and_briefly(broken: set[str]) -> None:
    name = "sk-abcdefghijklmnop" + "x" * 2000
    broken.add(name)
    observed = world(budget(name))
    plan = defects().plan(observed, {}, envoys=1, memory=PlanMemory())
    told = state(plan, "Budget", name)[2]
    assert "sk-abc" not in told and len(told) < 1000


def test_a_route_that_meets_a_defect_is_told_so_without_secrets_and_counted_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any) -> Any:
        raise ZeroDivisionError("sk-abcdefghijklmnop")

    kinds = tuple(msgspec.structs.replace(kind, translate=failing) for kind in plan_draft._KINDS)
    monkeypatch.setattr(plan_draft, "_KINDS", kinds)
    plan = plan_module.make_plan(observe(gateway(80), plain_route("web", "/web")))
    statuses = {update.resource.kind: update.status for update in plan.statuses}
    assert statuses["Gateway"]["listeners"][0]["attachedRoutes"] == 1
    (told,) = statuses["HTTPRoute"]["parents"][0]["conditions"]
    assert "ZeroDivisionError: sk-***" in told["message"]
    assert "failing" in caplog.text
