"""What a configuration would have done to requests that were recorded.

Nothing is guessed anew: routes are matched in the very tables that Envoy would get, requests pass the engine that holds
them to limits, at the times at which they came and with the usage that was reported, and are charged as they would be. Not
recorded, so not looked at, are hostnames and headers other than the model's; who needs such a match is told so.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from kajitori.base.cel.regular import compile_pattern
from kajitori.gateway.accounting.charges import Charger
from kajitori.gateway.accounting.records import RequestRecord
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.operations import OPERATIONS, path_pattern, schemas_text
from kajitori.gateway.plan import Plan
from kajitori.gateway.resources import ROUTES
from kajitori.gateway.routes.endpoints import SCHEMAS_HEADER

MODEL_HEADER = "x-ai-eg-model"
COMMONEST_PATH = "/v1/chat/completions"
# The shortest way to say how long a text is in tokens, where the record does not tell.
_BYTES_A_TOKEN = 4
Resource = dict[str, Any]


class Tried(msgspec.Struct, frozen=True):
    """One request as it would have gone.

    route: AIGatewayRoute as namespace/name, empty if none matches. backends: AIServiceBackends that its first attempt may go to.
    refused_by: the limit that it would have met, with what would have been said. cost_usd: None if no price is known.
    """

    record: RequestRecord
    route: str = ""
    backends: tuple[str, ...] = ()
    refused_by: str = ""
    message: str = ""
    cost_usd: float | None = None

    @property
    def moved(self) -> bool:
        """Whether it would have been sent first to somebody who did not get it."""
        asked = self.record.attempts[0].backend if self.record.attempts else self.record.backend
        return bool(self.backends) and bool(asked) and asked not in self.backends


class _Moment:
    """A clock that stands where the records are."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


async def try_records(plan: Plan, records: Sequence[RequestRecord]) -> list[Tried]:
    """Each request in the order in which they began, as the plan would treat it."""
    clock = _Moment()
    engine = Engine(MemoryStore(), clock, name="trial")
    engine.configure(plan.policy)
    charger = Charger(plan.policy)
    tables = [table for _, table in sorted(plan.resources.by_type[ROUTES].items())]
    running: list[tuple[float, int, Settlement]] = []
    found: list[Tried] = []
    for number, record in enumerate(sorted(records, key=lambda each: each.time)):
        while running and running[0][0] <= record.time:
            clock.seconds, _, ended = heapq.heappop(running)
            await engine.settle([ended])
        clock.seconds = max(clock.seconds, record.time)
        tried, settlement = await _try_one(plan, tables, engine, charger, record)
        found.append(tried)
        if settlement is not None:
            heapq.heappush(running, (record.time + record.duration_seconds, number, settlement))
    return found


async def _try_one(
    plan: Plan, tables: Sequence[Resource], engine: Engine, charger: Charger, record: RequestRecord
) -> tuple[Tried, Settlement | None]:
    entry = find_route(tables, record.method or "POST", record.model, record.path)
    if entry is None:
        return Tried(record), None
    _, namespace, name, _, rule, *_ = entry["name"].split("/")
    route = f"{namespace}/{name}"
    clusters = first_clusters(entry)
    if not clusters:
        return Tried(record, route, message="the route has no usable backend"), None
    backends = tuple(dict.fromkeys(plan.backends[cluster][0] for cluster in clusters))
    verdict = await engine.admit(_request(record, route, rule))
    if not verdict.allowed:
        return Tried(record, route, backends, verdict.limit or "a limit", verdict.message), None
    taken = next((each for each in clusters if plan.backends[each][0] == record.backend), clusters[0])
    backend, override = plan.backends[taken]
    model = override or record.model
    cost = None
    if record.usage is not None:
        cost = charger.charge(route, rule, backend, model, record.usage).cost_usd
    settlement = Settlement(
        id=record.id,
        route=route,
        rule=rule,
        model=record.model,
        key=record.key,
        tenant=record.tenant,
        client=record.client,
        answered=200 <= record.status < 300,
        backend=backend,
        backend_model=model,
        usage=record.usage,
    )
    return Tried(record, route, backends, cost_usd=cost), settlement


def _request(record: RequestRecord, route: str, rule: str) -> Request:
    tokens = record.usage.input_tokens if record.usage else record.request_bytes // _BYTES_A_TOKEN
    return Request(
        id=record.id,
        route=route,
        rule=rule,
        model=record.model,
        key=record.key,
        tenant=record.tenant,
        client=record.client,
        method=record.method,
        path=record.path,
        input_tokens=tokens,
        output_tokens=record.usage.output_tokens if record.usage else None,
    )


def find_route(
    tables: Sequence[Resource], method: str, model: str, path: str = COMMONEST_PATH
) -> Resource | None:
    """The first route of an AIGatewayRoute that a request for this model meets, in any table and host."""
    headers = {":method": method, MODEL_HEADER: model, **_schemas_header(method, path)}
    for table in tables:
        for host in table["virtual_hosts"]:
            for route in host["routes"]:
                if str(route["name"]).startswith("ai/") and _fits(route["match"], headers):
                    return route
    return None


def unseen_headers(tables: Sequence[Resource]) -> list[str]:
    """Names of headers that routes match and records do not have."""
    found: set[str] = set()
    for table in tables:
        for host in table["virtual_hosts"]:
            for route in host["routes"]:
                if str(route["name"]).startswith("ai/"):
                    found |= {item["name"] for item in route["match"].get("headers", ())}
    return sorted(found - {MODEL_HEADER, SCHEMAS_HEADER, ":method"})


@lru_cache(maxsize=1024)
def _schemas_header(method: str, path: str) -> dict[str, str]:
    """What the request script says of the schemas that serve what was asked for."""
    for operation in OPERATIONS:
        if method in operation.methods and compile_pattern(
            f"^(?:{path_pattern(list(operation.paths))})$"
        ).search(path):
            return {SCHEMAS_HEADER: schemas_text(operation)}
    return {}


def _fits(match: Resource, headers: dict[str, str]) -> bool:
    return all(_header_fits(item, headers.get(item["name"])) for item in match.get("headers", ()))


def _header_fits(item: Resource, value: str | None) -> bool:
    if "present_match" in item:
        return ((value is not None) == item["present_match"]) != bool(item.get("invert_match"))
    if value is None:
        return False
    string: Resource = item["string_match"]
    if "exact" in string:
        fits = value == string["exact"]
    elif "contains" in string:
        fits = string["contains"] in value
    elif "prefix" in string:
        fits = value.startswith(string["prefix"])
    else:
        fits = compile_pattern(f"^(?:{string['safe_regex']['regex']})$").search(value) is not None
    return fits != bool(item.get("invert_match"))


def first_clusters(route: Resource) -> list[str]:
    """The clusters of the first group of a route's attempts; empty for one that answers by itself."""
    action: Resource = route.get("route") or {}
    if "cluster" in action:
        return [action["cluster"]]
    plugin: Resource = action.get("inline_cluster_specifier_plugin") or {}
    if not plugin:
        return []
    group: Resource = plugin["extension"]["typed_config"]["priority_groups"][0]
    return [item["cluster_name"] for item in group["clusters"]]
