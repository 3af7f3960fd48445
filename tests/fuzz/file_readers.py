"""Who reads files: of other processes, and of people."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec

from kajitori.api.aigateway.v1beta1 import LLMRequestCost
from kajitori.app.standalone.substitution import substitute
from kajitori.app.standalone.trial import try_records
from kajitori.base.errors import UserError
from kajitori.cli.gateway import without_effect
from kajitori.cli.gateway_try import read_records
from kajitori.cli.manifests import read_manifests
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.costs import CostExpression, Usage, check_costs
from kajitori.gateway.accounting.policy_delivery import FILE_NAME, PolicyFollower
from kajitori.gateway.envoy.encode import encoder
from kajitori.gateway.limits.journal import Journal
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.plan import make_plan
from tests.fuzz.registry import folder, loop, reads, text_of
from tests.gateway.security.objects import for_route, local_jwt, plain_route, policy
from tests.gateway.workbench import ai_route, backend, gateway, observe


@cache
def _journal_seeds() -> tuple[bytes, ...]:
    path = folder() / "seed.journal"
    journal = Journal(path)
    list(journal.replay())
    for record in (["r", "id", "n", [["c", 1, 2, 3]], 4.0], ["s", "id", [1]], {"x": 1}, [1], "x", None):
        journal.append(record)
    journal.close()
    return (path.read_bytes(),)


@reads("journals", *_journal_seeds())
def journals(data: bytes) -> None:
    path = folder() / "limits.journal"
    path.write_bytes(data)
    before: list[Any] = []
    journal = Journal(path)
    before.extend(journal.replay())
    journal.append(["kajitori"])
    journal.close()
    journal = Journal(path)
    assert [*journal.replay()] == [*before, ["kajitori"]] or before != before
    journal.close()
    path.write_bytes(data)
    store = MemoryStore(path)
    loop().run_until_complete(store.sweep(10.0))
    loop().run_until_complete(store.close())
    path.with_name(path.name + ".unreadable").unlink(missing_ok=True)


@reads("policies", msgspec.msgpack.encode(AccountantPolicy()))
def policies(data: bytes) -> None:
    (folder() / FILE_NAME).write_bytes(data)
    PolicyFollower(lambda: None, folder(), lambda policy: None).restore()  # type: ignore[arg-type, return-value]


@reads(
    "CEL",
    b"input_tokens / uint(3) + output_tokens",
    b"backend == 'a.default' ? 1u : 0u",
    b"cached_input_tokens * 0.1",
    b"[1].map(x, x)[0]",
)
def cel(data: bytes) -> None:
    problems: list[str] = []
    for cost in check_costs([LLMRequestCost(metadata_key="c", type="CEL", cel=text_of(data))], problems):
        assert CostExpression(cost.cel or "").compute(Usage(1, 2, 3), "m", "b", "r") >= 0
    assert all(problem.startswith("llmRequestCosts[c].cel: ") for problem in problems)


_RECORD = b'{"id":"1","time":1.0,"route":"r","method":"POST","path":"/v1/chat/completions","status":200,"model":"m","attempts":[]}'


@reads("recorded requests", _RECORD, _RECORD.replace(b"1.0", b"1e308"))
def recorded_requests(data: bytes) -> None:
    path = folder() / "recorded.jsonl"
    path.write_bytes(data)
    try:
        records = read_records(path)
    except UserError:
        return
    loop().run_until_complete(try_records(_recorded_plan(), records[:20]))


@cache
def _recorded_plan() -> Any:
    return make_plan(observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"})))


@reads(
    "manifests",
    b"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: ${A:=b}}\n---\n",
    b'{"kind":"List","items":[{}]}',
    b"a: &a [*a]",
    b"apiVersion: v1\nkind: Gateway\nmetadata: b}",
    b"- !!python/object 1",
)
def manifests(data: bytes) -> None:
    path = folder() / "manifest.yaml"
    path.write_bytes(data)
    try:
        found = read_manifests([str(path)], lambda _, text: substitute(text, {"A": "x"}).text)
    except UserError as error:
        assert str(error)
        return
    for manifest in found:
        assert manifest.title
        manifest.place("spec.a[0].b")
    without_effect(found)


_PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@reads(
    "secrets",
    b"a:{SHA}x\nb:c",
    b'{"keys":[{"kty":"RSA","n":"x","e":"AQAB"}]}',
    _PEM,
    b"sk-1\nx: y",
    b"[default]\naws_access_key_id = a",
)
def secrets(data: bytes) -> None:
    text = text_of(data)
    secret = {
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": dict.fromkeys(
            ("apiKey", ".htpasswd", "client-secret", "jwks", "tls.crt", "tls.key", "credentials", "ca.crt"),
            text,
        ),
    }
    config = {"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"jwks": text, "ca.crt": text}}
    keyed = {
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": "k"},
        "spec": {
            "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "a"}],
            "type": "APIKey",
            "apiKey": {"secretRef": {"name": "s"}},
        },
    }
    tls = {
        "kind": "Gateway",
        "metadata": {"name": "tls"},
        "spec": {
            "gatewayClassName": "kajitori",
            "listeners": [
                {"name": "a", "protocol": "HTTPS", "port": 8443, "tls": {"certificateRefs": [{"name": "s"}]}}
            ],
        },
    }
    plan = make_plan(
        observe(
            gateway(8080), tls, *backend("a", 1), secret, config, keyed, ai_route("r", "m", {"name": "a"}),
            plain_route("plain", "/p"),
            policy("b", for_route("plain"), basicAuth={"users": {"name": "s"}}),
            policy("j", for_route("r"), jwt=local_jwt(localJWKS={"type": "Inline", "inline": text})),
        )
    )  # fmt: skip
    assert "a defect of the gateway" not in json.dumps([update.status for update in plan.statuses])
    for kind, resources in plan.resources.by_type.items():
        for resource in resources.values():
            encoder().encode(kind, resource)


@reads(
    "price lists",
    b'{"prices":[{"model":"m","input":"1.5","output":"1e3"}]}',
    b'{"prices":[{"model":"gpt*","cachedInput":"0.1","request":"1"}]}',
)
def price_lists(data: bytes) -> None:
    from kajitori.api.kajitori_gateway.price_list import PriceList

    try:
        spec = json.loads(data)
        document = {"kind": "PriceList", "metadata": {"name": "p"}, "spec": spec}
        msgspec.convert({**document, "metadata": {"name": "p", "namespace": "d"}}, PriceList)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return
    plan = make_plan(observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"}), document))
    assert "a defect of the gateway" not in json.dumps([update.status for update in plan.statuses])
