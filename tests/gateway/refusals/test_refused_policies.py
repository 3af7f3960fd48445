"""Where a policy is what Envoy refuses, its own condition says so, and the route's says by which field of which policy."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import LISTENER, ROUTES, SECRET
from tests.gateway.authority import Authority
from tests.gateway.refusals.spoiling import OF_ACTION, bad_action, of_routes, running_spoilt
from tests.gateway.security.objects import plain_route
from tests.gateway.test_delivery import QUESTION
from tests.gateway.test_tls_listeners import https, secure_gateway
from tests.gateway.workbench import Provider, ai_route, backend, gateway, observe

GROUP = "gateway.networking.k8s.io"


def policy(kind: str, name: str, target: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"targetRefs": [{"group": GROUP, **target}], **spec},
    }


def accepted(
    documents: list[dict[str, Any]], rejected: dict[str, str], kind: str, name: str
) -> tuple[str, str]:
    plan = make_plan(observe(*documents), rejected)
    status = next(each.status for each in plan.statuses if (each.resource.kind, each.name) == (kind, name))
    holder = next(iter(status.get("parents", status.get("ancestors", [status]))))
    state = next(each for each in holder["conditions"] if each["type"] in ("Accepted", "NotAccepted"))
    return state["status"], state["message"]


@pytest.mark.parametrize(
    ("target", "words", "meant"),
    [
        ({"kind": "HTTPRoute", "name": "bad"}, "retry_policy.max_interval must greater", "spec.retry"),
        (
            {"kind": "HTTPRoute", "name": "bad", "sectionName": "second"},
            "RetryPolicyValidationError",
            "spec.retry",
        ),
        ({"kind": "Gateway", "name": "gateway"}, "invalid hash_policy", "spec.loadBalancer"),
        ({"kind": "HTTPRoute", "name": "other"}, "retry_policy.max_interval must greater", ""),
        ({"kind": "HTTPRoute", "name": "bad"}, "something else", ""),
    ],
)
def test_the_policy_is_named_whose_field_made_what_envoys_words_speak_of(
    target: dict[str, Any], words: str, meant: str
) -> None:
    bad = ai_route("bad", "m", {"name": "b"})
    bad["spec"]["rules"].append({**bad["spec"]["rules"][0], "name": "second"})
    documents = [
        gateway(80), *backend("b", 1), bad, ai_route("other", "n", {"name": "b"}),
        policy(
            "BackendTrafficPolicy", "shaping", target, retry={"numRetries": 2},
            loadBalancer={"type": "ConsistentHash", "consistentHash": {"type": "SourceIP"}},
        ),
    ]  # fmt: skip
    rejected = {f"{ROUTES}/http/80#*#ai/default/bad/rule/1": words}
    status, message = accepted(documents, rejected, "BackendTrafficPolicy", "shaping")
    _, of_route = accepted(documents, rejected, "AIGatewayRoute", "bad")
    if meant:
        assert (status, message) == ("False", f"{meant}, in rules[1] of AIGatewayRoute default/bad: {words}")
        assert of_route == f"rules[1], by {meant} of BackendTrafficPolicy default/shaping: {words}"
    else:
        assert status == "True"
        assert of_route == f"rules[1]: {words}"


def test_the_policy_of_a_https_listener_whose_chain_is_refused_is_told() -> None:
    secret = Authority().secret("c", "a.example", "b.example")
    listeners = [https(name, 443, "c", f"{name}.example") for name in ("a", "b")]
    documents = [
        secret, secure_gateway(*listeners),
        *(
            policy("ClientTrafficPolicy", name, {"kind": "Gateway", "name": "gateway", "sectionName": name},
                   timeout={"http": {"idleTimeout": "9s"}})
            for name in ("a", "b")
        ),
    ]  # fmt: skip
    rejected = {f"{LISTENER}/http/443#https/443/a.example#": "no"}
    status, message = accepted(documents, rejected, "ClientTrafficPolicy", "a")
    assert (status, message) == ("False", "of the connections to https/443/a.example, which this shapes: no")
    assert accepted(documents, rejected, "ClientTrafficPolicy", "b")[0] == "True"


def test_the_policy_is_told_whose_authority_envoy_refuses_and_no_gateway_has_one_by_its_name() -> None:
    authority = Authority()
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    of_gateway = secure_gateway(https("a", 443, "c", "a.example"))
    of_gateway["metadata"] |= {"name": "default", "namespace": "policy"}
    of_gateway["spec"]["tls"] = {"frontend": {"default": {"validation": validation}}}
    of_policy = secure_gateway(https("b", 8443, "c", "b.example"))
    secret, bundle = authority.secret("c", "a.example", "b.example"), authority.config_map("ca")
    in_policy: list[dict[str, Any]] = [
        {**each, "metadata": {**each["metadata"], "namespace": "policy"}} for each in (secret, bundle)
    ]
    documents = [
        secret, bundle, *in_policy, of_gateway, of_policy,
        policy("ClientTrafficPolicy", "443", {"kind": "Gateway", "name": "gateway"}, tls={"clientValidation": validation}),
    ]  # fmt: skip
    plan = make_plan(observe(*documents))
    found = [each for each in plan.resources.by_type[SECRET] if each.startswith("client-ca")]
    assert sorted(found) == ["client-ca-of-policy/default/443", "client-ca/policy/default/443"]
    rejected = {f"{SECRET}/client-ca-of-policy/default/443": "no"}
    status, message = accepted(documents, rejected, "ClientTrafficPolicy", "443")
    assert status == "False"
    assert message.startswith("spec.tls.clientValidation: Envoy refuses the secret")


async def test_a_policy_that_envoy_refuses_is_told_by_envoys_words_and_its_other_routes_serve(
    first: Provider,
) -> None:
    async with running_spoilt() as bench:
        shaping = policy(
            "BackendTrafficPolicy", "shaping", {"kind": "HTTPRoute", "name": "bad"}, retry={"numRetries": 2}
        )
        documents = [
            gateway(bench.port), *backend("b1", first.port), plain_route("bad", "/bad", "b1"),
            ai_route("good", "good", {"name": "b1"}), shaping,
        ]  # fmt: skip
        bench.spoilt = (of_routes("http/default/bad/", bad_action),)
        await bench.refusing(*documents)
        assert (await bench.get("/bad/x")).status == 500
        assert (await bench.post({**QUESTION, "model": "good"})).status == 200
        kind, status, message = bench.condition("BackendTrafficPolicy", "shaping")
        assert (kind, status) == ("Accepted", "False")
        assert message.startswith("spec.retry, in rules[0] of HTTPRoute default/bad: ")
        assert OF_ACTION in message
