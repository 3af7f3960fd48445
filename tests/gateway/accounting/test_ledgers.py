"""Questions about requests of a cluster: the accountants beside its Envoys are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kajitori.api.resource import NAMESPACES, PODS, SERVICE_ACCOUNTS
from kajitori.base.errors import NotFound
from kajitori.cli import ledgers
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig, load_config
from kajitori.kube.exec import Executed
from kajitori.laptop.apiserver.testing import running_api_server


@pytest.fixture
async def config() -> AsyncIterator[ClusterConfig]:
    async with running_api_server() as server:
        found = load_config(str(server.kubeconfig))
        async with Client(found) as client:
            await client.create(NAMESPACES, {"metadata": {"name": "kajitori-system"}})
            account = {"metadata": {"name": "default"}}
            await client.create(SERVICE_ACCOUNTS, account, namespace="kajitori-system")
            for name, component in (("envoy-1", "envoy"), ("envoy-2", "envoy"), ("gateway-1", "gateway")):
                labels = {"app.kubernetes.io/name": f"kajitori-{component}"}
                pod = {
                    "metadata": {"name": name, "labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                }
                await client.create(PODS, pod, namespace="kajitori-system")
                status = {"status": {"phase": "Running"}}
                await client.patch(PODS, name, status, namespace="kajitori-system", subresource="status")
        yield found


async def test_the_accountant_that_has_a_request_answers_and_no_other_pod_is_asked(
    config: ClusterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    async def execute(
        transport: Any, namespace: str, pod: str, command: list[str], *, container: str = "", **_: Any
    ) -> Executed:
        asked.append((pod, container))
        assert command == ["kaji", "explain", "request", "id-1", "--home", "/var/lib/kajitori"]
        known = known_by == pod
        return Executed(0 if known else 1, "Request id-1\n" if known else "", "")

    monkeypatch.setattr(ledgers, "execute", execute)
    known_by = "envoy-2"
    answers = await ledgers.ask_all(config, ["explain", "request", "id-1"])
    assert ledgers.known_by_one(answers, "id-1") == "Request id-1\n"
    assert sorted(asked) == [("envoy-1", "accountant"), ("envoy-2", "accountant")]
    known_by = "nobody"
    answers = await ledgers.ask_all(config, ["explain", "request", "id-1"])
    with pytest.raises(NotFound, match="none of 2 Envoys has request 'id-1'"):
        ledgers.known_by_one(answers, "id-1")
