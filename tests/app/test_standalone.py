"""A gateway's configuration from variables of the environment: pure parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.app.standalone.assumed import assumed, strangers
from kajitori.app.standalone.environment import documents
from kajitori.app.standalone.serving import problems
from kajitori.app.standalone.substitution import substitute
from kajitori.base.errors import UsageError

OPENAI = {"OPENAI_API_KEY": "sk-1"}
AZURE = {
    "AZURE_OPENAI_API_KEY": "k",
    "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com",
    "OPENAI_API_VERSION": "2024-12-01-preview",
}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$A ${A}", "a a"),
        ("${B:-b} ${B-b} ${EMPTY:-e} [${EMPTY-e}]", "b b e []"),
        ("${B:=b} ${A:=b}", "b a"),
        ("${A:+x}[${EMPTY:+x}]${EMPTY+x}[${B+x}]", "x[]x[]"),
        ("$$A costs $5 ${1} $", "$A costs $5 ${1} $"),
        ("a: ${A}\nb: ${A:=c:d}\n", "a: a\nb: a\n"),
    ],
)
def test_variables_stand_for_what_shells_make_of_them(text: str, meant: str) -> None:
    assert substitute(text, {"A": "a", "EMPTY": ""}).text == meant


def test_a_variable_that_is_not_set_is_named_once() -> None:
    assert substitute("$X ${Y} ${X} ${Z:-z}", {}).missing == ("X", "Y")


@given(st.text(st.characters(exclude_characters="$")))
def test_a_text_without_variables_stays_as_it_is(text: str) -> None:
    assert substitute(text, {}).text == text


def by_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def test_an_openai_key_leads_to_openai_over_tls() -> None:
    objects = documents(OPENAI)
    (backend,) = by_kind(objects, "Backend")
    assert backend["spec"]["endpoints"] == [{"fqdn": {"hostname": "api.openai.com", "port": 443}}]
    assert backend["spec"]["tls"]["sni"] == "api.openai.com"
    (secret,) = by_kind(objects, "Secret")
    assert secret["stringData"] == {"apiKey": "sk-1"}


def test_a_base_url_says_host_port_and_prefix() -> None:
    objects = documents({**OPENAI, "OPENAI_BASE_URL": "http://127.0.0.1:11434/api/v1"})
    (backend,) = by_kind(objects, "Backend")
    assert backend["spec"] == {"endpoints": [{"ip": {"address": "127.0.0.1", "port": 11434}}]}
    (service,) = by_kind(objects, "AIServiceBackend")
    assert service["spec"]["schema"] == {"name": "OpenAI", "prefix": "api/v1"}


def test_organization_and_project_become_headers() -> None:
    objects = documents({**OPENAI, "OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p"})
    (service,) = by_kind(objects, "AIServiceBackend")
    assert service["spec"]["headerMutation"]["set"] == [
        {"name": "OpenAI-Organization", "value": "o"},
        {"name": "OpenAI-Project", "value": "p"},
    ]


def test_azure_goes_before_openai() -> None:
    (service,) = by_kind(documents({**OPENAI, **AZURE}), "AIServiceBackend")
    assert service["spec"]["schema"] == {"name": "AzureOpenAI", "version": "2024-12-01-preview"}


def test_anthropic_beside_openai_gets_the_models_of_its_name() -> None:
    (route,) = by_kind(documents({**OPENAI, "ANTHROPIC_API_KEY": "a"}), "AIGatewayRoute")
    patterns = [
        (rule["matches"][0]["headers"][0]["value"], rule["backendRefs"][0]["name"])
        for rule in route["spec"]["rules"]
    ]
    assert patterns == [("claude.*", "anthropic"), (".*", "openai")]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "no provider's key is set"),
        ({"AZURE_OPENAI_API_KEY": "k"}, "AZURE_OPENAI_ENDPOINT is not"),
        ({**AZURE, "OPENAI_API_VERSION": ""}, "OPENAI_API_VERSION is not"),
        ({**OPENAI, "OPENAI_BASE_URL": "api.openai.com"}, "OPENAI_BASE_URL=api.openai.com is not a URL"),
        ({**OPENAI, "OPENAI_BASE_URL": "http://h:x"}, "is not a URL"),
    ],
)
def test_too_little_is_refused_with_the_variable(variables: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        documents(variables)


ROUTE: dict[str, Any] = {
    "kind": "AIGatewayRoute",
    "metadata": {"name": "chat"},
    "spec": {"parentRefs": [{"name": "kaji"}, {"name": "edge", "namespace": "other", "port": 9000}]},
}


def test_gateways_that_routes_name_are_taken_to_be_there_where_a_file_has_none() -> None:
    found, told = assumed([ROUTE], 1975)
    assert [item["kind"] for item in found] == ["GatewayClass", "Gateway", "Gateway"]
    assert [item["spec"]["listeners"][0]["port"] for item in found[1:]] == [1975, 9000]
    assert len(told) == 2 and "Gateway default/kaji is not in the file" in told[0]
    assert strangers(ROUTE, [ROUTE, *found]) == []


def test_a_gateway_that_is_named_wrongly_is_no_other_one() -> None:
    gateway: dict[str, Any] = {
        "kind": "Gateway",
        "metadata": {"name": "kajji"},
        "spec": {"gatewayClassName": "alone"},
    }
    found, told = assumed([ROUTE, gateway], 1975)
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [("GatewayClass", "alone")]
    assert not told
    assert strangers(ROUTE, [ROUTE, gateway]) == ["default/kaji", "other/edge"]


def test_what_a_file_has_is_left_as_it_is() -> None:
    gateway_class: dict[str, Any] = {"kind": "GatewayClass", "metadata": {"name": "alone"}}
    gateway: dict[str, Any] = {"kind": "Gateway", "metadata": {}, "spec": {"gatewayClassName": "alone"}}
    assert assumed([gateway_class, gateway], 1975) == ([], [])


def test_a_gateway_that_names_no_class_makes_none_up() -> None:
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"}}
    assert assumed([gateway], 1975) == ([], [])


@pytest.mark.parametrize(
    ("kind", "found"), [("Overridden", []), ("Warning", ["it says why"]), ("NotAccepted", ["it says why"])]
)
def test_that_a_rule_has_a_policy_of_its_own_is_no_problem(kind: str, found: list[str]) -> None:
    told = {"type": kind, "status": "True", "message": "it says why"}
    accepted = {"type": "Accepted", "status": "True", "message": "the policy holds"}
    ancestors = {"ancestors": [{"conditions": [accepted, told]}]}
    assert problems({"metadata": {"name": "p"}, "status": ancestors}) == found
