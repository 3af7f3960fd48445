"""Principals of Envoy's RBAC filter as its matchers: a list of which the first that holds decides. Pure.

CEL can only be said there. A principal means the same in both forms; paths are compared by CEL too, since no other input
of matchers leaves the query away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.policies.security.expressions import compile_request_expression
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

_XDS = "type.googleapis.com/xds.type.matcher.v3."
_INPUTS = TYPE + "envoy.extensions.matching.common_inputs.network.v3."
_MATCHERS = TYPE + "envoy.extensions.matching.input_matchers."


def first_match(rules: Sequence[tuple[str, dict[str, Any]]], default_action: str) -> dict[str, Any]:
    """The message `xds.type.matcher.v3.Matcher`. rules: Allow or Deny, and the principal, or `{"cel": tree}`, of each."""
    matchers = [{"predicate": _predicate(holds), "on_match": _action(action)} for action, holds in rules]
    return {"matcher_list": {"matchers": matchers}, "on_no_match": _action(default_action)}


def _action(action: str) -> dict[str, Any]:
    config = {"@type": TYPE + "envoy.config.rbac.v3.Action", "name": action, "action": action.upper()}
    return {"action": {"name": action, "typed_config": config}}


def _predicate(principal: dict[str, Any]) -> dict[str, Any]:
    ((kind, value),) = principal.items()
    match kind:
        case "and_ids":
            return {"and_matcher": {"predicate": [_predicate(each) for each in value["ids"]]}}
        case "or_ids":
            return _any([_predicate(each) for each in value["ids"]])
        case "not_id":
            return {"not_matcher": _predicate(value)}
        case "cel":
            return _cel(value)
        case "any":
            return _cel(compile_request_expression("true").tree)
        case "url_path":
            return _cel(compile_request_expression(_of_path(value["path"])).tree)
        case "header":
            wanted = {
                "@type": TYPE + "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                "header_name": value["name"],
            }
            return _single(wanted, value_match={"exact": value["string_match"]["exact"]})
        case "remote_ip":
            ranges = {"@type": _MATCHERS + "ip.v3.Ip", "cidr_ranges": [value], "stat_prefix": "client"}
            return _single({"@type": _INPUTS + "SourceIPInput"}, custom_match=_named(ranges))
        case "metadata":
            return _metadata(value)
        case _:
            raise AssertionError(kind)


def _any(predicates: list[dict[str, Any]]) -> dict[str, Any]:
    return {"or_matcher": {"predicate": predicates}}


def _metadata(matcher: dict[str, Any]) -> dict[str, Any]:
    wanted = {"@type": _INPUTS + "DynamicMetadataInput", "filter": matcher["filter"], "path": matcher["path"]}
    value = {"@type": _MATCHERS + "metadata.v3.Metadata", "value": matcher["value"]}
    return _single(wanted, custom_match=_named(value))


def _cel(tree: dict[str, Any]) -> dict[str, Any]:
    matcher = {"@type": _XDS + "CelMatcher", "expr_match": {"cel_expr_parsed": tree}}
    return _single({"@type": _XDS + "HttpAttributesCelMatchInput"}, custom_match=_named(matcher))


def _single(wanted: dict[str, Any], **matching: dict[str, Any]) -> dict[str, Any]:
    return {"single_predicate": {"input": _named(wanted), **matching}}


def _named(config: dict[str, Any]) -> dict[str, Any]:
    return {"name": config["@type"].rpartition(".")[2], "typed_config": config}


def _of_path(path: dict[str, Any]) -> str:
    if "exact" in path:
        return f"request.url_path == {_literal(path['exact'])}"
    if "prefix" in path:
        return f"request.url_path.startsWith({_literal(path['prefix'])})"
    return f"request.url_path.matches({_literal('^(?:' + path['safe_regex']['regex'] + ')$')})"


def _literal(text: str) -> str:
    """As CEL writes a text."""
    escaped = "".join(
        letter if letter.isprintable() and letter not in "\\'" else f"\\U{ord(letter):08x}" for letter in text
    )
    return f"'{escaped}'"
