"""Configuration that our plan lets through and Envoy refuses: made by spoiling what a plan gives, on its way to Envoy."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kajitori.engines.envoy import envoy_arguments, find_envoy
from kajitori.gateway.envoy import inquiry
from kajitori.gateway.resources import ROUTES, Resources
from tests.gateway.workbench import Workbench, running_workbench

Change = Callable[[dict[str, Any]], dict[str, Any]]
# Envoy's own words of what `bad_action` and `bad_match` do.
OF_ACTION = "retry_policy.max_interval must greater than or equal to the base_interval"
OF_MATCH = "missing ): ("


def bad_action(route: dict[str, Any]) -> dict[str, Any]:
    """Something of what is done where the route matches; a route with an answer of its own gets a bad header instead."""
    if "route" not in route:
        return route
    back_off = {"base_interval": "2s", "max_interval": "1s"}
    return {
        **route,
        "route": {**route["route"], "retry_policy": {"retry_on": "5xx", "retry_back_off": back_off}},
    }


def bad_match(route: dict[str, Any]) -> dict[str, Any]:
    match = {key: item for key, item in route["match"].items() if key not in ("prefix", "path")}
    return {**route, "match": {**match, "safe_regex": {"regex": "("}}}


def of_routes(prefix: str, change: Change) -> Callable[[Resources], Resources]:
    """Changes the routes of Envoy whose names begin so."""

    def changed(host: dict[str, Any]) -> dict[str, Any]:
        routes = [change(each) if each["name"].startswith(prefix) else each for each in host["routes"]]
        return {**host, "routes": routes}

    def spoil(resources: Resources) -> Resources:
        tables = {
            name: {**table, "virtual_hosts": [changed(host) for host in table["virtual_hosts"]]}
            for name, table in resources.by_type[ROUTES].items()
        }
        return Resources({**resources.by_type, ROUTES: tables})

    return spoil


def of_resource(kind: str, name: str, change: Change) -> Callable[[Resources], Resources]:
    """Changes one resource, if it is there."""

    def spoil(resources: Resources) -> Resources:
        items = resources.by_type[kind]
        if name not in items:
            return resources
        return Resources({**resources.by_type, kind: {**items, name: change(items[name])}})

    return spoil


class SpoiltWorkbench(Workbench):
    """spoilt: what is done to every plan's resources before they go to Envoy."""

    spoilt: tuple[Callable[[Resources], Resources], ...] = ()

    def _make_control_plane(self) -> None:
        super()._make_control_plane()
        deliver = self.ads.set_resources

        def spoiling(source: str, resources: Resources) -> None:
            for spoil in self.spoilt:
                resources = spoil(resources)
            deliver(source, resources)

        self.ads.set_resources = spoiling  # type: ignore[method-assign]

    def another_envoy(self, bootstrap: str) -> subprocess.Popen[bytes]:
        """One more Envoy of the same control plane, by a bootstrap of its own."""
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(find_envoy())]
        with (self.folder / "second.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *envoy_arguments(self.folder / bootstrap)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def refusing(self, *documents: dict[str, Any] | str) -> None:
        """Applies, and plans once more with what Envoy says: statuses are those of a gateway that has heard it."""
        await self.apply(*documents)
        await self.apply(*documents)

    def condition(self, kind: str, name: str) -> tuple[str, str, str]:
        """Type, status and message of what says whether an object is accepted."""
        assert self.plan is not None
        status = next(
            each.status for each in self.plan.statuses if (each.resource.kind, each.name) == (kind, name)
        )
        holder = next(iter(status.get("parents", status.get("ancestors", [status]))))
        state = next(each for each in holder["conditions"] if each["type"] in ("Accepted", "NotAccepted"))
        return state["type"], state["status"], state["message"]


@contextlib.asynccontextmanager
async def running_spoilt() -> AsyncIterator[SpoiltWorkbench]:
    async with running_workbench(kind=SpoiltWorkbench) as bench:
        assert isinstance(bench, SpoiltWorkbench)
        yield bench


def counted_tries(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What Envoy answers to tries from now on, each once."""
    answers: list[str | None] = []
    answer = inquiry.Inquiry.answer

    def noted(self: inquiry.Inquiry, refused: str | None) -> None:
        answers.append(refused)
        answer(self, refused)

    monkeypatch.setattr(inquiry.Inquiry, "answer", noted)
    return answers
