"""Gives every namespace its ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

Without the account no pod can be created in a namespace; the ConfigMap is what pods check the server by.
"""

from __future__ import annotations

from kajitori.api.resource import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from kajitori.base.errors import AlreadyExists, Forbidden, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.service_accounts.tokens import AccountTokens
from kajitori.laptop.controllers.views import NamespaceView, View

ACCOUNT, ROOT_CERTIFICATES = "default", "kube-root-ca.crt"
_NOTE = {
    "kubernetes.io/description": "Holds the certificates that this cluster's API server is checked by; "
    "written anew when changed or deleted."
}


class ConfigMapView(View, frozen=True, kw_only=True):
    data: Object = {}


class ServiceAccounts:
    """Reconciles one namespace at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._certificates = (runtime.client.config.certificate_authority or b"").decode()
        self._namespaces: Informer[NamespaceView] = runtime.informer(NAMESPACES, NamespaceView)
        self._accounts: Informer[View] = runtime.informer(
            SERVICE_ACCOUNTS, View, field_selector=f"metadata.name={ACCOUNT}", metadata_only=True
        )
        self._maps: Informer[ConfigMapView] = runtime.informer(
            CONFIG_MAPS, ConfigMapView, field_selector=f"metadata.name={ROOT_CERTIFICATES}"
        )
        controller = runtime.controller("serviceaccount", self.reconcile)
        controller.watch(self._namespaces, when=lambda old, new: old is None and new is not None)
        controller.watch(self._accounts, _namespace_key, when=lambda old, new: new is None)
        controller.watch(self._maps, _namespace_key)

    async def reconcile(self, key: Key) -> Result:
        namespace = self._namespaces.get("", key.name)
        if namespace is None or namespace.metadata.deletion_timestamp is not None:
            return
        try:
            if self._accounts.get(key.name, ACCOUNT) is None:
                account: Object = {"metadata": {"name": ACCOUNT, "namespace": key.name}}
                self._accounts.remember(await self._client.create(SERVICE_ACCOUNTS, account, type=View))
            await self._write_certificates(key.name)
        except (AlreadyExists, NotFound):
            # Somebody was faster, or the namespace is gone.
            return
        except Forbidden as error:
            if not any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes):
                raise

    async def _write_certificates(self, namespace: str) -> None:
        known, data = self._maps.get(namespace, ROOT_CERTIFICATES), {"ca.crt": self._certificates}
        if known is not None and known.data == data:
            return
        metadata = {"name": ROOT_CERTIFICATES, "namespace": namespace, "annotations": _NOTE}
        if known is None:
            made = await self._client.create(
                CONFIG_MAPS, {"metadata": metadata, "data": data}, type=ConfigMapView
            )
        else:
            replace = [{"op": "add", "path": "/data", "value": data}]
            made = await self._client.patch(
                CONFIG_MAPS, ROOT_CERTIFICATES, replace, namespace=namespace, type=ConfigMapView
            )
        self._maps.remember(made)


def _namespace_key(obj: View) -> tuple[Key]:
    return (Key("", obj.metadata.namespace),)


def register(runtime: Runtime) -> None:
    ServiceAccounts(runtime)
    AccountTokens(runtime)
