"""The gateway's process, of which Envoy refuses what the route that is called `bad` becomes. Started by test_faults.py."""

from __future__ import annotations

from kajitori.app.gateway import main
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.resources import ROUTES, Resources
from tests.gateway.refusals.spoiling import bad_action, of_routes

deliver = AdsServer.set_resources


def spoiling(self: AdsServer, source: str, resources: Resources) -> None:
    if ROUTES in resources.by_type:
        resources = of_routes("ai/default/bad/", bad_action)(resources)
    deliver(self, source, resources)


AdsServer.set_resources = spoiling  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
