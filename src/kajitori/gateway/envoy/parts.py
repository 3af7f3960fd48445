"""What a resource of Envoy consists of that is somebody's own, and the resource without some of it. Pure.

Envoy takes a resource as a whole, but many objects share one: all routes of a port are one table, all HTTPS listeners of
a port one listener, the tokens of all SecurityPolicies one filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.envoy.forms import Form, Part, Resource
from kajitori.gateway.envoy.parts_of_tables import assemble_table, divide_table, sample_table
from kajitori.gateway.envoy.parts_of_tokens import divide_tokens, with_tokens
from kajitori.gateway.resources import EXTENSION, LISTENER, ROUTES, TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_JWT = TYPE + "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"


def divide(kind: str, value: Resource) -> dict[Part, Any]:
    """The parts of a resource with what is in them; none of a resource that is one thing."""
    if kind == ROUTES:
        return divide_table(value)
    if kind == LISTENER:
        return _chains(value)
    if kind == EXTENSION and value.get("typed_config", {}).get("@type") == _JWT:
        return divide_tokens(value)
    return {}


def assemble(
    kind: str, value: Resource, forms: Mapping[Part, Form], before: Mapping[Part, Any] | None = None
) -> Resource:
    """The resource with some parts in another form. before: parts as Envoy took them last."""
    before = before or {}
    if kind == ROUTES:
        return assemble_table(value, forms, before)
    parts = {part: _in_form(part, content, forms, before) for part, content in divide(kind, value).items()}
    there = {place: content for (place, _), content in parts.items() if content is not None}
    if kind == LISTENER:
        return {**value, "filter_chains": list(there.values())}
    return with_tokens(value, there.items())


def sample(kind: str, name: str, value: Resource, chosen: Iterable[tuple[Part, Form]]) -> Resource:
    """A resource by another name that has these parts and nothing else, to be tried."""
    forms = dict(chosen)
    if kind == ROUTES:
        return sample_table(name, value, forms)
    left_out = {part: Form.OUT for part in divide(kind, value) if part not in forms}
    return {**assemble(kind, value, left_out), "name": name}


def _in_form(part: Part, content: Any, forms: Mapping[Part, Form], before: Mapping[Part, Any]) -> Any | None:
    form = forms.get(part, Form.FULL)
    if form is Form.FULL:
        return content
    return before.get(part) if form is Form.BEFORE else None


def _chains(value: Resource) -> dict[Part, Any]:
    """The filter chains of a listener, if it has several and each has a name of its own."""
    chains: list[Resource] = value.get("filter_chains", [])
    found = {(str(chain.get("name", "")), ""): chain for chain in chains}
    return found if len(chains) > 1 and len(found) == len(chains) else {}
