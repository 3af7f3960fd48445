"""The parts of a route table: its hosts, and in each the routes that one rule of an object became. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.envoy.forms import REST, Form, Part, Resource, without
from kajitori.gateway.error_names import openai_name
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Routes of Envoy that translate rules of objects, by how their names begin.
_KINDS = {"ai": "AIGatewayRoute", "http": "HTTPRoute", "grpc": "GRPCRoute"}
_PER_ROUTE_AUTHORIZATION = TYPE + "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
_KEPT_METADATA = ("kajitori.answers", "envoy.filters.http.lua")
_REFUSED_STATUS = 500


def unit_of(route_name: str) -> str:
    """The rule that a route of Envoy was made of, by its name; the name itself where it is nobody's own."""
    parts = route_name.split("/")
    owned = len(parts) > 5 and parts[0] in _KINDS and parts[3] == "rule"
    return "/".join(parts[:5]) if owned else route_name


def owner_of(unit: str) -> tuple[str, str, str, str] | None:
    """Kind, namespace, name and rule of the object that a unit was made of; None for what is nobody's own."""
    parts = unit.split("/")
    if len(parts) != 5 or parts[0] not in _KINDS or parts[3] != "rule":
        return None
    return _KINDS[parts[0]], parts[1], parts[2], f"rules[{parts[4]}]"


def divide_table(value: Resource) -> dict[Part, Any]:
    """What is said of the table, of each host, and the routes of each rule at each host."""
    found: dict[Part, Any] = {REST: without(value, "virtual_hosts", "name")}
    for host in value.get("virtual_hosts", ()):
        name = str(host["name"])
        found[name, ""] = without(host, "routes")
        for unit, routes in _units(host).items():
            found[name, unit] = routes
    return found


def _units(host: Resource) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for number, route in enumerate(host.get("routes", ())):
        found.setdefault(unit_of(str(route.get("name") or number)), []).append(route)
    return found


def assemble_table(value: Resource, forms: Mapping[Part, Form], before: Mapping[Part, Any]) -> Resource:
    """The table with some parts in another form; before: parts as Envoy took them last."""
    hosts = [_host(host, forms, before) for host in value.get("virtual_hosts", ())]
    form = forms.get(REST, Form.FULL)
    rest = without(value, "virtual_hosts")
    if form is not Form.FULL:
        own = before.get(REST, {}) if form is Form.BEFORE else _plain_rest(value)
        rest = {"name": value["name"], **own}
    return {**rest, "virtual_hosts": [host for host in hosts if host is not None]}


def _host(host: Resource, forms: Mapping[Part, Form], before: Mapping[Part, Any]) -> Resource | None:
    name = str(host["name"])
    form = forms.get((name, ""), Form.FULL)
    head = without(host, "routes") if form is Form.FULL else before.get((name, ""))
    if form is Form.ANSWER:
        return {"name": name, "domains": host["domains"], "routes": [_refused_host()]}
    if form is Form.OUT or head is None:
        return None
    routes: list[Resource] = []
    # What is left to place of each unit, as it is wanted and as it was: routes of one may stand apart.
    wanted = {unit: len(own) for unit, own in _units(host).items()}
    left = {unit: list(before.get((name, unit), ())) for unit in wanted}
    for number, route in enumerate(host.get("routes", ())):
        unit = unit_of(str(route.get("name") or number))
        wanted[unit] -= 1
        match forms.get((name, unit), Form.FULL):
            case Form.FULL:
                routes.append(route)
            case Form.ANSWER:
                routes.append(_refused_route(route))
            case Form.BEFORE:
                count = 1 if wanted[unit] else len(left[unit])
                routes += left[unit][:count]
                del left[unit][:count]
            case Form.OUT:
                pass
    return {**head, "routes": routes}


def _plain_rest(value: Resource) -> Resource:
    """What the bodies of our own answers need."""
    key = "max_direct_response_body_size_bytes"
    return {key: value[key]} if key in value else {}


def sample_table(name: str, value: Resource, forms: Mapping[Part, Form]) -> Resource:
    """A table by another name of these parts alone.

    What is said of a host is in it only where it is asked for; routes of other hosts stand at a host of no one's.
    """
    units = dict.fromkeys(divide_table(value), Form.OUT) | dict(forms)
    hosts: list[Resource | None] = []
    for number, host in enumerate(value.get("virtual_hosts", ())):
        place = str(host["name"])
        own = forms.get((place, ""))
        if own is not None:
            hosts.append(_host(host, {**units, (place, ""): own}, {}))
        elif any(part[0] == place for part in forms if part[1]):
            stand_in = {"name": place, "domains": [f"host-{number}"], "routes": host.get("routes", ())}
            hosts.append(_host(stand_in, {**units, (place, ""): Form.FULL}, {}))
    rest = without(value, "virtual_hosts") if forms.get(REST) is Form.FULL else _plain_rest(value)
    return {**rest, "name": name, "virtual_hosts": [host for host in hosts if host is not None]}


def _refused_route(route: Resource) -> Resource:
    """The same match, and an error in place of what is done there."""
    name = str(route.get("name", ""))
    found: Resource = {"name": name, "match": route["match"], "direct_response": _error(name)}
    facts: Resource = route.get("metadata", {}).get("filter_metadata", {})
    if kept := {key: facts[key] for key in _KEPT_METADATA if key in facts}:
        found["metadata"] = {"filter_metadata": kept}
    off = {
        key: config if config.get("disabled") else {"@type": _PER_ROUTE_AUTHORIZATION, "disabled": True}
        for key, config in route.get("typed_per_filter_config", {}).items()
        if config.get("disabled") or config.get("@type") == _PER_ROUTE_AUTHORIZATION
    }
    return {**found, **({"typed_per_filter_config": off} if off else {})}


def _refused_host() -> Resource:
    return {"name": "refused-host", "match": {"prefix": "/"}, "direct_response": _error("")}


def _error(route_name: str) -> Resource:
    """An answer without Envoy's words: those are for who wrote the object, not for clients."""
    owner = owner_of(unit_of(route_name))
    told = "Envoy refuses what is configured for this host; the status of its routes says why"
    if owner is not None:
        kind, namespace, name, rule = owner
        told = f"Envoy refuses {rule} of {kind} {namespace}/{name}; its status says why"
    told = told.replace("%", "%%")
    if route_name.startswith("ai"):
        # The client's dialect gives it its shape afterwards.
        return {"status": _REFUSED_STATUS, "body_format": {"text_format_source": {"inline_string": told}}}
    error = {"type": openai_name(_REFUSED_STATUS), "code": str(_REFUSED_STATUS), "message": told}
    return {"status": _REFUSED_STATUS, "body_format": {"json_format": {"type": "error", "error": error}}}
