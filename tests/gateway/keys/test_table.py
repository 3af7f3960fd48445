"""What becomes of APIKeys and Tenants in the plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.keys.delivery import LUA_FILTER, key_index
from kajitori.gateway.keys.table import make_key_table
from kajitori.gateway.lua.scripts import REQUEST_SCRIPT
from kajitori.gateway.observed import Index
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import EXTENSION, LISTENER, ROUTES
from tests.gateway.keys.objects import api_key, asking, tenant
from tests.gateway.workbench import ai_route, backend, gateway, observe

GRANT = {
    "kind": "ReferenceGrant",
    "metadata": {"name": "keys", "namespace": "models"},
    "spec": {
        "from": [{"group": "gateway.kajitori.dev", "kind": "APIKey", "namespace": "team"}],
        "to": [{"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute"}],
    },
}


def message_of(plan: Plan, kind: str, name: str) -> tuple[str, str]:
    """Type and message of the one condition."""
    status = next(each for each in plan.statuses if (each.resource.kind, each.name) == (kind, name))
    condition = status.status["conditions"][0]
    return condition["type"], condition["message"]


def test_the_older_of_two_keys_with_one_id_has_it() -> None:
    older, newer = api_key("aaaaaa"), api_key("aaaaaa", "evil")
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    newer["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    newer["metadata"]["name"] = "thief"
    plan = make_plan(observe(newer, older))
    assert message_of(plan, "APIKey", "thief") == (
        "NotAccepted",
        "spec.id: aaaaaa is the id of APIKey default/aaaaaa already; create the key anew",
    )
    assert message_of(plan, "APIKey", "aaaaaa")[0] == "Accepted"
    assert make_key_table(Index(observe(newer, older))).facts["aaaaaa"].name == "default/aaaaaa"


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "Tenant default/t does not exist"),
        ([tenant("t", "other")], "Tenant default/t does not exist"),
    ],
)
def test_a_key_without_its_tenant_is_refused_rather_than_free(documents: list[Any], said: str) -> None:
    observed = observe(api_key("aaaaaa", tenantRef={"name": "t"}), *documents)
    assert message_of(make_plan(observed), "APIKey", "aaaaaa") == ("NotAccepted", said)
    line = make_key_table(Index(observed)).lines["aaaaaa"]
    assert "something that it belongs to or is charged to is missing" in line


def test_a_tenant_without_one_of_its_budgets_says_that_its_keys_are_refused() -> None:
    plan = make_plan(observe(api_key("aaaaaa", tenantRef={"name": "t"}), tenant("t", budgets=["gone"])))
    said = "spec.budgets[0]: Budget default/gone does not exist, so the tenant's keys are refused"
    assert message_of(plan, "Tenant", "t") == ("NotAccepted", said)
    assert message_of(plan, "APIKey", "aaaaaa") == ("NotAccepted", "Budget default/gone does not exist")


def test_a_tenant_of_another_namespace_needs_a_grant() -> None:
    key = api_key("aaaaaa", "team", tenantRef={"name": "t", "namespace": "models"})
    refused = make_plan(observe(key, tenant("t", "models")))
    assert message_of(refused, "APIKey", "aaaaaa")[0] == "NotAccepted"
    to = [{"group": "gateway.kajitori.dev", "kind": "Tenant"}]
    grant = {**GRANT, "spec": {**GRANT["spec"], "to": to}}  # pyright: ignore[reportGeneralTypeIssues]
    plan = make_plan(observe(key, tenant("t", "models"), grant))
    assert message_of(plan, "APIKey", "aaaaaa")[0] == "Accepted"
    status = next(each for each in plan.statuses if each.resource.kind == "Tenant")
    assert status.status["keys"] == 1


def test_budgets_of_a_key_and_of_its_tenant_are_told_to_the_accountant() -> None:
    key = api_key("aaaaaa", tenantRef={"name": "t"}, budgets=["mine"])
    budgets = [
        {
            "kind": "Budget",
            "metadata": {"name": name},
            "spec": {"amount": {"requests": 1}, "window": {"sliding": "1h"}},
        }
        for name in ("mine", "ours")
    ]
    documents = (key, tenant("t", budgets=["ours"]))
    table = make_key_table(Index(observe(*documents, *budgets)))
    facts = table.facts["aaaaaa"]
    assert (facts.tenant, facts.budgets) == ("default/t", ("default/mine", "default/ours"))
    assert table.lines["aaaaaa"].split("\t")[2] == ""
    without = observe(*documents, budgets[0])
    assert message_of(make_plan(without), "APIKey", "aaaaaa") == (
        "NotAccepted",
        "Budget default/ours does not exist",
    )
    assert "is missing" in make_key_table(Index(without)).lines["aaaaaa"]


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [([], ["team/*", "models/*"]), (["models"], ["models/*"]), (["elsewhere"], [])],
)
def test_routes_of_other_namespaces_are_open_by_grant_and_narrowed_by_the_tenant(
    namespaces: list[str], expected: list[str]
) -> None:
    key = api_key("aaaaaa", "team", tenantRef={"name": "t"})
    table = make_key_table(Index(observe(key, tenant("t", "team", namespaces=namespaces), GRANT)))
    assert table.lines["aaaaaa"].split("\t")[5].split("\n") == (expected or [""])


def test_a_change_of_a_key_changes_neither_listeners_nor_routes() -> None:
    parts = [asking(gateway(8080)), *backend("a", 9000), ai_route("r", "m", {"name": "a"})]
    one = make_plan(observe(*parts, api_key("aaaaaa"))).resources.by_type
    many = make_plan(observe(*parts, *(api_key(f"key{number:05}") for number in range(50)))).resources.by_type
    assert one[LISTENER] == many[LISTENER]
    assert one[ROUTES] == many[ROUTES]
    context = many[EXTENSION][LUA_FILTER]["typed_config"]["filter_context"]
    assert len(context["index"]) == 50 * 36


def test_an_annotation_that_cannot_be_understood_asks_for_keys_and_is_told() -> None:
    route = asking(ai_route("r", "m", {"name": "a"}), "required")
    plan = make_plan(observe(gateway(8080), *backend("a", 9000), route))
    kind, message = message_of(plan, "AIGatewayRoute", "r")
    assert kind == "Accepted"
    assert "'required', not Required or Optional; keys are asked for" in message
    table = plan.resources.by_type[ROUTES]["http/8080"]
    routes = {each["name"]: each for each in table["virtual_hosts"][0]["routes"]}
    told = routes["ai/default/r/rule/0/match/0"]["metadata"]["filter_metadata"][LUA_FILTER]
    assert (told["route"], told["keys"]) == ("default/r", "Required")


def test_the_script_asks_for_its_context_once_since_envoy_copies_all_of_it() -> None:
    assert REQUEST_SCRIPT.count("filterContext()") == 1


@given(st.dictionaries(st.from_regex("[a-z0-9]{6,16}", fullmatch=True), st.text(), max_size=30))
def test_the_index_leads_to_the_line_of_each_key(lines: dict[str, str]) -> None:
    index, text = key_index(lines)
    records = [index[at : at + 36] for at in range(0, len(index), 36)]
    assert [record[:16].strip() for record in records] == sorted(lines)
    for record in records:
        place, size = int(record[16:26]) - 1, int(record[26:36])
        assert text.encode()[place : place + size].decode() == lines[record[:16].strip()]
