"""APIKeys and Tenants to the table that Envoy looks keys up in. Pure.

One line of text a key: a route table that changes does not carry it, and Envoy reads one line a request, whatever the
number of keys. Only hashes are in it.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.kajitori_gateway import GROUP
from kajitori.gateway.accounting.accountant_policy import KeyFacts
from kajitori.gateway.conditions import ai_status
from kajitori.gateway.observed import age_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.kajitori_gateway.api_key import APIKey
    from kajitori.api.kajitori_gateway.tenant import Tenant
    from kajitori.gateway.observed import Index

# A ReferenceGrant to one of these kinds opens routes of its namespace: one of the second is made of the first.
_ROUTE_KINDS = ("AIGatewayRoute", "HTTPRoute", "GRPCRoute")
_FIELDS, _ITEMS = "\t", "\n"
_NEVER = 1 << 40


class KeyTable(msgspec.Struct, frozen=True):
    """lines: by id, what lua/keys.lua reads. facts: by id, for the accountant. statuses: of each object."""

    lines: dict[str, str]
    facts: dict[str, KeyFacts]
    key_statuses: list[tuple[APIKey, dict[str, Any]]]
    tenant_statuses: list[tuple[Tenant, dict[str, Any]]]


def make_key_table(index: Index) -> KeyTable:
    """The keys of all namespaces; where two have one id, the older object has it."""
    making = _Making(index)
    for key in sorted(index.observed.api_keys, key=age_key):
        making.add(key)
    tenants = [
        (
            tenant,
            {
                "keys": making.keys_of.get(_name(tenant), 0),
                **ai_status(making.missing_budgets(tenant), _disabled(tenant), "its keys are taken"),
            },
        )
        for tenant in index.observed.tenants
    ]
    return KeyTable(making.lines, making.facts, making.statuses, tenants)


def _name(item: APIKey | Tenant) -> tuple[str, str]:
    return item.metadata.namespace or "", item.metadata.name or ""


def _disabled(tenant: Tenant) -> list[str]:
    return ["it is disabled, so its keys are refused"] if tenant.spec.disabled else []


def _refusal(key: APIKey, tenant: Tenant | None) -> str:
    if key.metadata.deletion_timestamp:
        return "it is being deleted"
    if key.spec.disabled:
        return "it is disabled"
    return "its tenant is disabled" if tenant is not None and tenant.spec.disabled else ""


class _Making:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._tenants = {_name(tenant): tenant for tenant in index.observed.tenants}
        self._known_budgets = {
            (item.metadata.namespace or "", item.metadata.name or "") for item in index.observed.budgets
        }
        self._open: dict[str, list[str]] = {}
        self.lines: dict[str, str] = {}
        self.facts: dict[str, KeyFacts] = {}
        self.keys_of: dict[tuple[str, str], int] = {}
        self.statuses: list[tuple[APIKey, dict[str, Any]]] = []

    def add(self, key: APIKey) -> None:
        spec = key.spec
        namespace, name = _name(key)
        other = self.facts.get(spec.id)
        if other is not None:
            problem = f"spec.id: {spec.id} is the id of APIKey {other.name} already; create the key anew"
            self.statuses.append((key, ai_status([problem], [], "")))
            return
        problems: list[str] = []
        tenant_name, tenant = self._tenant(key, problems)
        if tenant_name and not problems:
            self.keys_of[tenant_name] = self.keys_of.get(tenant_name, 0) + 1
        budgets = self._budgets(key, tenant, problems)
        refusal = _refusal(key, tenant)
        full_tenant = "/".join(tenant_name) if tenant_name else ""
        # What is wrong with other objects is none of the client's business.
        told = "something that it belongs to or is charged to is missing" if problems else refusal
        self.lines[spec.id] = self._line(key, full_tenant, tenant, told)
        self.facts[spec.id] = KeyFacts(f"{namespace}/{name}", full_tenant, budgets)
        notes = [f"{refusal}, so it is refused"] if refusal else []
        self.statuses.append((key, ai_status(problems, notes, "the key is taken")))

    def _line(self, key: APIKey, full_tenant: str, tenant: Tenant | None, refusal: str) -> str:
        spec = key.spec
        namespace = key.metadata.namespace or ""
        hashes = (
            f"{item.sha256}:{_seconds(item.not_before, _NEVER) or ''}:{_seconds(item.not_after) or ''}"
            for item in spec.hashes
        )
        lists = (
            hashes,
            self._visible(namespace, tenant),
            spec.models,
            tenant.spec.models if tenant else (),
            _in_namespace(spec.routes, namespace),
            _in_namespace(tenant.spec.routes, _name(tenant)[0]) if tenant else (),
        )
        ends = str(_seconds(spec.expires_at) or "")
        return _FIELDS.join((spec.id, full_tenant, refusal, ends, *(_ITEMS.join(each) for each in lists)))

    def _budgets(self, key: APIKey, tenant: Tenant | None, problems: list[str]) -> tuple[str, ...]:
        """As namespace/name. A key whose budget is not there must not spend without one."""
        named = [(key.metadata.namespace or "", each) for each in key.spec.budgets]
        if tenant is not None:
            named += [(_name(tenant)[0], each) for each in tenant.spec.budgets]
        problems += [
            f"Budget {'/'.join(each)} does not exist" for each in named if each not in self._known_budgets
        ]
        return tuple(dict.fromkeys("/".join(each) for each in named))

    def missing_budgets(self, tenant: Tenant) -> list[str]:
        """What keeps all keys of a tenant from being taken."""
        namespace, _ = _name(tenant)
        return [
            f"spec.budgets[{number}]: Budget {namespace}/{name} does not exist, so the tenant's keys are refused"
            for number, name in enumerate(tenant.spec.budgets)
            if (namespace, name) not in self._known_budgets
        ]

    def _tenant(self, key: APIKey, problems: list[str]) -> tuple[tuple[str, str] | None, Tenant | None]:
        """Name and object of the key's tenant. A key whose tenant is not there must not count as one without."""
        reference = key.spec.tenant_ref
        if reference is None:
            return None, None
        namespace = key.metadata.namespace or ""
        name = (reference.namespace or namespace, reference.name)
        if not self._index.granted(GROUP, "APIKey", namespace, GROUP, "Tenant", name):
            problems.append(f"no ReferenceGrant lets the key refer to Tenant {name[0]}/{name[1]}")
            return name, None
        tenant = self._tenants.get(name)
        if tenant is None:
            problems.append(f"Tenant {name[0]}/{name[1]} does not exist")
        return name, tenant

    def _visible(self, namespace: str, tenant: Tenant | None) -> list[str]:
        """Routes that are open to keys of a namespace, as `namespace/*` or `namespace/name`."""
        known = self._open.get(namespace)
        if known is None:
            known = self._open[namespace] = self._opened(namespace)
        if tenant is None or not tenant.spec.namespaces:
            return known
        return [each for each in known if each.partition("/")[0] in tenant.spec.namespaces]

    def _opened(self, namespace: str) -> list[str]:
        found = [f"{namespace}/*"]
        for grant in self._index.observed.grants:
            if not any(
                (source.group, source.kind, source.namespace) == (GROUP, "APIKey", namespace)
                for source in grant.spec.from_
            ):
                continue
            found += [
                f"{grant.metadata.namespace}/{target.name or '*'}"
                for target in grant.spec.to
                if target.kind in _ROUTE_KINDS
            ]
        return list(dict.fromkeys(found))


def _in_namespace(routes: Sequence[str], namespace: str) -> list[str]:
    return [route if "/" in route else f"{namespace}/{route}" for route in routes]


def _seconds(time: str | None, unreadable: int = 1) -> int | None:
    """Whole seconds since 1970. An end that cannot be read is long past: a key must not outlive it."""
    if time is None:
        return None
    try:
        return int(datetime.datetime.fromisoformat(time).timestamp())
    except ValueError:
        return unreadable
