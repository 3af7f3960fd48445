"""Fills Secrets of type `kubernetes.io/service-account-token`: a token that lasts as long as the Secret.

The token is bound to the Secret, so it ends with it, and with the account. A Secret whose account is not there is
deleted, as every cluster does.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from kajitori.api.resource import SECRETS, SERVICE_ACCOUNTS
from kajitori.base.errors import Conflict, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.views import View

TYPE: Final = "kubernetes.io/service-account-token"
ACCOUNT_NAME: Final = "kubernetes.io/service-account.name"
ACCOUNT_UID: Final = "kubernetes.io/service-account.uid"
LONGEST_SECONDS: Final = 2**32
"""The longest that the server signs a token for: 136 years."""


class SecretView(View, frozen=True, kw_only=True):
    data: dict[str, str] = {}


class AccountTokens:
    """Reconciles one Secret at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._certificates = runtime.client.config.certificate_authority or b""
        self._secrets: Informer[SecretView] = runtime.informer(
            SECRETS, SecretView, field_selector=f"type={TYPE}"
        )
        self._accounts: Informer[View] = runtime.informer(SERVICE_ACCOUNTS, View, metadata_only=True)
        controller = runtime.controller("serviceaccount-token", self.reconcile)
        controller.watch(self._secrets)
        controller.watch(self._accounts, self._secrets_of, when=lambda old, new: old is None or new is None)

    def _secrets_of(self, account: View) -> list[Key]:
        namespace, name = account.metadata.namespace, account.metadata.name
        return [
            Key(namespace, secret.metadata.name)
            for secret in self._secrets.list(namespace)
            if secret.metadata.annotations.get(ACCOUNT_NAME) == name
        ]

    async def reconcile(self, key: Key) -> Result:
        secret = self._secrets.get(key.namespace, key.name)
        if secret is None or secret.metadata.deletion_timestamp is not None:
            return
        account = await self._account_of(secret)
        try:
            if account is None:
                await self._client.delete(SECRETS, key.name, namespace=key.namespace)
            else:
                await self._fill(secret, account)
        except (Conflict, NotFound):
            # What changed comes again.
            return

    async def _account_of(self, secret: SecretView) -> View | None:
        """The account that the Secret names, if it is that very one."""
        namespace, wanted = secret.metadata.namespace, secret.metadata.annotations
        account = self._accounts.get(namespace, wanted.get(ACCOUNT_NAME, ""))
        if account is None:
            try:
                # The cache may be behind.
                account = await self._client.get(
                    SERVICE_ACCOUNTS, wanted.get(ACCOUNT_NAME, ""), namespace=namespace, type=View
                )
            except NotFound:
                return None
        known = wanted.get(ACCOUNT_UID, "")
        return account if not known or known == account.metadata.uid else None

    async def _fill(self, secret: SecretView, account: View) -> None:
        namespace, name = secret.metadata.namespace, secret.metadata.name
        wanted = {"ca.crt": self._certificates, "namespace": namespace.encode()}
        data = {key: base64.b64encode(value).decode() for key, value in wanted.items()}
        if not _decoded(secret.data.get("token", "")):
            token = await self._new_token(secret, account)
            data["token"] = base64.b64encode(token.encode()).decode()
        changed = {key: value for key, value in data.items() if secret.data.get(key) != value}
        if not changed and secret.metadata.annotations.get(ACCOUNT_UID) == account.metadata.uid:
            return
        patch: Object = {
            "metadata": {
                "resourceVersion": secret.metadata.resource_version,
                "annotations": {ACCOUNT_UID: account.metadata.uid},
            },
            "data": changed,
        }
        await self._client.patch(SECRETS, name, patch, namespace=namespace, type=SecretView)

    async def _new_token(self, secret: SecretView, account: View) -> str:
        reference = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": secret.metadata.name,
            "uid": secret.metadata.uid,
        }
        request: Object = {
            "metadata": {"name": account.metadata.name, "namespace": account.metadata.namespace},
            "spec": {"expirationSeconds": LONGEST_SECONDS, "boundObjectRef": reference},
        }
        answer = await self._client.create(SERVICE_ACCOUNTS, request, subresource="token", type=dict)
        return answer["status"]["token"]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""
