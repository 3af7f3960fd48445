"""HTTPRouteFilters of Envoy Gateway, to which rules refer by `extensionRef`."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.certificates import Delivered, sds
from kajitori.gateway.internal_headers import problem_of_changing, problem_of_name
from kajitori.gateway.patterns import problem_of_substitution
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.answers import literal
from kajitori.gateway.routes.commands import problem_of_commands
from kajitori.gateway.routes.matches import cookie_matches, why_refused

if TYPE_CHECKING:
    from kajitori.api.envoygateway.http_route_filter import (
        CredentialInjectionFilter,
        DirectResponseFilter,
        RewriteFilter,
    )
    from kajitori.api.gateway.shared import LocalObjectReference
    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.route_filters import Steps
    from kajitori.gateway.routes.rule_context import RuleContext

GROUP, KIND = "gateway.envoyproxy.io", "HTTPRouteFilter"
CREDENTIAL_KEY = "credential"
BODY_KEY = "response.body"


def apply_extension(context: RuleContext, steps: Steps, ref: LocalObjectReference) -> list[str]:
    """Adds a filter to the steps; what is wrong with it, if something is."""
    if (ref.group, ref.kind) != (GROUP, KIND):
        return [f"extensions of kind {ref.kind} (group {ref.group!r}) are not served"]
    found = context.index.route_filters.get((context.namespace, ref.name))
    if found is None:
        return [f"HTTPRouteFilter {context.namespace}/{ref.name} does not exist"]
    spec, subject = found.spec, f"HTTPRouteFilter {context.namespace}/{ref.name}"
    problems: list[str] = []
    patterns: list[str] = []
    if spec.url_rewrite is not None:
        steps.rewrite |= _rewrite(spec.url_rewrite, patterns)
    if spec.direct_response is not None:
        _answer(context, steps, spec.direct_response, subject, problems)
    if spec.credential_injection is not None:
        _inject(context, steps, spec.credential_injection, subject, problems)
    for match in spec.matches:
        steps.cookies += cookie_matches(match.cookies, patterns)
    refused = why_refused(patterns)
    problems += [f"{subject}: spec.urlRewrite: {text}" for text in _substitutions(spec.url_rewrite)]
    return [*problems, *([f"{subject}: {refused}"] if refused else ())]


def _substitutions(rewrite: RewriteFilter | None) -> list[str]:
    """What is wrong with the texts that take the place of what expressions match."""
    path = rewrite.path.replace_regex_match if rewrite and rewrite.path else None
    host = rewrite.hostname.path_regex if rewrite and rewrite.hostname else None
    told = [problem_of_substitution(item.pattern, item.substitution) for item in (path, host) if item]
    return [text for text in told if text]


def _rewrite(rewrite: RewriteFilter, patterns: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"append_x_forwarded_host": rewrite.append_x_forwarded_host}
    if rewrite.path is not None and rewrite.path.replace_regex_match is not None:
        regex = rewrite.path.replace_regex_match
        patterns.append(regex.pattern)
        found["regex_rewrite"] = {"pattern": {"regex": regex.pattern}, "substitution": regex.substitution}
    hostname = rewrite.hostname
    if hostname is None:
        # Only for a host that is rewritten.
        found.pop("append_x_forwarded_host")
    elif hostname.type == "Header":
        found["host_rewrite_header"] = (hostname.header or "").lower()
    elif hostname.type == "Backend":
        found["auto_host_rewrite"] = True
    elif hostname.path_regex is not None:
        patterns.append(hostname.path_regex.pattern)
        found["host_rewrite_path_regex"] = {
            "pattern": {"regex": hostname.path_regex.pattern},
            "substitution": hostname.path_regex.substitution,
        }
    return found


def _answer(
    context: RuleContext, steps: Steps, answer: DirectResponseFilter, subject: str, problems: list[str]
) -> None:
    text = ""
    if answer.body is not None and answer.body.type == "Inline":
        text = answer.body.inline or ""
    elif answer.body is not None and answer.body.value_ref is not None:
        found = _config_map_body(context.index, context.namespace, answer.body.value_ref)
        if found is None:
            told = f"ConfigMap {context.namespace}/{answer.body.value_ref.name} does not exist or is empty"
            problems.append(f"{subject}: {told}")
            return
        text = found
    refused = problem_of_commands(text)
    if refused:
        problems.append(f"{subject}: spec.directResponse.body: {refused}")
        return
    response: dict[str, Any] = {"status": answer.status_code or 200}
    if text:
        # Commands of Envoy such as %REQ(...)% are substituted, as by Envoy Gateway.
        body: dict[str, Any] = {"text_format_source": {"inline_string": text}}
        response["body_format"] = (
            body | {"content_type": answer.content_type} if answer.content_type else body
        )
    steps.answer = response
    header = answer.header
    added = [(item, "OVERWRITE_IF_EXISTS_OR_ADD") for item in header.set] if header else []
    added += [(item, "APPEND_IF_EXISTS_OR_ADD") for item in header.add] if header else []
    wrong = [text for item, _ in added if (text := problem_of_name(item.name))]
    problems += [f"{subject}: spec.directResponse.header: {text}" for text in wrong]
    if added and not wrong:
        steps.headers["response_headers_to_add"] = steps.headers.get("response_headers_to_add", []) + [
            {"header": {"key": item.name.lower(), "value": literal(item.value)}, "append_action": action}
            for item, action in added
        ]


def _config_map_body(index: Index, namespace: str, ref: LocalObjectReference) -> str | None:
    config_map = index.config_maps.get((namespace, ref.name))
    if config_map is None or not config_map.data:
        return None
    return config_map.data.get(BODY_KEY) or config_map.data[min(config_map.data)]


def _inject(
    context: RuleContext,
    steps: Steps,
    injection: CredentialInjectionFilter,
    subject: str,
    problems: list[str],
) -> None:
    ref = injection.credential.value_ref
    key = (ref.namespace or context.namespace, ref.name)
    where = f"Secret {key[0]}/{key[1]}"
    if not context.index.granted(GROUP, KIND, context.namespace, "", "Secret", key):
        problems.append(f"no ReferenceGrant lets {subject} refer to {where}")
        return
    secret = context.index.secrets.get(key)
    value = _text(secret.data.get(CREDENTIAL_KEY)) if secret else ""
    if not value or not value.isprintable():
        problems.append(f"{subject}: {where} does not exist or has no text under {CREDENTIAL_KEY!r}")
        return
    header = injection.header or "authorization"
    if changing := problem_of_name(header) or problem_of_changing(header):
        problems.append(f"{subject}: spec.credentialInjection.header: {changing}")
        return
    name = f"secret/{key[0]}/{key[1]}/{CREDENTIAL_KEY}"
    context.deliver(Delivered(name, {"name": name, "generic_secret": {"secret": {"inline_string": value}}}))
    steps.upstream.append(
        {
            "name": "envoy.filters.http.credential_injector",
            "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                "overwrite": injection.overwrite,
                "credential": {
                    "name": "envoy.http.injected_credentials.generic",
                    "typed_config": {
                        "@type": TYPE + "envoy.extensions.http.injected_credentials.generic.v3.Generic",
                        "credential": sds(name),
                        "header": header.lower(),
                    },
                },
            },
        }
    )


def _text(value: str | None) -> str:
    try:
        return base64.b64decode(value or "").decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""
