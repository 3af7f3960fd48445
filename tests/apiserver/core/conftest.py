"""A running server and a bare HTTP client: what goes over the wire is what is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.wire import Answer, Api, Object, Watch, tls_context

from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Answer", "Api", "Cluster", "Object", "Watch", "tls_context"]


class Cluster:
    """The running server and clients of it."""

    def __init__(self, running: RunningApiServer) -> None:
        self.running = running
        self._apis: list[Api] = []
        self.admin = self.client()

    def client(self, component: str = "") -> Api:
        """Of the admin, or of a component."""
        path = self.running.kubeconfig_of(component) if component else self.running.kubeconfig
        return self._keep(Api(self.running.url, tls_context(path)))

    def bearer(self, token: str = "", **headers: str) -> Api:
        """Without a certificate; with a token if one is given."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        context = tls_context(self.running.kubeconfig, with_certificate=False)
        return self._keep(Api(self.running.url, context, headers))

    def _keep(self, api: Api) -> Api:
        self._apis.append(api)
        return api

    async def close(self) -> None:
        for api in self._apis:
            await api.close()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running_api_server() as running:
        cluster = Cluster(running)
        try:
            yield cluster
        finally:
            await cluster.close()


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return cluster.admin


def config_map(name: str, namespace: str = "default", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def pod(name: str, namespace: str = "default", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "busybox"}], **spec},
    }


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


async def add_service_account(api: Api, namespace: str = "default", name: str = "default") -> None:
    (
        await api.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        )
    ).ok()
