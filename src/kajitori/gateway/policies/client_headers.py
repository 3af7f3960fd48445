"""`headers` of a ClientTrafficPolicy: what is done to headers as requests come in and answers go out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.api.envoygateway.client_traffic_policy import (
        HeaderChanges,
        HeaderSettings,
        ResponseHeaderChanges,
        XForwardedClientCert,
    )
    from kajitori.api.envoygateway.response_override import AnswerHeader

_ROUTER = "envoy.filters.http.router"
_UNDERSCORES = {"Allow": "ALLOW", "RejectRequest": "REJECT_REQUEST", "DropHeader": "DROP_HEADER"}
_CERTIFICATE_MODES = {
    "Sanitize": "SANITIZE",
    "ForwardOnly": "FORWARD_ONLY",
    "AppendForward": "APPEND_FORWARD",
    "SanitizeSet": "SANITIZE_SET",
    "AlwaysForwardOnly": "ALWAYS_FORWARD_ONLY",
}


def change_headers(manager: dict[str, Any], common: dict[str, Any], headers: HeaderSettings) -> None:
    """Puts the settings into what reads requests. common: its options for every version of HTTP."""
    if headers.with_underscores_action:
        common["headers_with_underscores_action"] = _UNDERSCORES[headers.with_underscores_action]
    if headers.x_forwarded_client_cert and headers.x_forwarded_client_cert.mode:
        _certificate(manager, headers.x_forwarded_client_cert)
    if headers.host and headers.host.strip_trailing_host_dot:
        manager["strip_trailing_host_dot"] = True
    if headers.enable_envoy_headers:
        manager["http_filters"] = [
            {**item, "typed_config": {**item["typed_config"], "suppress_envoy_headers": False}}
            if item["name"] == _ROUTER
            else item
            for item in manager["http_filters"]
        ]
    if headers.early_request_headers:
        # Before ours, which take away what would steer the gateway from outside.
        ours: list[dict[str, Any]] = manager.get("early_header_mutation_extensions", [])
        mutations = _mutations(headers.early_request_headers)
        manager["early_header_mutation_extensions"] = [
            {**item, "typed_config": {**item["typed_config"], "mutations": [*mutations, *_of(item)]}}
            for item in ours
        ]


def _of(extension: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = extension["typed_config"]["mutations"]
    return found


def _certificate(manager: dict[str, Any], forwarded: XForwardedClientCert) -> None:
    mode = _CERTIFICATE_MODES[forwarded.mode or "Sanitize"]
    manager["forward_client_cert_details"] = mode
    if mode in ("APPEND_FORWARD", "SANITIZE_SET"):
        manager["set_current_client_cert_details"] = {
            name.lower(): True for name in forwarded.cert_details_to_add
        }


def _mutations(changes: HeaderChanges) -> list[dict[str, Any]]:
    found = [
        {"append": added}
        for added in (
            *_added(changes.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
            *_added(changes.add, "APPEND_IF_EXISTS_OR_ADD"),
            *_added(changes.add_if_absent, "ADD_IF_ABSENT"),
        )
    ]
    removed: list[dict[str, Any]] = [{"remove": name.lower()} for name in changes.remove]
    kinds = {"Exact": "exact", "Prefix": "prefix", "Suffix": "suffix"}
    for match in changes.remove_on_match:
        matcher: dict[str, Any] = (
            {"safe_regex": {"regex": match.value}}
            if match.type == "RegularExpression"
            else {kinds[match.type]: match.value.lower()}
        )
        removed.append({"remove_on_match": {"key_matcher": matcher}})
    return [*found, *removed]


def _added(headers: Iterable[AnswerHeader], action: str) -> list[dict[str, Any]]:
    return [
        {
            "header": {"key": header.name.lower(), "value": header.value.replace("%", "%%")},
            "append_action": action,
        }
        for header in headers
    ]


def late_response_headers(table: dict[str, Any], changes: ResponseHeaderChanges) -> dict[str, Any]:
    """A copy of a route table whose answers get the changes last of all."""
    added = [
        *_added(changes.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
        *_added(changes.add, "APPEND_IF_EXISTS_OR_ADD"),
        *_added(changes.add_if_absent, "ADD_IF_ABSENT"),
    ]
    made = dict(table)
    if added:
        made["response_headers_to_add"] = [*table.get("response_headers_to_add", []), *added]
    if changes.remove:
        removed = [name.lower() for name in changes.remove]
        made["response_headers_to_remove"] = [*table.get("response_headers_to_remove", []), *removed]
    return made
