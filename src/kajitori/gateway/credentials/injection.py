"""BackendSecurityPolicy and Secret to what is injected for a backend. Values travel as SDS secrets only."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.backends.clusters import Credential

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicy
    from kajitori.gateway.observed import Index

SECRET_KEY = "apiKey"


class Injection(msgspec.Struct, frozen=True):
    """A credential and the SDS secret that holds its value."""

    credential: Credential
    secret: dict[str, Any]


def referenced_secrets(index: Index) -> set[tuple[str, str]]:
    """Namespace and name of every Secret that a policy may use: all that the gateway ever reads."""
    found: set[tuple[str, str]] = set()
    for policy in index.observed.policies:
        namespace = policy.metadata.namespace or ""
        spec = policy.spec
        for key in (spec.api_key, spec.anthropic_api_key, spec.azure_api_key):
            if key is None:
                continue
            secret = (key.secret_ref.namespace or namespace, key.secret_ref.name)
            if index.observed.settings.may_read_secrets_of(secret[0]) and index.granted(
                "aigateway.envoyproxy.io", "BackendSecurityPolicy", namespace, "", "Secret", secret
            ):
                found.add(secret)
    return found


def find_credential(index: Index, namespace: str, backend: str) -> Injection | Reason | None:
    """What the policies of an AIServiceBackend inject; None: it has no policy."""
    policies = index.policies.get((namespace, backend), [])
    if not policies:
        return None
    if len(policies) > 1:
        names = ", ".join(sorted(policy.metadata.name or "" for policy in policies))
        return Reason(
            "ConflictingPolicies",
            f"AIServiceBackend {namespace}/{backend} has several BackendSecurityPolicies: {names}",
            "keep one",
        )
    return resolve_policy(index, policies[0])


def resolve_policy(index: Index, policy: BackendSecurityPolicy) -> Injection | Reason:
    """What one policy injects."""
    spec = policy.spec
    namespace = policy.metadata.namespace or ""
    subject = f"BackendSecurityPolicy {namespace}/{policy.metadata.name}"
    match spec.type:
        case "APIKey":
            key, header, prefix = spec.api_key, "authorization", "Bearer "
        case "AnthropicAPIKey":
            key, header, prefix = spec.anthropic_api_key, "x-api-key", ""
        case "AzureAPIKey":
            key, header, prefix = spec.azure_api_key, "api-key", ""
        case other:
            return Reason(
                "UnsupportedValue", f"{subject}: type {other} is not honoured yet", "use an API key", subject
            )
    if key is None:
        return Reason("Invalid", f"{subject}: the member that type {spec.type} needs is missing", "", subject)
    reference = key.secret_ref
    secret_key = (reference.namespace or namespace, reference.name)
    where = f"Secret {secret_key[0]}/{secret_key[1]}"
    if not index.granted(
        "aigateway.envoyproxy.io", "BackendSecurityPolicy", namespace, "", "Secret", secret_key
    ):
        return Reason(
            "RefNotPermitted", f"{subject} may not refer to {where}", "add a ReferenceGrant", subject
        )
    if not index.observed.settings.may_read_secrets_of(secret_key[0]):
        return Reason(
            "SecretNotReadable",
            f"{where}, named by {subject}, is in a namespace whose Secrets the gateway may not read",
            "add the namespace to gateway.secretNamespaces of the installation",
            subject,
        )
    secret = index.secrets.get(secret_key)
    if secret is None:
        return Reason("SecretNotFound", f"{where}, named by {subject}, does not exist", "create it", subject)
    if SECRET_KEY not in secret.data:
        return Reason("SecretKeyNotFound", f"{where} has no key {SECRET_KEY!r}", "add it", subject)
    try:
        value = base64.b64decode(secret.data[SECRET_KEY]).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return Reason("InvalidSecret", f"{where}: {SECRET_KEY!r} is not text", "write it anew", subject)
    if not value or not value.isprintable():
        return Reason(
            "InvalidSecret",
            f"{where}: {SECRET_KEY!r} is empty or has control characters",
            "write it anew",
            subject,
        )
    name = f"secret/{secret_key[0]}/{secret_key[1]}/{SECRET_KEY}"
    return Injection(
        Credential(header, prefix, name),
        {"name": name, "generic_secret": {"secret": {"inline_string": value}}},
    )
