"""The credentials of a BackendSecurityPolicy, one struct a kind of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import extra, rule
from kajitori.api.gateway.shared import HeaderName, SecretObjectReference

Text = Annotated[str, Meta(min_length=1)]


class APIKeyPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key that stands in the Secret under `apiKey`."""

    secret_ref: SecretObjectReference


class OIDCProvider(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who issues the token. Without a token endpoint the issuer is asked for its own."""

    issuer: Text
    token_endpoint: str | None = None
    authorization_endpoint: str | None = None
    end_session_endpoint: str | None = None
    backend_ref: dict[str, Any] | None = None
    backend_refs: list[dict[str, Any]] = field(default_factory=list)
    backend_settings: dict[str, Any] | None = None


class OIDC(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A client of an OpenID provider that proves itself by a secret, which stands under `client-secret`.

    Envoy Gateway has this struct for people who log in; nobody does here, so what is about cookies and redirects
    (from `cookie_names` on) has no effect.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.clientID) != has(self.clientIDRef)",
                "exactly one of clientID and clientIDRef is given",
            )
        ],
    }
    provider: OIDCProvider
    client_id: Text | None = field(default=None, name="clientID")
    client_id_ref: SecretObjectReference | None = field(default=None, name="clientIDRef")
    client_secret: SecretObjectReference
    scopes: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    cookie_names: dict[str, Any] | None = None
    cookie_config: dict[str, Any] | None = None
    cookie_domain: str | None = None
    redirect_url: str | None = field(default=None, name="redirectURL")
    deny_redirect: dict[str, Any] | None = None
    logout_path: str | None = None
    forward_access_token: bool | None = None
    forward_id_token: dict[str, Any] | None = field(default=None, name="forwardIDToken")
    default_token_ttl: str | None = field(default=None, name="defaultTokenTTL")
    refresh_token: bool | None = None
    default_refresh_token_ttl: str | None = field(default=None, name="defaultRefreshTokenTTL")
    csrf_token_ttl: str | None = field(default=None, name="csrfTokenTTL")
    disable_token_encryption: bool | None = None
    pass_through_auth_header: bool | None = None


class OIDCExchangeToken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token of an OpenID provider, to be exchanged for the backend's own credentials."""

    oidc: OIDC
    grant_type: str = ""
    aud: str = ""


class AWSOIDCExchangeToken(OIDCExchangeToken, frozen=True, kw_only=True, rename="camel"):
    """A token that STS exchanges for the credentials of a role."""

    aws_role_arn: Text


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
    client_id: Text = field(name="clientID")
    tenant_id: Text = field(name="tenantID")
    client_secret_ref: SecretObjectReference | None = None
    oidc_exchange_token: OIDCExchangeToken | None = None


class AWSCredentialsFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A credentials file that stands in the Secret under `credentials`."""

    secret_ref: SecretObjectReference
    profile: str = "default"


class AWSCredentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A region, and a file or an exchanged token; neither: what an SDK would find in the gateway's place."""

    region: Text
    credentials_file: AWSCredentialsFile | None = None
    oidc_exchange_token: AWSOIDCExchangeToken | None = None


class GCPCredentialsFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service account that stands in the Secret under `service_account.json`."""

    secret_ref: SecretObjectReference


class GCPServiceAccountImpersonation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The service account in whose name requests are made: its name in the project, or its address."""

    service_account_name: Text


class GCPWorkloadIdentityFederation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token of an OpenID provider that a workload identity pool of Google trusts."""

    project_id: Text = field(name="projectID")
    workload_identity_provider_name: Text
    workload_identity_pool_name: Text
    oidc_exchange_token: OIDCExchangeToken
    service_account_impersonation: GCPServiceAccountImpersonation | None = None


class GCPCredentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A project and region, and a service account or a federated identity; neither: what the gateway runs as."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.credentialsFile) && has(self.workloadIdentityFederationConfig))",
                "at most one of credentialsFile and workloadIdentityFederationConfig is given",
            )
        ]
    }
    project_name: Text
    region: Text
    credentials_file: GCPCredentialsFile | None = None
    workload_identity_federation_config: GCPWorkloadIdentityFederation | None = None


class FromRequestHeaders(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The client brings the credential in a header; for AWS, in three whose names begin alike."""

    header: HeaderName | None = None
    fallback_to_configured: Annotated[bool, extra(default=True)] = True


class FromDynamicMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An earlier filter brings the credential."""

    namespace: Text
    key: Text | None = None
    fallback_to_configured: Annotated[bool, extra(default=True)] = True


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
