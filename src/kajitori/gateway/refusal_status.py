"""What the statuses of objects say of what Envoy refused. Pure.

A refusal names a resource of Envoy, or a part of one that many objects share. Here it is led back to the objects: to the
rule that a route of Envoy was made of, to the backend of a cluster and all routes that lead there, to the policy of a filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.gateway.conditions import condition
from kajitori.gateway.envoy.forms import strings_in
from kajitori.gateway.envoy.parts_of_tables import divide_table, owner_of
from kajitori.gateway.envoy.stand_ins import OF_PORTS
from kajitori.gateway.keys.delivery import LUA_FILTER
from kajitori.gateway.policies.client_tls import AUTHORITY_OF
from kajitori.gateway.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kajitori.api.gateway.v1 import Gateway
    from kajitori.gateway.conditions import StatusUpdate
    from kajitori.gateway.policies.refused_fields import RefusedFields
    from kajitori.gateway.resources import Resources

_WORDS = {CLUSTER: "cluster", ENDPOINTS: "endpoints", SECRET: "secret", EXTENSION: "filter"}
# Objects that clusters are made of, by how the names of these begin.
_BACKENDS = {"ai": "AIServiceBackend", "backend": "Backend", "security": "SecurityPolicy"}
_INVALID = {"HTTPRoute": "UnsupportedValue", "GRPCRoute": "UnsupportedValue"}
_OPPOSITE = ("AIGatewayRoute", "AIServiceBackend", "BackendSecurityPolicy")
_SHAPING = ("ClientTrafficPolicy",)
_LONGEST_LIST = 10


class _Object(NamedTuple):
    """section: the name of a listener of a Gateway."""

    kind: str
    namespace: str
    name: str
    section: str = ""


# Kind, namespace, name and rule.
_Owner = tuple[str, str, str, str]
# Of each object what is to be said, and where: the same is said once for all places.
_Told = dict[_Object, dict[str, dict[str, None]]]


def refusals_told(
    statuses: Sequence[StatusUpdate],
    resources: Resources,
    rejected: Mapping[str, str],
    gateways: Sequence[Gateway] = (),
    policies: RefusedFields | None = None,
) -> list[StatusUpdate]:
    """The statuses, of which some say more. rejected: as `kajitori.gateway.envoy.xds.Snapshot` has it. policies: that shape routes."""
    if not rejected:
        return list(statuses)
    told: _Told = {}
    whole: dict[str, dict[str, str]] = {}
    owners = _Owners(resources.by_type.get(ROUTES, {}))
    listeners = _Listeners(gateways, statuses)
    for key, message in sorted(rejected.items()):
        kind, _, name = key.partition("/")
        if "#" not in name:
            whole.setdefault(kind, {})[name] = message
            continue
        name, place, unit = name.split("#", 2)
        if policies is not None and (owner := owner_of(unit)) is not None:
            _of_policies(owner, message, policies, told)
            continue
        for item, where in _of_part(kind, place, unit, owners.of(name, place), listeners):
            told.setdefault(item, {}).setdefault(message, {})[where] = None
        if kind == LISTENER:
            words = f"of the connections to {place}, which this shapes: {message}"
            listeners.tell_policies(listeners.of_chain(place), words, told)
    _of_whole(resources, whole, gateways, listeners, told)
    _of_listeners(whole.get(LISTENER, {}), listeners, told)
    return [_said(update, told) for update in statuses] if told else list(statuses)


class _Owners:
    """Which rules have routes in a table, by host. Of each table it is found out once, if somebody asks."""

    def __init__(self, tables: Mapping[str, dict[str, Any]]) -> None:
        self._tables = tables
        self._known: dict[str, dict[str, set[_Owner]]] = {}

    def of(self, table: str, host: str) -> set[_Owner]:
        """host: empty for all of them."""
        if table not in self._known:
            found = self._known[table] = {"": set[_Owner]()}
            for name, unit in divide_table(self._tables.get(table, {})):
                if (owner := owner_of(unit)) is not None:
                    found.setdefault(name, set()).add(owner)
                    found[""].add(owner)
        return self._known[table].get(host, set())


def _of_part(
    kind: str, place: str, unit: str, owners: Iterable[_Owner], listeners: _Listeners
) -> list[tuple[_Object, str]]:
    """Whose part it is, and where. owners: of the routes of its host."""
    if kind == EXTENSION:
        names = [name.split("/", 1) for name in place.split("+") if "/" in name]
        return [(_Object("SecurityPolicy", *name), "jwt") for name in names]
    if kind == LISTENER:
        return [(item, "its connections") for item in listeners.of_chain(place)]
    owner = owner_of(unit)
    if owner is not None:
        return [(_Object(*owner[:3]), owner[3])]
    # What stands in a host for all its routes, or what is said of the host or the table itself.
    where = f"host {place}, {unit}" if unit else f"host {place}" if place else "the whole route table"
    return [(_Object(*found[:3]), where) for found in sorted(owners)]


def _of_policies(owner: _Owner, message: str, policies: RefusedFields, told: _Told) -> None:
    """Of a rule, and of the policy that made of it what is refused, as far as that can be told."""
    kind, namespace, name, rule = owner
    number = int(rule.removeprefix("rules[").removesuffix("]"))
    found = policies.of(kind, namespace, name, number, message)
    made = [f"spec.{each.field} of {each.kind} {each.namespace}/{each.name}" for each in found]
    where = f"{rule}, by {' or '.join(made)}" if made else rule
    told.setdefault(_Object(kind, namespace, name), {}).setdefault(message, {})[where] = None
    for each in found:
        item = _Object(each.kind, each.namespace, each.name)
        there = f"spec.{each.field}, in {rule} of {kind} {namespace}/{name}"
        told.setdefault(item, {}).setdefault(message, {})[there] = None


class _Listeners:
    """Of all Gateways, by port and by filter chain, and the policies that shape them."""

    def __init__(self, gateways: Iterable[Gateway], statuses: Iterable[StatusUpdate]) -> None:
        self._shaping: dict[_Object, list[_Object]] = {}
        for update in statuses:
            if update.resource.kind not in _SHAPING:
                continue
            policy = _Object(update.resource.kind, update.namespace, update.name)
            for ref in (entry["ancestorRef"] for entry in update.status.get("ancestors", ())):
                namespace, section = ref.get("namespace") or update.namespace, ref.get("sectionName") or ""
                place = _Object("Gateway", namespace, ref["name"], section)
                self._shaping.setdefault(place, []).append(policy)
        self.of_port: dict[str, set[_Object]] = {}
        self._of_chain: dict[tuple[str, str], list[_Object]] = {}
        for gateway in gateways:
            key = (gateway.metadata.namespace or "", gateway.metadata.name or "")
            for listener in gateway.spec.listeners:
                item, port = _Object("Gateway", *key, listener.name), str(listener.port)
                self.of_port.setdefault(port, set()).add(item)
                self._of_chain.setdefault((port, listener.hostname or "*"), []).append(item)

    def of_chain(self, chain: str) -> list[_Object]:
        """Of a filter chain, which is named after its port and its host."""
        _, port, hostname = chain.split("/", 2) if chain.count("/") > 1 else ("", "", "")
        return self._of_chain.get((port, hostname), [])

    def tell_policies(self, shaped: Iterable[_Object], words: str, told: _Told) -> None:
        """Those that shape these listeners, or a Gateway as a whole that has one of them."""
        for item in shaped:
            for place in (item, item._replace(section="")):
                for policy in self._shaping.get(place, ()):
                    told.setdefault(policy, {}).setdefault(words, {})[""] = None


def _of_whole(
    resources: Resources,
    whole: dict[str, dict[str, str]],
    gateways: Iterable[Gateway],
    listeners: _Listeners,
    told: _Told,
) -> None:
    """Resources that nobody shares; of tables and listeners the plan itself tells."""
    if LUA_FILTER in whole.get(EXTENSION, {}):
        message = f"Envoy refuses the script that reads keys and models: {whole[EXTENSION][LUA_FILTER]}"
        for gateway in gateways:
            item = _Object("Gateway", gateway.metadata.namespace or "", gateway.metadata.name or "")
            told.setdefault(item, {}).setdefault(message, {})[""] = None
    refused = {
        name: f"Envoy refuses the {_WORDS[kind]} {name}, and keeps what it had of it, if anything: {message}"
        for kind in (CLUSTER, ENDPOINTS, SECRET)
        for name, message in whole.get(kind, {}).items()
    }
    if not refused:
        return
    _of_authorities(refused, told)
    clusters = resources.by_type.get(CLUSTER, {})
    reached = {
        name: [refused[found] for found in sorted(strings_in(value) & refused.keys())]
        for name, value in clusters.items()
    }
    for name, messages in reached.items():
        parts = name.split("~")[0].split("/")
        if messages and len(parts) > 2 and parts[0] in _BACKENDS:
            item = _Object(_BACKENDS[parts[0]], parts[1], parts[2])
            for message in messages:
                told.setdefault(item, {}).setdefault(message, {})[""] = None
    for listener in resources.by_type.get(LISTENER, {}).values():
        for chain in listener.get("filter_chains", ()):
            for name in sorted(strings_in(chain) & refused.keys()):
                for item in listeners.of_chain(str(chain.get("name", ""))):
                    told.setdefault(item, {}).setdefault(refused[name], {})[""] = None
    for table in resources.by_type.get(ROUTES, {}).values():
        for (_, unit), routes in divide_table(table).items():
            owner = owner_of(unit)
            if owner is None:
                continue
            mentioned = strings_in(routes)
            messages = [refused[name] for name in sorted(mentioned & refused.keys())]
            messages += [text for name in sorted(mentioned & reached.keys()) for text in reached[name]]
            for message in messages:
                told.setdefault(_Object(*owner[:3]), {}).setdefault(message, {})[owner[3]] = None


def _of_authorities(refused: Mapping[str, str], told: _Told) -> None:
    """Policies of listeners: what they hold the certificates of clients against is a secret of their own."""
    for name, message in refused.items():
        if name.startswith(AUTHORITY_OF):
            policy = _Object("ClientTrafficPolicy", *name.removeprefix(AUTHORITY_OF).split("/"))
            told.setdefault(policy, {}).setdefault(message, {})["spec.tls.clientValidation"] = None


def _of_listeners(refused: dict[str, str], listeners: _Listeners, told: _Told) -> None:
    """Policies that shape a listener which is refused as a whole; of the listener itself the plan tells."""
    for name, message in refused.items():
        port = name.rpartition("/")[2]
        if any(text in message for text in OF_PORTS):
            continue
        words = (
            f"Envoy refuses the listener of port {port} that this shapes, and keeps what it had: {message}"
        )
        listeners.tell_policies(listeners.of_port.get(port, ()), words, told)


def _said(update: StatusUpdate, told: _Told) -> StatusUpdate:
    item = _Object(update.resource.kind, update.namespace, update.name)
    own = told.get(item)
    status = update.status
    if own and item.kind == "Gateway":
        status = {**status, "conditions": _programmed(status.get("conditions", []), _message(own))}
    elif own:
        status = refused_status(item.kind, status, _message(own))
    if item.kind == "Gateway":
        listeners = [
            {**entry, "conditions": _programmed(entry["conditions"], _message(words))}
            if (words := told.get(item._replace(section=entry["name"])))
            else entry
            for entry in status.get("listeners", ())
        ]
        if listeners != list(status.get("listeners", ())):
            status = {**status, "listeners": listeners}
    return update if status is update.status else msgspec.structs.replace(update, status=status)


def _message(own: dict[str, dict[str, None]]) -> str:
    return "; ".join(
        f"{', '.join(sorted(filter(None, places))[:_LONGEST_LIST])}: {message}" if any(places) else message
        for message, places in own.items()
    )


def refused_status(kind: str, status: dict[str, Any], message: str) -> dict[str, Any]:
    """The status with every `Accepted` turned, at its top or at each parent."""
    found = dict(status)
    if "conditions" in found:
        found["conditions"] = [_turned(kind, each, message) for each in found["conditions"]]
    for part in ("parents", "ancestors"):
        if part in found:
            found[part] = [
                {**entry, "conditions": [_turned(kind, each, message) for each in entry["conditions"]]}
                for entry in found[part]
            ]
    return found


def _turned(kind: str, state: dict[str, Any], message: str) -> dict[str, Any]:
    bad = state["type"] == "NotAccepted" or (state["type"] == "Accepted" and state["status"] == "False")
    if bad:
        return {**state, "message": f"{state['message']}; {message}"}
    if state["type"] != "Accepted":
        return state
    if kind in _OPPOSITE:
        return condition("NotAccepted", True, "NotAccepted", message)
    return condition("Accepted", False, _INVALID.get(kind, "Invalid"), message)


def _programmed(states: list[dict[str, Any]], message: str) -> list[dict[str, Any]]:
    return [
        condition("Programmed", False, "Invalid", message) if state["type"] == "Programmed" else state
        for state in states
    ]
