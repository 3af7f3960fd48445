"""BackendSecurityPolicies to what goes with each attempt at a backend. Values travel as SDS secrets only.

A credential that cannot be had is a reason, and then the backend gets no requests: other backends of the rule go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.credentials.api_keys import HEADERS, SECRET_KEY, key_reference
from kajitori.gateway.credentials.aws import read_credentials_file, signing_region
from kajitori.gateway.credentials.credential import AUTHORIZATION, Credential, Signing
from kajitori.gateway.credentials.exchanges import exchange_of
from kajitori.gateway.credentials.overrides import override_of
from kajitori.gateway.credentials.secrets import SecretReader, oidc_of

if TYPE_CHECKING:
    from kajitori.api.aigateway.credentials import OIDC
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicy
    from kajitori.gateway.backends.targets import Target
    from kajitori.gateway.observed import Index

CREDENTIALS_FILE = "credentials"
_NO_HOST = "AWSCredentials sign for one name, and the Backend of {0} has several; make one Backend for each"


class Injection(msgspec.Struct, frozen=True):
    """A credential and the SDS secret that holds its value, if a configured one is used.

    notes: what is honoured less than fully, or works and will not for long.
    """

    credential: Credential
    secret: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class _Configured(msgspec.Struct, frozen=True):
    """A configured secret: under which name Envoy gets it, and its text."""

    name: str
    text: str
    notes: tuple[str, ...] = ()


def find_credential(index: Index, namespace: str, backend: str, target: Target) -> Injection | Reason | None:
    """What the policies of an AIServiceBackend inject; None: it has no policy. target: where the backend is."""
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
    found = resolve_policy(index, policies[0])
    if isinstance(found, Reason) or found.credential.signing is None:
        return found
    hosts = {hostname for _, _, hostname in target.endpoints if hostname}
    if len(hosts) > 1:
        return Reason("UnsupportedValue", _NO_HOST.format(f"{namespace}/{backend}"), "", "")
    host = next(iter(hosts), "").rstrip(".")
    signing = Signing(signing_region(host, found.credential.signing.region), host)
    return msgspec.structs.replace(
        found, credential=msgspec.structs.replace(found.credential, signing=signing)
    )


def resolve_policy(index: Index, policy: BackendSecurityPolicy) -> Injection | Reason:
    """What one policy injects."""
    spec, subject = policy.spec, SecretReader(index, policy).subject
    credential = HEADERS.get(spec.type) or Credential(AUTHORIZATION, "Bearer ")
    if spec.type == "AWSCredentials" and spec.aws_credentials:
        credential = Credential(AUTHORIZATION, signing=Signing(spec.aws_credentials.region))
    override = override_of(spec)
    notes: tuple[str, ...] = ()
    oidc = oidc_of(spec)
    if oidc:
        notes = tuple(f"{subject}: {text}" for text in _oidc_notes(oidc))
    if override and not override.fallback:
        return Injection(msgspec.structs.replace(credential, override=override), None, notes)
    configured = _configured(index, policy)
    if isinstance(configured, Reason):
        return configured
    secret = {"name": configured.name, "generic_secret": {"secret": {"inline_string": configured.text}}}
    credential = msgspec.structs.replace(credential, sds_name=configured.name, override=override)
    return Injection(credential, secret, notes + configured.notes)


def _configured(index: Index, policy: BackendSecurityPolicy) -> _Configured | Reason:
    spec, reader = policy.spec, SecretReader(index, policy)
    namespace = policy.metadata.namespace or ""
    if reference := key_reference(spec):
        text = reader.value(reference, SECRET_KEY)
        if isinstance(text, Reason):
            return text
        return _Configured(f"secret/{reference.namespace or namespace}/{reference.name}/{SECRET_KEY}", text)
    if (
        spec.type == "AWSCredentials"
        and spec.aws_credentials
        and (file := spec.aws_credentials.credentials_file)
    ):
        data = reader.data(file.secret_ref, CREDENTIALS_FILE)
        if isinstance(data, Reason):
            return data
        try:
            text = read_credentials_file(data.decode(), file.profile or "default")
        except UnicodeDecodeError:
            return reader.invalid(file.secret_ref, CREDENTIALS_FILE, "is not text")
        except ValueError as error:
            return reader.invalid(file.secret_ref, CREDENTIALS_FILE, f"cannot be used: {error}")
        return _Configured(f"aws/{namespace}/{policy.metadata.name}", text)
    exchange = exchange_of(index, policy)
    if isinstance(exchange, Reason):
        return exchange
    if exchange is None:
        message = f"{reader.subject}: the member that type {spec.type} needs is missing"
        return Reason("Invalid", message, "", reader.subject)
    return _of_token(index, policy, reader.subject)


def _of_token(index: Index, policy: BackendSecurityPolicy, subject: str) -> _Configured | Reason:
    key = (policy.metadata.namespace or "", policy.metadata.name or "")
    state = index.observed.tokens.get(key)
    if state is None or (state.token is None and not state.problem):
        message = f"{subject}: its token is being fetched"
        return Reason("TokenPending", message, "", subject)
    if state.token is None:
        return Reason("TokenRefused", f"{subject} has no token: {state.problem}", "", subject)
    notes = (
        (f"{subject}: {state.problem}; the present token goes on while it is valid",) if state.problem else ()
    )
    return _Configured(f"token/{key[0]}/{key[1]}", state.token.secret.text, notes)


def _oidc_notes(oidc: OIDC) -> list[str]:
    """The fields of an OpenID client that have no effect, and what is risky about it."""
    notes: list[str] = []
    provider = oidc.provider
    for name, value in (
        ("backendRef", provider.backend_ref),
        ("backendRefs", provider.backend_refs),
        ("backendSettings", provider.backend_settings),
    ):
        if value:
            notes.append(f"oidc.provider.{name} is not honoured")
    encoded: dict[str, str] = dict(zip(oidc.__struct_fields__, oidc.__struct_encode_fields__, strict=True))
    fields = list(oidc.__struct_fields__)
    notes += [
        f"oidc.{encoded[name]} is for people who log in and has no effect"
        for name in fields[fields.index("cookie_names") :]
        if getattr(oidc, name) is not None
    ]
    address = provider.token_endpoint or provider.issuer
    if address.startswith("http://"):
        notes.append(f"the client secret travels unencrypted to {address}")
    return notes
