"""A new kind is known everywhere: where it is observed, in the gateway's rights, and in our definitions."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from kajitori.api.crds import all_definitions
from kajitori.gateway import observed
from kajitori.gateway.observed import Observed
from kajitori.gateway.rbac import RULES
from kajitori.gateway.watched_kinds import WATCHED

# Read one by one, as they are referred to.
BY_REFERENCE = {"secrets", "config_maps"}


def test_every_field_of_objects_is_watched_by_its_projection() -> None:
    hints = get_type_hints(Observed, {**vars(observed), "Mapping": dict, "Issuer": Any, "TokenState": Any})
    found = {name: get_args(hint)[0] for name, hint in hints.items() if ... in get_args(hint)}
    kinds = {name: kind for name, kind in found.items() if kind is not str and name not in BY_REFERENCE}
    assert kinds == {name: projection for name, (_, projection) in WATCHED.items()}


@pytest.mark.parametrize("name", WATCHED)
def test_the_gateway_may_list_and_watch_what_it_follows(name: str) -> None:
    resource, _ = WATCHED[name]
    verbs = {
        verb
        for rule in RULES
        if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {"list", "watch"} <= verbs


def test_what_the_gateway_follows_has_a_definition_of_ours_or_is_kubernetes_own() -> None:
    ours = {(definition.group, definition.plural) for definition in all_definitions()}
    missing = {(resource.group, resource.plural) for resource, _ in WATCHED.values()} - ours
    assert {group for group, _ in missing} <= {"", "discovery.k8s.io"}
