"""Several managers write one object by every kind of write; both servers say the same after each.

Compared are status codes, objects, `managedFields` and the texts of conflicts. More examples by hand:
`KAJITORI_EXAMPLES=500 pytest tests/contract/test_interleaved_appliers.py -n0`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.comparison import differences
from tests.contract.interleaving import (
    SUBJECTS,
    WIDGET_DEFINITION,
    Operation,
    Subject,
    operations,
    send,
    told,
)
from tests.servers import Place
from tests.waiting import eventually
from tests.wire import Api, tls_context

EXAMPLES = int(os.environ.get("KAJITORI_EXAMPLES", "12"))
NAMES = itertools.count(1)


class Bench:
    """Both servers, with one loop for all examples."""

    def __init__(self, places: tuple[Place, Place]) -> None:
        self.runner = asyncio.Runner()
        self.namespace = f"interleaved-{os.getpid()}"
        self._places = places
        self.apis: list[Api] = []

    async def start(self) -> None:
        for place in self._places:
            api = Api(place.url, tls_context(place.kubeconfig))
            self.apis.append(api)
            await api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
            await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WIDGET_DEFINITION)
            for path in (
                f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default",
                f"/apis/apply.example.com/v1/namespaces/{self.namespace}/widgets",
            ):
                await eventually(lambda api=api, path=path: _served(api, path), path)
            # A real server answers creations of new kinds late.
            await eventually(lambda api=api: self._creates(api), "widgets can be created")

    async def _creates(self, api: Api) -> bool:
        path = f"/apis/apply.example.com/v1/namespaces/{self.namespace}/widgets"
        widget = {"apiVersion": "apply.example.com/v1", "kind": "Widget", "metadata": {"name": "first"}}
        return (await api.create(path, widget, dryRun="All")).code == 201

    async def stop(self) -> None:
        for api in self.apis:
            await api.delete(f"/api/v1/namespaces/{self.namespace}")
            await api.close()

    async def run(self, subject: Subject, steps: list[Operation]) -> None:
        name = f"n{next(NAMES)}"
        first = Operation("update", "first", {})
        for index, step in enumerate((first, *steps)):
            ours, theirs = await asyncio.gather(
                *(send(api, subject, self.namespace, name, step) for api in self.apis)
            )
            found = differences(list(told(ours)), list(told(theirs)))
            assert not found, "\n".join([f"{subject.kind}: after {index} {step}", *found])


async def _served(api: Api, path: str) -> bool:
    return (await api.get(path)).code == 200


@pytest.fixture(scope="module")
def bench(places: tuple[Place, Place]) -> Iterator[Bench]:
    bench = Bench(places)
    with bench.runner:
        bench.runner.run(bench.start())
        yield bench
        bench.runner.run(bench.stop())


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.kind)
def test_interleaved_writers_get_the_same_answers(bench: Bench, subject: Subject) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES <= 20,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operations(subject), st.none())
    def run(steps: list[Operation], _none: None) -> None:
        bench.runner.run(bench.run(subject, steps))

    run()
