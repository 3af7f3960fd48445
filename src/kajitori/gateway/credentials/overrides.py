"""`credentialOverride` to what the filters look for, with the names that Envoy AI Gateway gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.credentials.credential import Override

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicySpec

# For each type of policy the header, and the member of dynamic metadata.
_DEFAULTS = {
    "APIKey": "x-aigw-api-key",
    "AnthropicAPIKey": "x-aigw-anthropic-api-key",
    "AzureAPIKey": "x-aigw-azure-api-key",
    "AzureCredentials": "x-aigw-azure-access-token",
    "GCPCredentials": "x-aigw-gcp-access-token",
}
# AWS needs three headers, of which this is how their names begin, or one struct of metadata.
_AWS_PREFIX = "x-aigw-aws-"
_AWS_HEADERS = ("access-key-id", "secret-access-key", "session-token")
_AWS_MEMBER = "x-aigw-aws-credentials"


def override_of(spec: BackendSecurityPolicySpec) -> Override | None:
    """The credential that requests may bring themselves; None: they may not."""
    given = spec.credential_override
    if given is None:
        return None
    aws = spec.type == "AWSCredentials"
    if headers := given.from_request_headers:
        name = (headers.header or (_AWS_PREFIX if aws else _DEFAULTS[spec.type])).lower()
        keys = tuple(name + rest for rest in _AWS_HEADERS) if aws else (name,)
        return Override(keys, fallback=headers.fallback_to_configured)
    if metadata := given.from_dynamic_metadata:
        key = metadata.key or (_AWS_MEMBER if aws else _DEFAULTS[spec.type])
        return Override((key,), metadata.namespace, metadata.fallback_to_configured)
    return None
