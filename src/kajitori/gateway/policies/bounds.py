"""What Envoy would refuse of a policy though its definition lets it pass. Pure.

It is found here and told in the policy's status, in words of the field. Sent, it would keep its part of a listener or route
table back until Envoy has been asked which part it refuses (`kajitori.gateway.envoy.quarantine`).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from kajitori.api.envoygateway.client_traffic_policy import SubjectAltNames
from kajitori.base.cel.errors import EvaluationError
from kajitori.base.duration import parse_duration_seconds
from kajitori.base.quantity import parse_quantity
from kajitori.gateway.internal_headers import problem_of_name
from kajitori.gateway.patterns import check_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kajitori.api.envoygateway.backend_traffic_policy import BackendTrafficPolicySpec
    from kajitori.api.envoygateway.client_traffic_policy import (
        ClientTrafficPolicySpec,
        ClientValidation,
        HeaderChanges,
        ResponseHeaderChanges,
    )
    from kajitori.api.envoygateway.cluster_settings import Fraction, HTTP2Settings
    from kajitori.api.envoygateway.rate_limit import RateLimitRule

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_SMALLEST_WINDOW, _LARGEST_WINDOW = 65_535, 2**31 - 1
_MOST_PRECONNECT_PERCENT = 300
_LARGEST_SIZE = 2**32 - 1
# SHA-256 in hexadecimal, its bytes parted by colons or not.
_CERTIFICATE_HASH = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}")
_OBJECT_IDENTIFIER = re.compile(r"([01]\.[1-3]?[0-9]|2\.[0-9]+)(\.[0-9]+)+")
Durations = dict[str, "str | None"]


def traffic_problems(spec: BackendTrafficPolicySpec) -> list[str]:
    """Of a BackendTrafficPolicy, each with the path of the field."""
    return list(_traffic(spec))


def client_problems(spec: ClientTrafficPolicySpec) -> list[str]:
    """Of a ClientTrafficPolicy, each with the path of the field."""
    return list(_clients(spec))


def _traffic(spec: BackendTrafficPolicySpec) -> Iterator[str]:
    durations: Durations = {}
    if spec.timeout and spec.timeout.tcp:
        durations["timeout.tcp.connectTimeout"] = spec.timeout.tcp.connect_timeout
    health = spec.health_check
    if health and health.active:
        durations["healthCheck.active.timeout"] = health.active.timeout
        durations["healthCheck.active.interval"] = health.active.interval
        method = health.active.http.method if health.active.http else None
        if method and method.upper() not in _METHODS:
            yield f"spec.healthCheck.active.http.method: {method!r} is none of {', '.join(_METHODS)}"
    if health and health.passive:
        durations["healthCheck.passive.interval"] = health.passive.interval
        durations["healthCheck.passive.baseEjectionTime"] = health.passive.base_ejection_time
    if spec.dns:
        durations["dns.dnsRefreshRate"] = spec.dns.dns_refresh_rate
    if spec.load_balancer and spec.load_balancer.slow_start:
        durations["loadBalancer.slowStart.window"] = spec.load_balancer.slow_start.window
    if spec.fault_injection and spec.fault_injection.delay:
        durations["faultInjection.delay.fixedDelay"] = spec.fault_injection.delay.fixed_delay
    yield from _zero(durations)
    preconnect = spec.connection.preconnect if spec.connection else None
    if preconnect and (preconnect.predictive_percent or 0) > _MOST_PRECONNECT_PERCENT:
        yield f"spec.connection.preconnect.predictivePercent: more than {_MOST_PRECONNECT_PERCENT}"
    yield from _sizes(
        {
            "connection.bufferLimit": spec.connection.buffer_limit if spec.connection else None,
            "requestBuffer.limit": spec.request_buffer.limit if spec.request_buffer else None,
        }
    )
    yield from _http2(spec.http2)
    yield from _tracing_and_budget(spec)
    yield from _answers(spec)
    rules = spec.rate_limit.local.rules if spec.rate_limit and spec.rate_limit.local else []
    patterns = dict(_of_limits(rules))
    for number, override in enumerate(spec.response_override):
        status = override.response.status_code if override.response else None
        if status is not None and not 200 <= status < 600:
            yield f"spec.responseOverride[{number}].response.statusCode: {status} is no status of an answer"
        for match in override.match.response_headers:
            if match.value.type == "RegularExpression":
                patterns[f"responseOverride[{number}].match.responseHeaders"] = match.value.value
    yield from _patterns(patterns.items())


def _answers(spec: BackendTrafficPolicySpec) -> Iterator[str]:
    abort = spec.fault_injection.abort if spec.fault_injection else None
    if abort is not None and abort.http_status is not None and not 200 <= abort.http_status < 600:
        yield f"spec.faultInjection.abort.httpStatus: {abort.http_status} is no status of an answer"
    for number, override in enumerate(spec.response_override):
        where = f"responseOverride[{number}]"
        match = override.match
        if override.source not in ("Local", "Backend") and not (match.status_codes or match.response_headers):
            yield f"spec.{where}.match: it names neither statusCodes nor responseHeaders"
        for item in match.status_codes:
            if item.range and not 100 <= item.range.start <= item.range.end < 600:
                yield f"spec.{where}.match.statusCodes: {item.range.start} to {item.range.end} is no range of statuses"
        yield from _names(f"{where}.match.responseHeaders", (item.name for item in match.response_headers))
        headers = override.response.header if override.response else None
        if headers:
            named = (item.name for item in (*headers.set, *headers.add))
            yield from _names(f"{where}.response.header", named)


def _names(path: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if problem := problem_of_name(name):
            yield f"spec.{path}: {problem}"


def _changes(path: str, changes: HeaderChanges | ResponseHeaderChanges | None) -> Iterator[str]:
    if changes is not None:
        written = (*changes.set, *changes.add, *changes.add_if_absent)
        yield from _names(path, (*(item.name for item in written), *changes.remove))


def _tracing_and_budget(spec: BackendTrafficPolicySpec) -> Iterator[str]:
    budget = spec.circuit_breaker.retry_budget if spec.circuit_breaker else None
    tracing = spec.telemetry.tracing if spec.telemetry else None
    yield from _more_than_all(
        {
            "circuitBreaker.retryBudget.percent": budget.percent if budget else None,
            "telemetry.tracing.samplingFraction": tracing.sampling_fraction if tracing else None,
            "telemetry.tracing.clientSamplingFraction": tracing.client_sampling_fraction if tracing else None,
            "telemetry.tracing.overallSamplingFraction": tracing.overall_sampling_fraction
            if tracing
            else None,
        }
    )
    if tracing and tracing.span_name and "%" in tracing.span_name.client + tracing.span_name.server:
        yield "spec.telemetry.tracing.spanName: operators (%) are not honoured"
    for tag, value in tracing.tags.items() if tracing else ():
        if "%" in value or not value:
            yield f"spec.telemetry.tracing.tags[{tag}]: a text without operators (%) is needed"


def _of_limits(rules: Iterable[RateLimitRule]) -> Iterator[tuple[str, str]]:
    for number, rule in enumerate(rules):
        where = f"rateLimit.local.rules[{number}].clientSelectors"
        for condition in rule.client_selectors:
            for item in (*condition.headers, *condition.query_params):
                if item.type == "RegularExpression":
                    yield f"{where}: {item.name}", item.value or ""
            if condition.path and condition.path.type == "RegularExpression":
                yield f"{where}: path", condition.path.value


def _clients(spec: ClientTrafficPolicySpec) -> Iterator[str]:
    tcp = spec.timeout.tcp if spec.timeout else None
    if tcp:
        yield from _zero({"timeout.tcp.tlsHandshakeTimeout": tcp.tls_handshake_timeout})
    yield from _sizes({"connection.bufferLimit": spec.connection.buffer_limit if spec.connection else None})
    yield from _http2(spec.http2)
    yield from _changes(
        "headers.earlyRequestHeaders", spec.headers.early_request_headers if spec.headers else None
    )
    yield from _changes(
        "headers.lateResponseHeaders", spec.headers.late_response_headers if spec.headers else None
    )
    patterns: list[tuple[str, str]] = []
    early = spec.headers.early_request_headers if spec.headers else None
    if early:
        patterns += [
            ("headers.earlyRequestHeaders.removeOnMatch", match.value)
            for match in early.remove_on_match
            if match.type == "RegularExpression"
        ]
    if spec.http1:
        patterns += [
            ("http1.ignoredUpgradeTypes", match.value)
            for match in spec.http1.ignored_upgrade_types
            if match.type == "RegularExpression"
        ]
    yield from _patterns(patterns)
    validation = spec.tls.client_validation if spec.tls else None
    if validation:
        yield from _certificates(validation)


def _certificates(validation: ClientValidation) -> Iterator[str]:
    """Sent, it would leave in force what was there before, which may ask nobody for a certificate."""
    where = "spec.tls.clientValidation"
    for number, text in enumerate(validation.certificate_hashes):
        if not _CERTIFICATE_HASH.fullmatch(text):
            yield f"{where}.certificateHashes[{number}]: {text!r} is no SHA-256 in hexadecimal"
    for number, text in enumerate(validation.spki_hashes):
        if not _is_hash_in_base64(text):
            yield f"{where}.spkiHashes[{number}]: {text!r} is no SHA-256 in base64"
    names = validation.subject_alt_names
    if names:
        yield from _alternative_names(names, f"{where}.subjectAltNames")
    if not validation.ca_certificate_refs:
        for name, given in (
            ("crl", validation.crl),
            ("subjectAltNames", (names or SubjectAltNames()) != SubjectAltNames()),
            ("allowExpiredCertificate", validation.allow_expired_certificate),
        ):
            if given:
                yield f"{where}.{name}: it needs caCertificateRefs, since nothing is known of other certificates"


def _alternative_names(names: SubjectAltNames, where: str) -> Iterator[str]:
    for member, matches in (
        ("dnsNames", names.dns_names),
        ("emailAddresses", names.email_addresses),
        ("ipAddresses", names.ip_addresses),
        ("uris", names.uris),
        ("otherNames", names.other_names),
    ):
        patterns = [match.value for match in matches if match.type == "RegularExpression"]
        yield from _patterns((f"{where.removeprefix('spec.')}.{member}", pattern) for pattern in patterns)
    for number, match in enumerate(names.other_names):
        if not _OBJECT_IDENTIFIER.fullmatch(match.oid):
            yield f"{where}.otherNames[{number}].oid: {match.oid!r} is no object identifier, such as 1.3.6.1.4.1.311.20.2.3"


def _is_hash_in_base64(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


def _more_than_all(fractions: dict[str, Fraction | None]) -> Iterator[str]:
    for path, fraction in fractions.items():
        if fraction is not None and fraction.numerator > fraction.denominator:
            yield f"spec.{path}: numerator is above denominator"


def _zero(durations: Durations) -> Iterator[str]:
    for path, text in durations.items():
        if text is not None and parse_duration_seconds(text) < 0.001:
            yield f"spec.{path}: must be more than 0"


def _sizes(sizes: dict[str, int | str | None]) -> Iterator[str]:
    for path, size in sizes.items():
        if size is None:
            continue
        try:
            number = parse_quantity(size)
        except ValueError as error:
            yield f"spec.{path}: {error}"
        else:
            if not 1 <= number <= _LARGEST_SIZE:
                yield f"spec.{path}: must be more than 0 and less than 4Gi"


def _http2(settings: HTTP2Settings | None) -> Iterator[str]:
    if settings is None:
        return
    for name, size in (
        ("initialStreamWindowSize", settings.initial_stream_window_size),
        ("initialConnectionWindowSize", settings.initial_connection_window_size),
    ):
        if size is None:
            continue
        try:
            number = parse_quantity(size)
        except ValueError as error:
            yield f"spec.http2.{name}: {error}"
        else:
            if not _SMALLEST_WINDOW <= number <= _LARGEST_WINDOW:
                yield f"spec.http2.{name}: must be from {_SMALLEST_WINDOW} to {_LARGEST_WINDOW} bytes"
    keepalive = settings.connection_keepalive
    if keepalive:
        yield from _zero(
            {
                "http2.connectionKeepalive.interval": keepalive.interval,
                "http2.connectionKeepalive.timeout": keepalive.timeout,
                "http2.connectionKeepalive.idleInterval": keepalive.idle_interval,
            }
        )


def _patterns(patterns: Iterable[tuple[str, str]]) -> Iterator[str]:
    for path, text in patterns:
        try:
            check_pattern(text)
        except (EvaluationError, RecursionError, OverflowError) as error:
            yield f"spec.{path}: {text!r} is no regular expression: {error}"
