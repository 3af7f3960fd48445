"""EnvoyProxies: which one a Gateway has, by itself or by its class, and the access logs that it asks for.

A Gateway's own takes the place of its class's. Logs are written beside the gateway's own, which stays, since usage is
booked by it. HTTP listeners of one port are one to Envoy, so each of their logs has the requests of all. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.envoygateway.envoy_proxy import EnvoyProxySpec, RawEnvoyProxy
from kajitori.api.envoygateway.policy import GROUP
from kajitori.api.gateway.shared import GROUP as GATEWAY_GROUP
from kajitori.api.unhonoured import unhonoured_sentences
from kajitori.base.cel import CompileError
from kajitori.base.cel.syntax import parse
from kajitori.gateway.conditions import condition
from kajitori.gateway.policies.log_metadata import (
    FILTER,
    asks_for_metadata,
    told_costs,
    told_costs_filter,
    untold,
    with_known_backend,
)
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.envoygateway.envoy_proxy import AccessLogFormat, AccessLogSetting
    from kajitori.api.gateway.v1 import ParametersReference
    from kajitori.gateway.accounting.accountant_policy import RouteFacts
    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.attachment import Attachment, Binding

KIND = "EnvoyProxy"
_MANAGER = "envoy.filters.network.http_connection_manager"
_DEFAULT_MEMBERS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "x-envoy-origin-path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "x-forwarded-for": "%REQ(X-FORWARDED-FOR)%",
    "user-agent": "%REQ(USER-AGENT)%",
    "x-request-id": "%REQ(X-REQUEST-ID)%",
    ":authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "route_name": "%ROUTE_NAME%",
}
ObjectKey = tuple[str, str]


class EnvoyProxies:
    """invalid_classes, invalid_gateways: by name or key, why their reference leads nowhere."""

    def __init__(self, index: Index, attachment: Attachment) -> None:
        self._proxies = {_key(item): item for item in index.observed.envoy_proxies}
        self._by_class: dict[str, ObjectKey] = {}
        self._by_gateway: dict[ObjectKey, ObjectKey] = {}
        self.invalid_classes: dict[str, str] = {}
        self.invalid_gateways: dict[ObjectKey, str] = {}
        self._specs: dict[ObjectKey, EnvoyProxySpec] = {}
        self._problems: dict[ObjectKey, str] = {}
        for item in index.observed.gateway_classes:
            name = item.metadata.name or ""
            if name in attachment.controllers and item.spec.parameters_ref is not None:
                self._name_class(name, item.spec.parameters_ref)
        for key, bindings in attachment.bindings.items():
            if not bindings:
                continue
            spec = bindings[0].gateway.spec
            ref = spec.infrastructure.parameters_ref if spec.infrastructure else None
            if ref is not None:
                self._name_gateway(key, ref)
            elif spec.gateway_class_name in self._by_class:
                self._by_gateway[key] = self._by_class[spec.gateway_class_name]
        for key in {*self._by_class.values(), *self._by_gateway.values()}:
            try:
                self._specs[key] = msgspec.convert(self._proxies[key].spec, EnvoyProxySpec)
            except msgspec.ValidationError as error:
                self._problems[key] = f"spec: {error}"

    def _name_class(self, name: str, ref: ParametersReference) -> None:
        key = (ref.namespace or "", ref.name)
        if why := self._why_invalid(ref, key):
            self.invalid_classes[name] = f"spec.parametersRef: {why}"
        else:
            self._by_class[name] = key

    def _name_gateway(self, gateway: ObjectKey, ref: ParametersReference) -> None:
        key = (gateway[0], ref.name)
        if why := self._why_invalid(ref, key):
            self.invalid_gateways[gateway] = f"spec.infrastructure.parametersRef: {why}"
        else:
            self._by_gateway[gateway] = key

    def _why_invalid(self, ref: ParametersReference, key: ObjectKey) -> str:
        if (ref.group, ref.kind) != (GROUP, KIND):
            return f"parameters are read from a {KIND} of {GROUP}, not from {ref.kind} of {ref.group!r}"
        return "" if key in self._proxies else f"{KIND} {'/'.join(key)} does not exist"

    def listener(self, found: dict[str, Any], bindings: Sequence[Binding]) -> dict[str, Any]:
        """The listener of a port with the logs that the EnvoyProxies of its Gateways ask for."""
        if not self._by_gateway:
            return found
        by_table: dict[str, list[Binding]] = {}
        for binding in bindings:
            by_table.setdefault(binding.table, []).append(binding)
        for chain in found["filter_chains"]:
            members = by_table.get(chain["name"], ()) if "name" in chain else bindings
            keys = dict.fromkeys(
                self._by_gateway[each.gateway_key] for each in members if each.gateway_key in self._by_gateway
            )
            specs = [self._specs[key] for key in keys if key in self._specs]
            logs = [log for spec in specs for log in access_logs(spec)]
            if not logs:
                continue
            telling = [told_costs_filter()] if any(map(_asks_for_metadata, specs)) else []
            for item in chain["filters"]:
                if item["name"] == _MANAGER:
                    manager = item["typed_config"]
                    manager["access_log"] = [*manager.get("access_log", []), *logs]
                    # On the way down the first filter is the last: it sees what all others found out.
                    manager["http_filters"] = [*telling, *manager["http_filters"]]
        return found

    def extensions(self, routes: Mapping[str, RouteFacts]) -> dict[str, dict[str, Any]]:
        """Configurations of filters that logs need. routes: by namespace/name."""
        return {FILTER: told_costs(routes)} if any(map(_asks_for_metadata, self._specs.values())) else {}

    def statuses(self, routes: Mapping[str, RouteFacts]) -> list[tuple[RawEnvoyProxy, dict[str, Any]]]:
        """Of each that a Gateway or a class of ours refers to."""
        users: dict[ObjectKey, list[dict[str, Any]]] = {}
        for name, key in self._by_class.items():
            users.setdefault(key, []).append({"group": GATEWAY_GROUP, "kind": "GatewayClass", "name": name})
        for (namespace, name), key in self._by_gateway.items():
            reference = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
            users.setdefault(key, []).append(reference)
        found: list[tuple[RawEnvoyProxy, dict[str, Any]]] = []
        for key, references in users.items():
            states = self._conditions(key, routes)
            ancestors = [{"ancestorRef": each, "conditions": states} for each in references[:16]]
            found.append((self._proxies[key], {"ancestors": ancestors}))
        return found

    def _conditions(self, key: ObjectKey, routes: Mapping[str, RouteFacts]) -> list[dict[str, Any]]:
        if key in self._problems:
            return [condition("Accepted", False, "InvalidParameters", self._problems[key])]
        states = [condition("Accepted", True, "Accepted", "the settings hold")]
        notes = _notes(self._proxies[key].spec, self._specs[key], routes)
        if notes:
            states.append(condition("Warning", True, "UnsupportedField", "; ".join(notes)))
        return states


def _key(item: Any) -> ObjectKey:
    return item.metadata.namespace or "", item.metadata.name or ""


def _asks_for_metadata(spec: EnvoyProxySpec) -> bool:
    log = spec.telemetry.access_log if spec.telemetry else None
    return log is not None and not log.disable and any(map(asks_for_metadata, log.settings))


def _notes(raw: dict[str, Any], spec: EnvoyProxySpec, routes: Mapping[str, RouteFacts]) -> list[str]:
    found = list(unhonoured_sentences(raw, EnvoyProxySpec).values())
    if spec.merge_gateways is False:
        found.append(
            "spec.mergeGateways: false is not honoured; Gateways share the Envoys of the installation"
        )
    if spec.routing_type == "Service":
        found.append("spec.routingType: Service is not honoured; requests go to the endpoints of Services")
    if spec.provider and spec.provider.type != "Kubernetes":
        found.append(f"spec.provider.type: {spec.provider.type} is not honoured")
    log = spec.telemetry.access_log if spec.telemetry else None
    for number, setting in enumerate(log.settings if log else ()):
        where = f"spec.telemetry.accessLog.settings[{number}]"
        if setting.type in ("Listener", "Upstream"):
            found.append(f"{where}.type: {setting.type} is not honoured; logs are of requests")
        found += [f"{where}.format: {text}" for text in untold(setting, routes)]
        found += [f"{where}.matches: {text}; the log is left out" for text in _unreadable(setting)]
        found += [
            f"{where}.sinks[{index}].type: {sink.type} is not honoured"
            for index, sink in enumerate(setting.sinks)
            if sink.type != "File"
        ]
    return found


def _unreadable(setting: AccessLogSetting) -> list[str]:
    """Expressions that Envoy would not take, and refuse the listener for."""
    found: list[str] = []
    for expression in setting.matches:
        try:
            parse(expression)
        except CompileError as error:
            found.append(f"{expression!r}: {error}")
    return found


def access_logs(spec: EnvoyProxySpec) -> list[dict[str, Any]]:
    """Envoy's `AccessLog`s for the files that are asked for."""
    log = spec.telemetry.access_log if spec.telemetry else None
    if log is None or log.disable:
        return []
    return [
        _file_log(sink.file.path, setting)
        for setting in log.settings
        if setting.type in (None, "Route") and not _unreadable(setting)
        for sink in setting.sinks
        if sink.file is not None
    ]


def _file_log(path: str, setting: AccessLogSetting) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": _format(setting.format),
        },
    }
    filters = [
        {
            "extension_filter": {
                "name": "envoy.access_loggers.extension_filters.cel",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    "expression": expression,
                },
            }
        }
        for expression in setting.matches
    ]
    if filters:
        made["filter"] = filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}}
    return made


def _format(wanted: AccessLogFormat | None) -> dict[str, Any]:
    if wanted is not None and wanted.text is not None and wanted.type != "JSON":
        text = wanted.text if wanted.text.endswith("\n") else wanted.text + "\n"
        made: dict[str, Any] = {"text_format_source": {"inline_string": with_known_backend(text)}}
        used = text
    else:
        members = wanted.json if wanted is not None and wanted.json else _DEFAULT_MEMBERS
        made = {"json_format": {name: with_known_backend(text) for name, text in members.items()}}
        used = " ".join(members.values())
    if "%REQ_WITHOUT_QUERY" in used:
        formatter = TYPE + "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
        made["formatters"] = [
            {"name": "envoy.formatter.req_without_query", "typed_config": {"@type": formatter}}
        ]
    return made
