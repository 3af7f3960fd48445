"""The parts of the filter that checks tokens: what each SecurityPolicy asks for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kajitori.gateway.envoy.forms import Part, Resource, without

if TYPE_CHECKING:
    from collections.abc import Iterable


def _providers_in(requirement: Any) -> set[str]:
    if isinstance(requirement, dict):
        members = cast("dict[str, Any]", requirement)
        own = {str(members["provider_name"])} if "provider_name" in members else set[str]()
        return own.union(*map(_providers_in, members.values()))
    if isinstance(requirement, list):
        return set[str]().union(*map(_providers_in, cast("list[Any]", requirement)))
    return set()


def divide_tokens(value: Resource) -> dict[Part, Any]:
    config = value["typed_config"]
    providers: Resource = config.get("providers", {})
    return {
        (str(policy), ""): {
            "requirement": requirement,
            "providers": {
                name: providers[name] for name in sorted(_providers_in(requirement)) if name in providers
            },
        }
        for policy, requirement in config.get("requirement_map", {}).items()
    }


def with_tokens(value: Resource, policies: Iterable[tuple[str, Any]]) -> Resource:
    config = without(value["typed_config"], "providers", "requirement_map")
    providers: Resource = {}
    requirements: Resource = {}
    for name, content in policies:
        providers |= content["providers"]
        requirements[name] = content["requirement"]
    return {**value, "typed_config": {**config, "providers": providers, "requirement_map": requirements}}
