"""Which Secrets and ConfigMaps are read, and that their arrival is noticed."""

from __future__ import annotations

from typing import Any

from kajitori.api.resource import GATEWAYS
from kajitori.gateway.observed import Index
from kajitori.gateway.references import wanted_config_maps, wanted_secrets
from tests.gateway.authority import Authority
from tests.gateway.cluster import Cluster
from tests.gateway.test_backend_tls import TO_BACKEND, by_config_map, policy
from tests.gateway.test_route_filters import route_filter
from tests.gateway.test_tls_listeners import https, secure_gateway
from tests.gateway.workbench import backend, observe


def test_only_what_is_referred_to_is_read() -> None:
    listener = https("tls", 8443, "one")
    listener["tls"]["certificateRefs"].append({"name": "far", "namespace": "other"})
    clients = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}]}
    foreign = secure_gateway(https("tls", 8443, "theirs"), gatewayClassName="somebody-elses")
    foreign["metadata"]["name"] = "foreign"
    documents: list[dict[str, Any]] = [
        secure_gateway(listener, tls={"frontend": {"default": {"validation": clients}}}),
        foreign,
        *backend("a", 1),
        policy("p", TO_BACKEND, **by_config_map("trusted")),
        route_filter("key", credentialInjection={"credential": {"valueRef": {"name": "key"}}}),
        route_filter(
            "page",
            directResponse={
                "body": {"type": "ValueRef", "valueRef": {"group": "", "kind": "ConfigMap", "name": "page"}}
            },
        ),
    ]
    documents[2]["spec"]["tls"] = {
        "caCertificateRefs": [{"group": "", "kind": "Secret", "name": "authority"}],
        "clientCertificateRef": {"name": "me"},
    }
    index = Index(observe(*documents))
    assert wanted_secrets(index) == {("default", name) for name in ("one", "key", "authority", "me")}
    assert wanted_config_maps(index) == {("default", name) for name in ("clients", "trusted", "page")}


async def test_a_listener_serves_as_soon_as_its_certificate_is_there(cluster: Cluster) -> None:
    await cluster.apply(secure_gateway(https("tls", cluster.bench.port, "one")))
    await cluster.condition(GATEWAYS, "gateway", "ResolvedRefs", reason="InvalidCertificateRef")
    await cluster.apply(Authority().secret("one", "one.example"))
    await cluster.condition(GATEWAYS, "gateway", "ResolvedRefs", reason="ResolvedRefs")
    await cluster.condition(GATEWAYS, "gateway", "Programmed", status="True")
