"""What policies read from Secrets: which ones, whether they may, and what is wrong with a value, without telling it."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from kajitori.base.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.api.aigateway.credentials import OIDC
    from kajitori.api.aigateway.v1beta1 import BackendSecurityPolicy, BackendSecurityPolicySpec
    from kajitori.api.gateway.shared import SecretObjectReference
    from kajitori.gateway.observed import Index

SecretKey = tuple[str, str]
_GROUP, _KIND = "aigateway.envoyproxy.io", "BackendSecurityPolicy"


def referenced_secrets(index: Index) -> set[SecretKey]:
    """Namespace and name of every Secret that a policy may use: all that is ever read for them."""
    found: set[SecretKey] = set()
    for policy in index.observed.policies:
        namespace = policy.metadata.namespace or ""
        found |= readable(index, (_GROUP, _KIND, namespace), _references(policy.spec))
    return found


def readable(
    index: Index, referrer: tuple[str, str, str], references: Iterable[SecretObjectReference]
) -> set[SecretKey]:
    """Those of the Secrets that may be read. referrer: group, kind and namespace of what refers to them."""
    keys = {(reference.namespace or referrer[2], reference.name) for reference in references}
    return {
        key
        for key in keys
        if index.observed.settings.may_read_secrets_of(key[0]) and index.granted(*referrer, "", "Secret", key)
    }


def oidc_of(spec: BackendSecurityPolicySpec) -> OIDC | None:
    """The OpenID client of a policy, if it has one."""
    if spec.azure_credentials and spec.azure_credentials.oidc_exchange_token:
        return spec.azure_credentials.oidc_exchange_token.oidc
    if spec.aws_credentials and spec.aws_credentials.oidc_exchange_token:
        return spec.aws_credentials.oidc_exchange_token.oidc
    if spec.gcp_credentials and spec.gcp_credentials.workload_identity_federation_config:
        return spec.gcp_credentials.workload_identity_federation_config.oidc_exchange_token.oidc
    return None


def _references(spec: BackendSecurityPolicySpec) -> list[SecretObjectReference]:
    found = [key.secret_ref for key in (spec.api_key, spec.anthropic_api_key, spec.azure_api_key) if key]
    if spec.azure_credentials and spec.azure_credentials.client_secret_ref:
        found.append(spec.azure_credentials.client_secret_ref)
    if spec.aws_credentials and spec.aws_credentials.credentials_file:
        found.append(spec.aws_credentials.credentials_file.secret_ref)
    if spec.gcp_credentials and spec.gcp_credentials.credentials_file:
        found.append(spec.gcp_credentials.credentials_file.secret_ref)
    if oidc := oidc_of(spec):
        found.append(oidc.client_secret)
        if oidc.client_id_ref:
            found.append(oidc.client_id_ref)
    return found


class SecretReader:
    """Reads what one policy refers to. group, kind: of the policy."""

    group, kind = _GROUP, _KIND

    def __init__(self, index: Index, policy: BackendSecurityPolicy) -> None:
        self._index = index
        self._namespace = policy.metadata.namespace or ""
        self.subject = f"{self.kind} {self._namespace}/{policy.metadata.name}"

    def where(self, reference: SecretObjectReference, key: str) -> str:
        """How a key of a Secret is named towards people."""
        return f"Secret {reference.namespace or self._namespace}/{reference.name}: {key!r}"

    def value(self, reference: SecretObjectReference, key: str) -> str | Reason:
        """A value that fits into a header: one line of text. Blanks around it are not part of it."""
        data = self.data(reference, key)
        if isinstance(data, Reason):
            return data
        try:
            text = data.decode().strip()
        except UnicodeDecodeError:
            return self.invalid(reference, key, "is not text")
        if not text:
            return self.invalid(reference, key, "is empty")
        if not text.isprintable() or not text.isascii():
            return self.invalid(
                reference, key, "has a line break, control characters or characters beyond ASCII"
            )
        return text

    def data(self, reference: SecretObjectReference, key: str) -> bytes | Reason:
        """The bytes under a key of a Secret, or why they cannot be had."""
        subject, name = self.subject, (reference.namespace or self._namespace, reference.name)
        where = f"Secret {name[0]}/{name[1]}"
        if reference.group or reference.kind != "Secret":
            message = f"{subject} refers to {reference.kind} {name[1]}; only a Secret can be read"
            return Reason("InvalidKind", message, "refer to a Secret", subject)
        if not self._index.granted(self.group, self.kind, self._namespace, "", "Secret", name):
            message = f"{subject} may not refer to {where}"
            return Reason("RefNotPermitted", message, "add a ReferenceGrant", subject)
        if not self._index.observed.settings.may_read_secrets_of(name[0]):
            message = f"{where}, named by {subject}, is in a namespace whose Secrets the gateway may not read"
            hint = "add the namespace to gateway.secretNamespaces of the installation"
            return Reason("SecretNotReadable", message, hint, subject)
        secret = self._index.secrets.get(name)
        if secret is None:
            message = f"{where}, named by {subject}, does not exist"
            return Reason("SecretNotFound", message, "create it", subject)
        if key not in secret.data:
            return Reason("SecretKeyNotFound", f"{where} has no key {key!r}", "add it", subject)
        try:
            return base64.b64decode(secret.data[key], validate=True)
        except (binascii.Error, ValueError):
            return self.invalid(reference, key, "is not base64")

    def invalid(self, reference: SecretObjectReference, key: str, problem: str) -> Reason:
        """What is wrong with a value. problem: continues the sentence, and tells nothing of the value."""
        message = f"{self.where(reference, key)} {problem}"
        return Reason("InvalidSecret", message, "write it anew", self.subject)
