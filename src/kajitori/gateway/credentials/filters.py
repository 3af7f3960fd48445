"""Credentials as filters of Envoy: one on the way in that keeps what clients bring, and those of each attempt.

Envoy's own filter for AWS is not used. It takes no credentials of a request, it has configured ones in the cluster
(so each rotation would make the cluster anew, and its debug log shows them), and it signs the Host of a moment at
which the backend's name is not in place. Ours gets them by SDS, as all others, and signs what goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.credentials.credential import SIGNING_HEADER, Credential, Override
from kajitori.gateway.lua.scripts import OVERRIDE_SCRIPT, SIGNING_SCRIPT
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPTURE_FILTER = "envoy.filters.http.header_to_metadata"
# Dynamic metadata with what clients brought: no log prints it.
METADATA = "io.kajitori.credentials"
_CAPTURE = TYPE + "envoy.extensions.filters.http.header_to_metadata.v3.Config"


def capture_filter() -> dict[str, Any]:
    """The filter of every listener; it acts on routes with `capture_config`."""
    return {"name": CAPTURE_FILTER, "typed_config": {"@type": _CAPTURE}}


def capture_config(credentials: Iterable[Credential]) -> dict[str, Any]:
    """What a route adds to its `typed_per_filter_config`, if any of its backends takes credentials of clients.

    They are taken away from the headers before the first attempt, so that no backend gets another one's.
    """
    names = {name for item in credentials if item.override for name in item.override.headers}
    if not names:
        return {}
    rules = [
        {
            "header": name,
            "on_header_present": {"metadata_namespace": METADATA, "key": name, "type": "STRING"},
            "remove": True,
        }
        for name in sorted(names)
    ]
    return {CAPTURE_FILTER: {"@type": _CAPTURE, "request_rules": rules}}


def credential_filters(credential: Credential) -> list[dict[str, Any]]:
    """The last filters of an attempt: path, headers and body are what the backend shall get."""
    filters: list[dict[str, Any]] = []
    if credential.sds_name:
        filters.append(_injector(credential))
    if credential.signing:
        filters.append(_script("kajitori-signing", SIGNING_SCRIPT, _signing_context(credential)))
        filters.append(_remove_signing_header())
    elif credential.override:
        filters.append(_script("kajitori-override", OVERRIDE_SCRIPT, _override_context(credential)))
    return filters


def _injector(credential: Credential) -> dict[str, Any]:
    header, prefix = (SIGNING_HEADER, "") if credential.signing else (credential.header, credential.prefix)
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": {
                        "name": credential.sds_name,
                        "sds_config": {"ads": {}, "resource_api_version": "V3"},
                    },
                    "header": header,
                    "header_value_prefix": prefix,
                },
            },
        },
    }


def _script(machine: str, text: str, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": text},
            "filter_context": context,
            "shared_vm_id": machine,
        },
    }


def _override_context(credential: Credential) -> dict[str, Any]:
    assert credential.override is not None
    return {
        "header": credential.header,
        "prefix": credential.prefix,
        **_where(credential.override),
    }


def _where(override: Override) -> dict[str, Any]:
    """Namespace and keys of the metadata in which the scripts look."""
    return {
        "namespace": override.namespace or METADATA,
        "keys": list(override.keys),
        "fallback": override.fallback,
    }


def _signing_context(credential: Credential) -> dict[str, Any]:
    signing = credential.signing
    assert signing is not None
    context: dict[str, Any] = {"region": signing.region, "service": signing.service}
    if signing.host:
        context["host"] = signing.host
    if credential.override:
        context |= _where(credential.override)
    return context


def _remove_signing_header() -> dict[str, Any]:
    """The script takes the header away; should it fail before, the secret must not go out in its stead."""
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"remove": SIGNING_HEADER}]},
        },
    }
