"""BackendSecurityPolicies as tests write them."""

from __future__ import annotations

from typing import Any

from tests.gateway.credentials.endpoints import CLIENT_SECRET, ROLE


def policy(kind: str, target: str = "a", name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": target}],
            "type": kind,
            **spec,
        },
    }


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": name}, "stringData": {key.replace("_", "-"): value for key, value in data.items()}}  # fmt: skip


def login(issuer: str, **more: Any) -> dict[str, Any]:
    """An `oidcExchangeToken`; its client's secret is `login_secret()`."""
    client = {"provider": {"issuer": issuer}, "clientID": "login-1", "clientSecret": {"name": "login"}}
    return {"oidc": {**client, **more.pop("oidc", {})}, **more}


def login_secret(value: str = CLIENT_SECRET) -> dict[str, Any]:
    return secret("login", client_secret=value)


def azure_secret() -> list[dict[str, Any]]:
    given = {"clientID": "app-1", "tenantID": "tenant-1", "clientSecretRef": {"name": "app"}}
    return [policy("AzureCredentials", azureCredentials=given), secret("app", client_secret=CLIENT_SECRET)]


def azure_login(issuer: str, **more: Any) -> list[dict[str, Any]]:
    given = {"clientID": "app-1", "tenantID": "tenant-1", "oidcExchangeToken": login(issuer, **more)}
    return [policy("AzureCredentials", azureCredentials=given), login_secret()]


def aws_login(issuer: str) -> list[dict[str, Any]]:
    given = {"region": "eu-west-1", "oidcExchangeToken": login(issuer, awsRoleArn=ROLE)}
    return [policy("AWSCredentials", awsCredentials=given), login_secret()]


def aws_file(text: str, **given: Any) -> list[dict[str, Any]]:
    credentials = {"region": "eu-west-1", "credentialsFile": {"secretRef": {"name": "aws"}, **given}}
    return [policy("AWSCredentials", awsCredentials=credentials), secret("aws", credentials=text)]


def gcp_key(text: str) -> list[dict[str, Any]]:
    given = {
        "projectName": "project-1",
        "region": "us-east5",
        "credentialsFile": {"secretRef": {"name": "gcp"}},
    }
    found = secret("gcp")
    found["stringData"]["service_account.json"] = text
    return [policy("GCPCredentials", gcpCredentials=given), found]


def gcp_login(issuer: str, **federation: Any) -> list[dict[str, Any]]:
    config = {
        "projectID": "77",
        "workloadIdentityPoolName": "pool",
        "workloadIdentityProviderName": "provider",
        "oidcExchangeToken": login(issuer),
        **federation,
    }
    given = {"projectName": "project-1", "region": "us-east5", "workloadIdentityFederationConfig": config}
    return [policy("GCPCredentials", gcpCredentials=given), login_secret()]
