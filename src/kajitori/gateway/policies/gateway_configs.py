"""GatewayConfigs: costs for all AI routes of a Gateway, and the proxy through which it reaches providers.

A Gateway names its GatewayConfig by an annotation. A route's own cost of a key wins. Through a proxy go the backends of
AI routes that have TLS, save for Services, which are in the cluster. A `Shaper`, since the proxy depends on the Gateway by which a
request came in. Pure.
"""

from __future__ import annotations

import hashlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.aigateway.gateway_config import ANNOTATION, GatewayConfigSpec, RawGatewayConfig
from kajitori.api.unhonoured import unhonoured_sentences
from kajitori.gateway.conditions import ai_status
from kajitori.gateway.observed import age_key
from kajitori.gateway.policies.cluster_copies import ClusterCopies
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.aigateway.v1beta1 import LLMRequestCost
    from kajitori.gateway.observed import Index
    from kajitori.gateway.policies.subjects import RouteKey
    from kajitori.gateway.routes.attachment import ParentOutcome, Place
    from kajitori.gateway.routes.tables import Entry
    from kajitori.gateway.world import World

ObjectKey = tuple[str, str]


class Proxy(msgspec.Struct, frozen=True):
    """Where to ask for connections."""

    address: str
    port: int

    @property
    def mark(self) -> str:
        """Ends the names of clusters that go through it."""
        return "proxy-" + hashlib.sha256(f"{self.address}:{self.port}".encode()).hexdigest()[:8]

    def around(self, cluster: dict[str, Any]) -> dict[str, Any]:
        """A copy of a cluster with TLS whose connections are made by the proxy."""
        inner = cluster["transport_socket"]
        socket: dict[str, Any] = {
            "@type": TYPE
            + "envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport",
            "transport_socket": inner,
            "default_proxy_address": {"socket_address": {"address": self.address, "port_value": self.port}},
        }
        return {
            **cluster,
            "transport_socket": {"name": "envoy.transport_sockets.http_11_proxy", "typed_config": socket},
        }


class GatewayConfigs:
    """missing: of Gateways, which config that they name is not there."""

    def __init__(self, index: Index) -> None:
        self._services = index.services
        self._configs = {_key(item): item for item in index.observed.gateway_configs}
        self._specs: dict[ObjectKey, GatewayConfigSpec] = {}
        self._problems: dict[ObjectKey, list[str]] = {}
        self._proxies: dict[ObjectKey, Proxy] = {}
        self._direct: dict[str, list[str]] = {}
        self._by_gateway: dict[ObjectKey, ObjectKey] = {}
        self._ages: dict[ObjectKey, tuple[str, str, str]] = {}
        self.missing: dict[ObjectKey, str] = {}
        for key, item in self._configs.items():
            self._read(key, item)
        for gateway in index.observed.gateways:
            self._ages[_key(gateway)] = age_key(gateway)
            name = gateway.metadata.annotations.get(ANNOTATION)
            if not name:
                continue
            config = (gateway.metadata.namespace or "", name)
            if config in self._configs:
                self._by_gateway[_key(gateway)] = config
            else:
                self.missing[_key(gateway)] = (
                    f"annotation {ANNOTATION}: GatewayConfig {'/'.join(config)} does not exist"
                )

    def begin(self, world: World) -> None:
        """For a plan; the configs, Gateways and Services are as they were."""
        self._copies = ClusterCopies(world)
        self._direct = {}

    def __bool__(self) -> bool:
        """Whether anything is reached by a proxy."""
        return bool(self._proxies)

    def _read(self, key: ObjectKey, item: RawGatewayConfig) -> None:
        problems = self._problems[key] = []
        try:
            spec = self._specs[key] = msgspec.convert(item.spec, GatewayConfigSpec)
        except msgspec.ValidationError as error:
            problems.append(f"spec: {error}")
            return
        if spec.forward_proxy:
            found = self._find_proxy(spec.forward_proxy.address)
            if isinstance(found, Proxy):
                self._proxies[key] = found
            else:
                problems.append(f"spec.forwardProxy.address: {found}")

    def _find_proxy(self, text: str) -> Proxy | str:
        """The proxy, or why there is none. Envoy takes an address here, so a name must be one that we know."""
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            return f"{text!r} has no port"
        if host == "localhost":
            host = "127.0.0.1"
        try:
            return Proxy(str(ip_address(host)), int(port))
        except ValueError:
            pass
        name, _, rest = host.partition(".")
        namespace, _, domain = rest.partition(".")
        service = self._services.get((namespace, name)) if domain in ("svc", "svc.cluster.local") else None
        if service is not None and service.spec.cluster_ip not in (None, "", "None"):
            return Proxy(str(service.spec.cluster_ip), int(port))
        return f"{host} is neither an address nor the name of a Service with one (NAME.NAMESPACE.svc)"

    def costs(
        self, own: Sequence[LLMRequestCost], outcomes: Sequence[ParentOutcome], notes: list[str]
    ) -> list[LLMRequestCost]:
        """What a route's requests are charged: its own costs, and those of its Gateways for other keys.

        notes: gets keys for which two Gateways of the route differ; the older Gateway's holds.
        """
        found = {cost.metadata_key: cost for cost in own}
        given = set(found)
        gateways = {place.gateway for outcome in outcomes for place in outcome.via}
        for gateway in sorted(gateways, key=lambda key: self._ages.get(key, ("", *key))):
            spec = self._specs.get(self._by_gateway.get(gateway, ("", "")))
            for cost in spec.global_llm_request_costs if spec else ():
                known = found.setdefault(cost.metadata_key, cost)
                if known != cost and cost.metadata_key not in given:
                    told = (
                        f"cost {cost.metadata_key}: the route's Gateways differ, and the oldest one's holds"
                    )
                    notes += [] if told in notes else [told]
        return list(found.values())

    def effect(self, route: RouteKey, rule: str, place: Place) -> Proxy | None:
        """The proxy of the Gateway by which requests come in."""
        config = self._by_gateway.get(place.gateway)
        return self._proxies.get(config) if config else None

    def shape(self, entry: Entry, effect: Proxy) -> Entry:
        """An entry whose backends are reached by the proxy."""
        if not entry.ai:
            return entry
        route = self._copies.redirect(
            entry.route,
            effect.mark,
            lambda cluster: self._reached(cluster, effect),
        )
        return msgspec.structs.replace(entry, route=route)

    def _reached(self, cluster: dict[str, Any], proxy: Proxy) -> dict[str, Any]:
        if cluster.get("type") == "EDS":
            return cluster
        if "transport_socket" not in cluster:
            # Envoy asks for a tunnel where the inside is TLS, and for nothing at all else.
            note = f"backend {cluster['name']} has no TLS and is reached without the proxy"
            notes = self._direct.setdefault(proxy.mark, [])
            notes += [] if note in notes else [note]
            return cluster
        return proxy.around(cluster)

    def keeps_clusters(self, effect: Proxy) -> bool:
        """A proxy is reached by clusters of its own."""
        return False

    def keep(self, entry: Entry) -> None:
        """Told of an entry that serves unchanged somewhere."""
        if self._proxies:
            self._copies.keep(entry.route)

    def finish(self) -> None:
        """When all routes are placed: drops clusters to which none leads any more."""
        self._copies.drop_originals()

    def statuses(self) -> list[tuple[RawGatewayConfig, dict[str, Any]]]:
        """Of every GatewayConfig."""
        found: list[tuple[RawGatewayConfig, dict[str, Any]]] = []
        for key, item in self._configs.items():
            notes = list(unhonoured_sentences(item.spec, GatewayConfigSpec).values())
            if "extProc" in item.spec:
                notes.append("there is no external processor here: Envoy itself does the work")
            proxy = self._proxies.get(key)
            notes += self._direct.get(proxy.mark, []) if proxy else []
            used = key in self._by_gateway.values()
            told = "the settings hold" if used else "no Gateway names it"
            found.append((item, ai_status(self._problems[key], notes, told)))
        return found


def _key(item: Any) -> ObjectKey:
    return item.metadata.namespace or "", item.metadata.name or ""
