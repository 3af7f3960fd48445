"""A real control plane for each test that asks for one; skipped, loudly, where Go is absent."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # tests start processes beside a gRPC server

import pytest
from tools.kubernetes.build import have_go
from tools.kubernetes.control_plane import running_control_plane

from kajitori.api.crds import all_crds
from tests.install.installation import Installation, installation


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A real API server with the controllers of Kubernetes, and an administrator."""
    if not have_go():
        warnings.warn("Go is absent: NOTHING was tried against a real Kubernetes here", stacklevel=1)
        pytest.skip("Go is absent: a real control plane cannot be built")
    folder: Path = tmp_path_factory.mktemp("installation")
    with running_control_plane(scheduler=False) as plane, installation(plane, folder) as found:
        # Without it no pod is let in.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        found.until(lambda: found.get(account), "the namespace has its service account")
        yield found


@pytest.fixture
def installed(cluster: Installation) -> Iterator[Installation]:
    """With Kajitori in it, and nothing of it afterwards but the definitions."""
    cluster.kaji("install", "--no-wait", "--set", "envoy.service.type=ClusterIP")
    try:
        yield cluster
    finally:
        cluster.stop_all()
        for definition in all_crds():
            spec = definition["spec"]
            if spec["scope"] == "Namespaced":
                version = next(each["name"] for each in spec["versions"] if each["storage"])
                path = f"/apis/{spec['group']}/{version}/namespaces/default/{spec['names']['plural']}"
                cluster.client.delete(path)
        cluster.kaji("uninstall", "--yes")
        cluster.until(lambda: cluster.get("/api/v1/namespaces/kajitori-system") is None, "no namespace")
