"""BackendTLSPolicies: which one holds for a backend, and what their statuses say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.gateway.shared import GROUP
from kajitori.gateway.backends.certificates import AuthorityRef, authorities
from kajitori.gateway.backends.tls import authority_refs
from kajitori.gateway.conditions import condition
from kajitori.gateway.observed import age_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.gateway.backend_tls_policy import BackendTLSPolicy
    from kajitori.gateway.observed import Index

_MOST_ANCESTORS = 16


class BackendKey(msgspec.Struct, frozen=True):
    """A Service or a Backend."""

    group: str
    kind: str
    namespace: str
    name: str


# Gateway -> name of its controller.
Gateways = dict[tuple[str, str], str]


def holding_policy(index: Index, key: BackendKey, section: str = "") -> BackendTLSPolicy | None:
    """The policy of a backend: one for the section rather than one for all, and of several the oldest."""
    found = policies_by_target(index).get(key, {})
    policies = found.get(section) or found.get("") if section else found.get("")
    return policies[0] if policies else None


def policies_by_target(index: Index) -> dict[BackendKey, dict[str, list[BackendTLSPolicy]]]:
    """Target -> section, or empty for all -> policies, oldest first."""
    if index.tls_policies is None:
        index.tls_policies = {}
        for policy in sorted(index.observed.tls_policies, key=age_key):
            for ref in policy.spec.target_refs:
                key = BackendKey(ref.group, ref.kind, policy.metadata.namespace or "", ref.name)
                sections = index.tls_policies.setdefault(key, {})
                sections.setdefault(ref.section_name or "", []).append(policy)
    return index.tls_policies


def policy_statuses(
    index: Index, uses: Mapping[BackendKey, Gateways]
) -> list[tuple[BackendTLSPolicy, dict[str, Any]]]:
    """The status of each policy: an entry for every Gateway whose routes lead to a target of it.

    uses: backend -> the Gateways from which requests get there.
    """
    return [(policy, _status(index, policy, uses)) for policy in index.observed.tls_policies]


def _status(index: Index, policy: BackendTLSPolicy, uses: Mapping[BackendKey, Gateways]) -> dict[str, Any]:
    namespace = policy.metadata.namespace or ""
    gateways: Gateways = {}
    older: list[str] = []
    for ref in policy.spec.target_refs:
        key = BackendKey(ref.group, ref.kind, namespace, ref.name)
        gateways |= uses.get(key, {})
        holds = policies_by_target(index)[key][ref.section_name or ""][0]
        if holds is not policy:
            older.append(f"{holds.metadata.name} is older and holds for {ref.kind} {ref.name} already")
    states = _conditions(index, policy, older)
    ancestors = [
        {
            "ancestorRef": {"group": GROUP, "kind": "Gateway", "namespace": key[0], "name": key[1]},
            "controllerName": gateways[key],
            "conditions": states,
        }
        for key in sorted(gateways)
    ]
    return {"ancestors": ancestors[:_MOST_ANCESTORS]}


def _conditions(index: Index, policy: BackendTLSPolicy, older: Sequence[str]) -> list[dict[str, Any]]:
    validation = policy.spec.validation
    refs: list[AuthorityRef] = authority_refs(policy.metadata.namespace or "", validation.ca_certificate_refs)
    bundle, problems = authorities(index, refs)
    told = "; ".join(str(reason) for reason in problems)
    well_known = validation.well_known_ca_certificates
    if older:
        accepted = condition("Accepted", False, "Conflicted", "; ".join(older))
    elif refs and not bundle:
        accepted = condition("Accepted", False, "NoValidCACertificate", told)
    elif well_known and well_known != "System":
        told_of = f"wellKnownCACertificates {well_known!r} is not known; System is"
        accepted = condition("Accepted", False, "Invalid", told_of)
    else:
        notes = [f"options.{name} is not honoured" for name in sorted(policy.spec.options)]
        accepted = condition("Accepted", True, "Accepted", "; ".join(["the policy holds", *notes]))
    if problems:
        return [accepted, condition("ResolvedRefs", False, problems[0].code, told)]
    return [accepted, condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved")]
