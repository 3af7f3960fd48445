"""The controllers that a cluster has by itself: one folder a subject, its decisions in a pure plan."""

from __future__ import annotations

from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers import (
    autoscaling,
    cron_jobs,
    daemon_sets,
    deployments,
    disruption,
    endpoint_slices,
    garbage,
    jobs,
    namespaces,
    nodes,
    pod_cleanup,
    quota,
    replica_sets,
    service_accounts,
    stateful_sets,
    storage,
)


def register(runtime: Runtime) -> None:
    """Add all of them to the process."""
    for module in (
        namespaces,
        service_accounts,
        garbage,
        replica_sets,
        deployments,
        stateful_sets,
        daemon_sets,
        disruption,
        jobs,
        cron_jobs,
        autoscaling,
        storage,
        quota,
        endpoint_slices,
        nodes,
        pod_cleanup,
    ):
        module.register(runtime)


__all__ = ["register"]
