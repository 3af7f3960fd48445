"""A candidate of the Python client's leader election: `python elector.py KUBECONFIG NAMESPACE NAME`."""

from __future__ import annotations

import sys
import time

from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock


def _lead() -> None:
    time.sleep(60)


if __name__ == "__main__":
    kubeconfig, namespace, name = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    settings = electionconfig.Config(
        LeaseLock("leader", namespace, name),
        lease_duration=3,
        renew_deadline=2,
        retry_period=1,
        onstarted_leading=_lead,
        onstopped_leading=lambda: None,
    )
    leaderelection.LeaderElection(settings).run()
