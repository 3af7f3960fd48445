"""ClientTrafficPolicies: which one holds for a listener, and what it makes of it.

All HTTP listeners of a port, of whatever Gateway, are one to Envoy, and so have one policy: that of the oldest
Gateway which has one. Others for the same port are told that they conflict. An HTTPS listener has its own, save for
what concerns the port's sockets. Pure.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.envoygateway.client_traffic_policy import ClientTrafficPolicySpec
from kajitori.api.unhonoured import unhonoured_sentences
from kajitori.gateway.envoy.former_chains import close_chain
from kajitori.gateway.policies.attachment import GATEWAY, PolicyAttachment, Scope
from kajitori.gateway.policies.bounds import client_problems
from kajitori.gateway.policies.client_settings import change_chain, change_port, late_response_headers
from kajitori.gateway.policies.client_tls import authority_refs, change_tls, client_authority
from kajitori.gateway.policies.statuses import policy_status
from kajitori.gateway.routes.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.api.envoygateway.policy import Policy
    from kajitori.gateway.backends.certificates import AuthorityRef, Delivered
    from kajitori.gateway.observed import Index
    from kajitori.gateway.policies.subjects import Subjects
    from kajitori.gateway.policies.unchecked_clients import ListenerKey
    from kajitori.gateway.routes.attachment import Binding

KIND = "ClientTrafficPolicy"
_HONOURED_REQUEST_ID = "Generate"


class _Held(msgspec.Struct, frozen=True):
    """A policy that can be served. authority: what certificates of clients are held against."""

    policy: Policy
    spec: ClientTrafficPolicySpec
    authority: Delivered | None = None
    closed: bool = False


class ClientTraffic:
    """The policies of a plan."""

    def __init__(self, index: Index, subjects: Subjects) -> None:
        self._index = index
        policies = index.observed.client_traffic_policies
        self.attachment = PolicyAttachment(KIND, policies, index, subjects, kinds=(GATEWAY,))
        self._problems: dict[tuple[str, str], list[str]] = {}
        self._notes: dict[tuple[str, str], list[str]] = {}
        self._held: dict[tuple[str, str], _Held | None] = {}
        self._tables: dict[str, _Held] = {}
        for policy in self.attachment.policies:
            self._held[policy.key] = self._read(policy)

    def _read(self, policy: Policy) -> _Held | None:
        problems = self._problems[policy.key] = []
        self._notes[policy.key] = _notes(policy)
        try:
            spec = msgspec.convert(policy.spec, ClientTrafficPolicySpec)
        except msgspec.ValidationError as error:
            problems.append(f"spec: {error}")
            return self._closed(policy)
        authority = None
        # Fields that might have kept somebody out.
        problems += [
            told
            for path, told in unhonoured_sentences(policy.spec, ClientTrafficPolicySpec).items()
            if path.startswith("spec.tls.clientValidation.")
        ]
        if spec.tls and spec.tls.client_validation:
            authority = client_authority(self._index, policy, spec.tls.client_validation, problems)
        problems += _bad_networks(spec)
        problems += client_problems(spec)
        return self._closed(policy) if problems else _Held(policy, spec, authority)

    def _closed(self, policy: Policy) -> _Held | None:
        """What holds of a policy that cannot be read: nothing, but that it asks clients for certificates."""
        if not _asks_for_certificates(policy):
            return None
        self._problems[policy.key].append("as it asks for certificates, its HTTPS listeners take no client")
        return _Held(policy, ClientTrafficPolicySpec(), closed=True)

    def unchecked(self, bindings: Sequence[Binding]) -> dict[ListenerKey, Protection]:
        """HTTPS listeners that would ask for certificates and get another one's policy, and why their routes are closed."""
        chains: dict[str, list[Binding]] = {}
        for binding in bindings if self.attachment else ():
            if binding.tls is not None:
                chains.setdefault(binding.table, []).append(binding)
        found: dict[ListenerKey, Protection] = {}
        for members in chains.values():
            held = self._first(members)
            for binding in members:
                policy = self._policy(binding)
                if held is None or policy is held.policy:
                    continue
                name, told = "/".join(held.policy.key), ""
                if policy and _asks_for_certificates(policy):
                    name = "/".join(policy.key)
                    told = f"{KIND} {name} asks for certificates and does not hold; its status says why"
                elif binding.tls and binding.tls.client_authorities and _asks_for_certificates(held.policy):
                    told = f"{KIND} {name} of another Gateway says whose certificates are taken at this host"
                if told:
                    found[binding.gateway_key, binding.listener.name] = Protection(name, broken=told)
        return found

    def listener(
        self, found: dict[str, Any], bindings: Sequence[Binding], secrets: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """The listener of a port as its policies have it.

        bindings: that serve there, the oldest Gateway's first. secrets: gets what SDS must deliver.
        """
        if not self.attachment:
            return found
        chains: dict[str, list[Binding]] = {}
        for binding in bindings:
            chains.setdefault(binding.table, []).append(binding)
        named: dict[str, dict[str, Any]] = {
            each["name"]: each for each in found["filter_chains"] if "name" in each
        }
        unnamed = None if named else found["filter_chains"][0]
        for table, members in chains.items():
            held = self._one(members, "listens there too, and gets what holds for all HTTP of a port")
            chain = named.get(table, unnamed)
            if held is None or chain is None:
                continue
            self._tables[table] = held
            change_chain(chain, held.spec, members[0].hostname)
            if held.closed and "transport_socket" in chain:
                chain |= close_chain(chain)
            if held.spec.tls and "transport_socket" in chain:
                change_tls(chain, held.spec.tls, held.authority)
                if held.authority is not None:
                    secrets[held.authority.name] = held.authority.secret
        of_port = self._first(bindings)
        if of_port is not None:
            change_port(found, of_port.spec)
        return found

    def table(self, name: str, table: dict[str, Any]) -> dict[str, Any]:
        """A route table as the policy of its listeners has it; ask for listeners first."""
        held = self._tables.get(name)
        changes = held.spec.headers.late_response_headers if held and held.spec.headers else None
        return late_response_headers(table, changes) if changes else table

    def statuses(self) -> list[tuple[Policy, dict[str, Any]]]:
        """Of every policy that concerns a Gateway of ours."""
        found: list[tuple[Policy, dict[str, Any]]] = []
        for policy in self.attachment.policies:
            key = policy.key
            problems, notes = self._problems.get(key, []), self._notes.get(key, [])
            status = policy_status(self.attachment, policy, problems, list(dict.fromkeys(notes)))
            if status is not None:
                found.append((policy, status))
        return found

    def _policy(self, binding: Binding) -> Policy | None:
        scope = Scope(GATEWAY, *binding.gateway_key, binding.listener.name)
        return self.attachment.at(scope) or self.attachment.at(scope.whole)

    def _first(self, bindings: Iterable[Binding]) -> _Held | None:
        for binding in bindings:
            policy = self._policy(binding)
            held = self._held.get(policy.key) if policy else None
            if held is not None:
                return held
        return None

    def _one(self, members: Sequence[Binding], shared: str) -> _Held | None:
        """The policy of listeners that are one to Envoy; tells those that get another one, or none."""
        held = self._first(members)
        if held is None:
            return None
        for binding in members:
            policy = self._policy(binding)
            where = f"listener {binding.listener.name} of Gateway {'/'.join(binding.gateway_key)}"
            if policy is None:
                self._notes[held.policy.key].append(f"{where} {shared}")
            elif policy is not held.policy:
                winner = "/".join(held.policy.key)
                port = binding.listener.port
                told = f"{where}: port {port} is shared, and {KIND} {winner} holds for it already"
                if binding.tls is not None and _asks_for_certificates(policy):
                    told += "; nobody is asked for certificates, so its routes there are answered with 500"
                self._problems[policy.key].append(told)
        return held


def _asks_for_certificates(policy: Policy) -> bool:
    tls = policy.spec.get("tls")
    return isinstance(tls, dict) and "clientValidation" in tls


def _bad_networks(spec: ClientTrafficPolicySpec) -> list[str]:
    forwarded = spec.client_ip_detection.x_forwarded_for if spec.client_ip_detection else None
    found: list[str] = []
    for number, cidr in enumerate(forwarded.trusted_cidrs if forwarded else ()):
        try:
            ip_network(cidr, strict=False)
        except ValueError as error:
            found.append(f"spec.clientIPDetection.xForwardedFor.trustedCIDRs[{number}]: {error}")
    return found


def _notes(policy: Policy) -> list[str]:
    """What the status names: fields that change nothing, and old spellings."""
    found = list(unhonoured_sentences(policy.spec, ClientTrafficPolicySpec).values())
    headers = policy.spec.get("headers")
    request_id: Any = headers.get("requestID") if isinstance(headers, dict) else None
    if request_id not in (None, _HONOURED_REQUEST_ID):
        found.append(
            f"spec.headers.requestID: {request_id} is not honoured; requests are booked by ids of the gateway's own"
        )
    for old, new in (("targetRef", "targetRefs"), ("enableProxyProtocol", "proxyProtocol")):
        if policy.spec.get(old):
            found.append(f"spec.{old} is deprecated; write spec.{new}")
    return found


def referenced_authorities(index: Index) -> list[AuthorityRef]:
    """ConfigMaps and Secrets with authorities that policies refer to."""
    found: list[AuthorityRef] = []
    for policy in index.observed.client_traffic_policies:
        try:
            spec = msgspec.convert(policy.spec, ClientTrafficPolicySpec)
        except msgspec.ValidationError:
            continue
        if spec.tls and spec.tls.client_validation:
            found += authority_refs(index, policy, spec.tls.client_validation)
    return found
