"""What all objects of an installation share: their names, labels and ports. Pure."""

from __future__ import annotations

from typing import Any

from kajitori import __version__
from kajitori.app.install.templating import Namespace
from kajitori.gateway.fleet.identity import SERVER_SERVICE

CONTROLLERS, GATEWAY, ENVOY = "kajitori-controllers", SERVER_SERVICE, "kajitori-envoy"
PART_OF = {"app.kubernetes.io/part-of": "kajitori"}
METRICS_PORT, DISCOVERY_PORT, PROBE_PORT = 8080, 18_000, 19_003
# Beside Envoy, whose listeners are the users' to choose: 8080 is the one that they choose most.
ACCOUNTANT_PORT = 19_004


def labels(component: str) -> dict[str, str]:
    """What every object of ours carries."""
    return {
        **PART_OF,
        "app.kubernetes.io/name": f"kajitori-{component}" if component else "kajitori",
        "app.kubernetes.io/version": __version__,
    }


def metadata(name: str, component: str, *, namespaced: bool = True, **more: Any) -> dict[str, Any]:
    """Of an object. more: members besides its name and labels."""
    found: dict[str, Any] = {"name": name}
    if namespaced:
        found["namespace"] = Namespace()
    return {**found, "labels": labels(component), **more}


def selector(component: str) -> dict[str, str]:
    """The label by which its pods are found."""
    return {"app.kubernetes.io/name": f"kajitori-{component}"}
