"""The credentials of a BackendSecurityPolicy, one struct a kind of them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import field

from kajitori.api.crd import rule
from kajitori.api.gateway.shared import SecretObjectReference


class APIKeyPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key that stands in the Secret under `apiKey`."""

    secret_ref: SecretObjectReference


class AzureCredentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An application of Entra ID."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.clientSecretRef) != has(self.oidcExchangeToken)",
                "exactly one of clientSecretRef and oidcExchangeToken is given",
            )
        ]
    }
    client_id: str = field(name="clientID")
    tenant_id: str = field(name="tenantID")
    client_secret_ref: SecretObjectReference | None = None
    oidc_exchange_token: dict[str, Any] | None = None


class AWSCredentialsFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A credentials file that stands in the Secret under `credentials`."""

    secret_ref: SecretObjectReference
    profile: str = "default"


class AWSCredentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A region, and a file or an exchanged token; neither: what the SDK would find."""

    region: str
    credentials_file: AWSCredentialsFile | None = None
    oidc_exchange_token: dict[str, Any] | None = None


class GCPCredentialsFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service account that stands in the Secret under `service_account.json`."""

    secret_ref: SecretObjectReference


class GCPCredentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A project and region, and a service account or a federated identity."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.credentialsFile) && has(self.workloadIdentityFederationConfig))",
                "at most one of credentialsFile and workloadIdentityFederationConfig is given",
            )
        ]
    }
    project_name: str
    region: str
    credentials_file: GCPCredentialsFile | None = None
    workload_identity_federation_config: dict[str, Any] | None = None


class FromRequestHeaders(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The client brings the credential in a header."""

    header: str | None = None
    fallback_to_configured: bool = True


class FromDynamicMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An earlier filter brings the credential."""

    namespace: str
    key: str | None = None
    fallback_to_configured: bool = True


class CredentialOverride(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A credential that comes with the request."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.fromRequestHeaders) != has(self.fromDynamicMetadata)",
                "exactly one of fromRequestHeaders and fromDynamicMetadata is given",
            )
        ]
    }
    from_request_headers: FromRequestHeaders | None = None
    from_dynamic_metadata: FromDynamicMetadata | None = None
