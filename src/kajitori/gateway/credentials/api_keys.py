"""The three kinds of keys that go into a header as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.credentials.credential import AUTHORIZATION, Credential

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicySpec
    from kajitori.api.gateway.shared import SecretObjectReference

SECRET_KEY = "apiKey"
HEADERS = {
    "APIKey": Credential(AUTHORIZATION, "Bearer "),
    "AnthropicAPIKey": Credential("x-api-key"),
    "AzureAPIKey": Credential("api-key"),
}


def key_reference(spec: BackendSecurityPolicySpec) -> SecretObjectReference | None:
    """The Secret that has the key of a policy of one of these types."""
    members = {
        "APIKey": spec.api_key,
        "AnthropicAPIKey": spec.anthropic_api_key,
        "AzureAPIKey": spec.azure_api_key,
    }
    found = members.get(spec.type)
    return found.secret_ref if found else None
