"""Policies to exchanges: which tokens the gateway has to get, and from whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.base.reason import Reason
from kajitori.gateway.credentials.aws import AWSRoleExchange, session_name
from kajitori.gateway.credentials.aws_default import AWSDefaultChain
from kajitori.gateway.credentials.azure import AzureExchange
from kajitori.gateway.credentials.exchange import Concealed, Exchange
from kajitori.gateway.credentials.gcp import GCPDefault, GCPFederation, read_credentials
from kajitori.gateway.credentials.oidc import OIDCLogin
from kajitori.gateway.credentials.overrides import override_of
from kajitori.gateway.credentials.secrets import SecretReader

if TYPE_CHECKING:
    from kajitori.api.aigateway.credentials import (
        AWSCredentials,
        AzureCredentials,
        GCPCredentials,
        OIDCExchangeToken,
    )
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicy
    from kajitori.gateway.observed import Index

CLIENT_SECRET, CLIENT_ID, SERVICE_ACCOUNT = "client-secret", "client-id", "service_account.json"
PolicyKey = tuple[str, str]


def wanted_exchanges(index: Index) -> dict[PolicyKey, Exchange]:
    """The exchange of each policy that needs one and can have it, by namespace and name."""
    found: dict[PolicyKey, Exchange] = {}
    for policy in index.observed.policies:
        override = override_of(policy.spec)
        if override and not override.fallback:
            continue
        exchange = exchange_of(index, policy)
        if exchange is not None and not isinstance(exchange, Reason):
            found[policy.metadata.namespace or "", policy.metadata.name or ""] = exchange
    return found


def exchange_of(index: Index, policy: BackendSecurityPolicy) -> Exchange | Reason | None:
    """How a policy's token is got; None: its credential stands in a Secret as it is."""
    spec, reader = policy.spec, SecretReader(index, policy)
    if spec.type == "AzureCredentials" and spec.azure_credentials:
        return _azure(reader, spec.azure_credentials)
    if spec.type == "AWSCredentials" and spec.aws_credentials and not spec.aws_credentials.credentials_file:
        return _aws(reader, spec.aws_credentials, policy.metadata.name or "")
    if spec.type == "GCPCredentials" and spec.gcp_credentials:
        return _gcp(reader, spec.gcp_credentials)
    return None


def _azure(reader: SecretReader, given: AzureCredentials) -> Exchange | Reason:
    secret: str | Reason = ""
    login: OIDCLogin | Reason | None = None
    if given.client_secret_ref:
        secret = reader.value(given.client_secret_ref, CLIENT_SECRET)
        if isinstance(secret, Reason):
            return secret
    elif given.oidc_exchange_token:
        login = _login(reader, given.oidc_exchange_token)
        if isinstance(login, Reason):
            return login
    return AzureExchange(
        tenant_id=given.tenant_id,
        client_id=given.client_id,
        client_secret=Concealed(secret) if secret else None,
        login=login,
    )


def _aws(reader: SecretReader, given: AWSCredentials, name: str) -> Exchange | Reason:
    if given.oidc_exchange_token is None:
        return AWSDefaultChain(given.region)
    login = _login(reader, given.oidc_exchange_token)
    if isinstance(login, Reason):
        return login
    return AWSRoleExchange(
        region=given.region,
        role_arn=given.oidc_exchange_token.aws_role_arn,
        session_name=session_name(name),
        login=login,
    )


def _gcp(reader: SecretReader, given: GCPCredentials) -> Exchange | Reason:
    if given.credentials_file:
        reference = given.credentials_file.secret_ref
        data = reader.data(reference, SERVICE_ACCOUNT)
        if isinstance(data, Reason):
            return data
        try:
            return read_credentials(data)
        except ValueError as error:
            return reader.invalid(reference, SERVICE_ACCOUNT, f"cannot be used: {error}")
    federation = given.workload_identity_federation_config
    if federation is None:
        return GCPDefault()
    login = _login(reader, federation.oidc_exchange_token)
    if isinstance(login, Reason):
        return login
    account = federation.service_account_impersonation
    name = account.service_account_name if account else ""
    if name and "@" not in name:
        name = f"{name}@{given.project_name}.iam.gserviceaccount.com"
    return GCPFederation(
        audience=f"//iam.googleapis.com/projects/{federation.project_id}/locations/global/workloadIdentityPools/"
        f"{federation.workload_identity_pool_name}/providers/{federation.workload_identity_provider_name}",
        login=login,
        service_account=name,
    )


def _login(reader: SecretReader, given: OIDCExchangeToken) -> OIDCLogin | Reason:
    oidc = given.oidc
    secret = reader.value(oidc.client_secret, CLIENT_SECRET)
    if isinstance(secret, Reason):
        return secret
    client: str | Reason = oidc.client_id or ""
    if oidc.client_id_ref:
        client = reader.value(oidc.client_id_ref, CLIENT_ID)
        if isinstance(client, Reason):
            return client
    for address in (oidc.provider.issuer, oidc.provider.token_endpoint or ""):
        if address and not address.startswith(("https://", "http://")):
            message = f"{reader.subject}: {address!r} is no address of an OpenID provider"
            return Reason("Invalid", message, "write https://...", reader.subject)
    return OIDCLogin(
        issuer=oidc.provider.issuer,
        token_endpoint=oidc.provider.token_endpoint or "",
        client_id=client,
        client_secret=Concealed(secret),
        scopes=tuple(oidc.scopes),
        resources=tuple(oidc.resources),
        audience=given.aud,
        grant_type=given.grant_type,
    )
