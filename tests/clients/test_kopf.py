"""kopf, unmodified, runs an operator of ours (`kopf_operator`) against both API servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.waiting import eventually
from tests.wire import Object

pytestmark = [pytest.mark.world, pytest.mark.timeout(180)]
OPERATOR = Path(__file__).with_name("kopf_operator.py")
GROUP = "tests.kajitori.dev"
DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"pages.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "pages", "singular": "page", "kind": "Page", "listKind": "PageList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


class Operator:
    """The operator as a process."""

    def __init__(self, server: Server, namespace: str, log: Path) -> None:
        self._words = [sys.executable, "-m", "kopf", "run", str(OPERATOR), "-n", namespace, "--standalone"]
        self._environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, env=self._environment, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]


@pytest.fixture
async def pages(server: Server) -> str:
    """The path of the pages in a namespace, served."""
    await server.http.apply(
        f"/apis/{DEFINITION['apiVersion']}/customresourcedefinitions/pages.{GROUP}", DEFINITION
    )
    path = f"/apis/{GROUP}/v1"

    async def served() -> bool:
        return (await server.http.get(f"{path}/pages")).code == 200

    await eventually(served, "pages are served")
    return path


@pytest.fixture
async def operator(server: Server, namespace: str, pages: str, tmp_path: Path) -> AsyncIterator[Operator]:
    running = Operator(server, namespace, tmp_path / "operator.log")
    running.start()
    yield running
    running.stop()


async def test_an_operator_makes_follows_resumes_and_ends_its_pages(
    server: Server, namespace: str, pages: str, operator: Operator
) -> None:
    path = f"{pages}/namespaces/{namespace}/pages"
    child = f"/api/v1/namespaces/{namespace}/configmaps/home"

    async def page() -> Object:
        return (await server.http.get(f"{path}/home")).ok()

    async def status_has(**wanted: Any) -> None:
        async def has() -> bool:
            status = (await page()).get("status", {})
            return all(status.get(key) == value for key, value in wanted.items())

        try:
            await eventually(has, f"the status has {wanted}")
        except AssertionError:
            pytest.fail(f"wanted {wanted}, found {(await page()).get('status')}\n{operator.said()}")

    spec = {"title": "one", "daemon": True, "timer": True}
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Page", "metadata": {"name": "home"}, "spec": spec}
    (await server.http.create(path, body)).ok()
    await status_has(phase="Published", created={"title": "one"}, daemon="waited")

    async def ticked() -> bool:
        return (await page())["status"].get("ticks", 0) >= 3

    await eventually(ticked, "the timer ticks")
    made = (await server.http.get(child)).ok()
    assert made["data"] == {"title": "one"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Page"
    assert (await page())["metadata"]["finalizers"] == ["tests.kajitori.dev/kopf"]

    await server.http.merge(f"{path}/home", {"spec": {"title": "two", "retries": 1}})
    await status_has(**{"stubborn/spec.retries": {"tries": 2}}, child="two")
    assert (await page())["status"]["renamed/spec.title"]["from"] == "one"

    # Another title while nobody looks: resumed, and caught up with.
    operator.stop()
    await server.http.merge(f"{path}/home", {"spec": {"title": "three"}})
    operator.start()
    await status_has(child="three", resumed={"seen": True})

    async def settled() -> bool:
        handled = (await page())["metadata"]["annotations"]["kopf.zalando.org/last-handled-configuration"]
        return '"title":"three"' in handled

    # kopf loses sight of an object that is deleted while it writes: its patch is refused, and no event follows.
    await eventually(settled, "the operator is done with the third title")

    async def told() -> bool:
        events = (await server.http.get(f"/api/v1/namespaces/{namespace}/events")).ok()["items"]
        return any(each["reason"] == "Published" and each["message"] == "made home" for each in events)

    await eventually(told, "the event is there")
    (await server.http.delete(f"{path}/home")).ok()

    async def gone() -> bool:
        return (await server.http.get(f"{path}/home")).code == 404

    try:
        await eventually(gone, "the page is gone", 90)
    except AssertionError:
        pytest.fail(f"still there: {await page()}\n{operator.said()}")
    assert (await server.http.get(f"{child}-was-here")).code == 200

    async def child_gone() -> bool:
        return (await server.http.get(child)).code == 404

    # A real garbage collector looks for new kinds every half minute.
    await eventually(child_gone, "what the page owned is gone", 90)
