"""`responseOverride` as Envoy's custom response filter has it: matchers over answers, each with what is given instead.

The rules are looked at in order, and the first that holds decides. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.response_override import (
        CustomRedirect,
        CustomResponse,
        ResponseHeaderMatch,
        ResponseOverride,
        StatusCodeMatch,
    )

FILTER_TYPE = TYPE + "envoy.extensions.filters.http.custom_response.v3.CustomResponse"
BODY_KEY = "response.body"
Bodies = Callable[[str], "str | None"]
"""The body that a ConfigMap of a name holds, or None."""
_MATCHER = TYPE + "envoy.type.matcher.v3."
_POLICY = TYPE + "envoy.extensions.http.custom_response."


def response_overrides(
    overrides: Sequence[ResponseOverride], where: str, bodies: Bodies, problems: list[str]
) -> dict[str, Any]:
    """The filter's config for a route.

    where: path of the list, for what is told. bodies: of ConfigMaps. problems: gets what cannot be served.
    """
    matchers: list[dict[str, Any]] = []
    for number, override in enumerate(overrides):
        path = f"{where}[{number}]"
        parts: list[dict[str, Any]] = []
        if override.match.status_codes:
            parts.append(_status(override.match.status_codes))
        parts += [_header(match) for match in override.match.response_headers]
        if override.source in ("Local", "Backend"):
            local = "true" if override.source == "Local" else "false"
            parts.append(_single("HttpResponseLocalReplyMatchInput", {}, {"exact": local}))
        predicate = parts[0] if len(parts) == 1 else {"and_matcher": {"predicate": parts}}
        action = (
            _redirect(override.redirect)
            if override.redirect
            else _response(override.response, f"{path}.response", bodies, problems)
        )
        action_config = {"name": path, "typed_config": action}
        matchers.append({"predicate": predicate, "on_match": {"action": action_config}})
    return {
        "@type": FILTER_TYPE,
        "custom_response_matcher": {"matcher_list": {"matchers": matchers}},
    }


def _single(kind: str, members: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    return {
        "single_predicate": {
            "input": {"name": kind, "typed_config": {"@type": _MATCHER + kind, **members}},
            "value_match": value,
        }
    }


def _status(matches: Sequence[StatusCodeMatch]) -> dict[str, Any]:
    """One predicate for all, since a list of predicates has two members at least."""
    texts: list[str] = []
    for match in matches:
        if match.range:
            texts += [str(status) for status in range(match.range.start, match.range.end + 1)]
        elif match.value is not None:
            texts.append(str(match.value))
    value = {"exact": texts[0]} if len(texts) == 1 else _regex("|".join(texts))
    return _single("HttpResponseStatusCodeMatchInput", {}, value)


def _regex(text: str) -> dict[str, Any]:
    """As the matchers of xds have it, which name the engine."""
    return {"safe_regex": {"google_re2": {}, "regex": text}}


def _header(match: ResponseHeaderMatch) -> dict[str, Any]:
    kinds = {"Exact": "exact", "Prefix": "prefix", "Suffix": "suffix"}
    value: dict[str, Any] = (
        _regex(match.value.value)
        if match.value.type == "RegularExpression"
        else {kinds[match.value.type]: match.value.value}
    )
    return _single("HttpResponseHeaderMatchInput", {"header_name": match.name.lower()}, value)


def _response(
    response: CustomResponse | None, where: str, bodies: Bodies, problems: list[str]
) -> dict[str, Any]:
    made: dict[str, Any] = {"@type": _POLICY + "local_response_policy.v3.LocalResponsePolicy"}
    if response is None:
        return made
    if response.status_code is not None:
        made["status_code"] = response.status_code
    if response.body and response.body.value_ref:
        name = response.body.value_ref.name
        body = bodies(name)
        if body is None:
            problems.append(
                f"{where}.body.valueRef: no ConfigMap {name} with a key {BODY_KEY}, or a single key"
            )
        made["body"] = {"inline_string": body or ""}
    elif response.body and response.body.inline is not None:
        made["body"] = {"inline_string": response.body.inline}
    if response.content_type:
        made["body_format"] = {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": response.content_type,
        }
    headers = response.header
    if headers:
        made["response_headers_to_add"] = [
            *(_added(item.name, item.value, "OVERWRITE_IF_EXISTS_OR_ADD") for item in headers.set),
            *(_added(item.name, item.value, "APPEND_IF_EXISTS_OR_ADD") for item in headers.add),
        ]
    return made


def _added(name: str, value: str, action: str) -> dict[str, Any]:
    return {"header": {"key": name.lower(), "value": value.replace("%", "%%")}, "append_action": action}


def _redirect(redirect: CustomRedirect) -> dict[str, Any]:
    action: dict[str, Any] = {}
    if redirect.scheme:
        action["scheme_redirect"] = redirect.scheme
    if redirect.hostname:
        action["host_redirect"] = redirect.hostname
    if redirect.port:
        action["port_redirect"] = redirect.port
    if redirect.path and redirect.path.replace_full_path:
        action["path_redirect"] = redirect.path.replace_full_path
    return {
        "@type": _POLICY + "redirect_policy.v3.RedirectPolicy",
        "redirect_action": action,
        "status_code": redirect.status_code,
    }
