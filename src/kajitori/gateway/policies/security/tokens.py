"""`jwt`: tokens that somebody else has signed.

Providers cannot be configured at a route, so those of all policies go to the filter as one resource, and a route
names what it requires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration
from kajitori.base.foreign_json import read_foreign_json
from kajitori.gateway.policies.security.services import service_cluster
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.security_filters import JWT as JWT_STEP
from kajitori.gateway.routes.security_filters import JWT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.api.envoygateway.authentication import JWT, JWTProvider, LocalJWKS, RemoteJWKS
    from kajitori.gateway.policies.security.making import Making

JWKS_KEY = "jwks"
_FETCH_TIMEOUT = "10s"
# Lists of words in one text, which rules look into one by one.
_WORD_LISTS = ["scope", "scp"]


def make_tokens(making: Making, jwt: JWT) -> None:
    """The providers, and what a route requires."""
    names: list[str] = []
    for number, provider in enumerate(jwt.providers):
        name = f"{making.name}/{provider.name}"
        if name in names:
            making.problems.append(f"spec.jwt.providers[{number}].name: {provider.name!r} stands there twice")
        names.append(name)
        made = _provider(making, provider, number)
        if made is not None:
            making.jwt_providers[name] = made
    requirements: list[dict[str, Any]] = [{"provider_name": name} for name in names]
    if jwt.fail_open:
        requirements.append({"allow_missing_or_failed": {}})
    elif jwt.optional:
        requirements.append({"allow_missing": {}})
    making.jwt_requirement = (
        requirements[0] if len(requirements) == 1 else {"requires_any": {"requirements": requirements}}
    )
    making.steps[JWT_STEP] = {
        "@type": TYPE + "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
        "requirement_name": making.name,
    }


def token_filter(
    name: str, providers: Mapping[str, dict[str, Any]], requirements: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The filter's configuration, a TypedExtensionConfig. name: of the filter."""
    return {
        "name": name,
        "typed_config": {
            "@type": TYPE + JWT_TYPE,
            "providers": providers,
            "requirement_map": requirements,
            "bypass_cors_preflight": True,
        },
    }


def _provider(making: Making, provider: JWTProvider, number: int) -> dict[str, Any] | None:
    made: dict[str, Any] = {
        "forward": True,
        "payload_in_metadata": provider.name,
        "normalize_payload_in_metadata": {"space_delimited_claims": _WORD_LISTS},
    }
    if provider.issuer:
        made["issuer"] = provider.issuer
    if provider.audiences:
        made["audiences"] = list(provider.audiences)
    if provider.recompute_route:
        made["clear_route_cache"] = True
    if provider.claim_to_headers:
        made["claim_to_headers"] = [
            {"header_name": item.header, "claim_name": item.claim} for item in provider.claim_to_headers
        ]
    if extract := provider.extract_from:
        made["from_headers"] = [
            {"name": item.name, "value_prefix": item.value_prefix or ""} for item in extract.headers
        ]
        made["from_params"] = list(extract.params)
        made["from_cookies"] = list(extract.cookies)
    where = f"jwt.providers[{number}]"
    if provider.remote_jwks is not None:
        made["remote_jwks"] = _remote(making, provider.remote_jwks, f"{where}.remoteJWKS")
    elif provider.local_jwks is not None:
        text = _local(making, provider.local_jwks, f"spec.{where}.localJWKS")
        if text is None:
            return None
        made["local_jwks"] = {"inline_string": text}
    else:
        making.problems.append(f"spec.{where}: neither remoteJWKS nor localJWKS is given")
        return None
    return made


def _remote(making: Making, remote: RemoteJWKS, part: str) -> dict[str, Any]:
    cluster = service_cluster(making, remote, part, uri=remote.uri)
    made: dict[str, Any] = {
        "http_uri": {"uri": remote.uri, "cluster": cluster or "no-service", "timeout": _FETCH_TIMEOUT},
        "cache_duration": protobuf_duration(remote.cache_duration),
    }
    if remote.failed_refetch_duration:
        # Only a fetch beforehand is repeated by itself; the first requests need not wait for it either.
        made["async_fetch"] = {
            "fast_listener": True,
            "failed_refetch_duration": protobuf_duration(remote.failed_refetch_duration),
        }
    return made


def _local(making: Making, local: LocalJWKS, where: str) -> str | None:
    text = local.inline
    if local.type == "ValueRef" and local.value_ref is not None:
        ref = local.value_ref
        found = making.index.config_maps.get((making.namespace, ref.name))
        if ref.kind != "ConfigMap" or found is None:
            making.problems.append(
                f"{where}.valueRef: {ref.kind} {making.namespace}/{ref.name} does not exist"
            )
            return None
        values = dict(found.data or {})
        text = values.get(JWKS_KEY, next(iter(values.values()), None))
    problem = _problem_of_keys(text)
    if problem:
        making.problems.append(f"{where}: {problem}")
        return None
    return text


def _problem_of_keys(text: str | None) -> str:
    """What keeps a text from being a set of keys, which Envoy would refuse for all policies together."""
    try:
        content: object = read_foreign_json(text or "")
    except ValueError:
        return "the value is not JSON"
    keys = content.get("keys") if isinstance(content, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(keys, list) or not keys:
        return "there is no list `keys` with a key in it"
    return ""
