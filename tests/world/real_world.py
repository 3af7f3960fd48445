"""A real control plane with nodes of ours, all inside a network namespace, and commands that run there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tools.kubernetes.build import build, have_go
from tools.kubernetes.network_namespace import NetworkNamespace, network_namespace

from tests.world.conftest import ROOT

ADDRESS = "10.10.0.1"
RANGES = ("10.244.0.0/16", "10.96.0.0/16", f"{ADDRESS}/32")


class World:
    """A control plane without nodes of its own in a namespace, and commands that run there."""

    def __init__(self, folder: Path, namespace: NetworkNamespace) -> None:
        self.folder = folder
        self.plane = folder / "plane"
        self.namespace = namespace
        self.program = build() / "kubernetes-control-plane"
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self.plane / "admin.kubeconfig"),
            "KAJI_HOME": str(folder / "kaji"),
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def run(
        self, *words: str, check: bool = True, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        result = self.namespace.run(
            *words,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=120,
            env={**self.environment, **environment},
        )
        assert not check or result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        return result

    def kaji(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "kajitori.cli", *words, check=check)

    def kubectl(self, *words: str, check: bool = True, **options: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.program), "kubectl", *words, check=check, **options)

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return self.namespace.popen(
            *words, text=True, env=self.environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, **options
        )

    def python(self, code: str, *arguments: str) -> str:
        return self.run(sys.executable, "-c", code, *arguments).stdout.strip()

    def objects(self, *words: str) -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)["items"]

    def pods(self) -> list[dict[str, Any]]:
        return [pod for pod in self.objects("pods") if "deletionTimestamp" not in pod["metadata"]]

    def agent_pid(self, node: str) -> int | None:
        """None while it waits to be started again."""
        text = self.kaji("node", "status", node).stdout
        found = re.search(rf"^  {node} +pid (\d+|None)", text, re.MULTILINE)
        assert found, text
        return None if found[1] == "None" else int(found[1])


@contextlib.contextmanager
def real_world(**joined: Sequence[str]) -> Iterator[World]:
    """A control plane and the nodes that join it. joined: for each node's name the options of `kaji node join`."""
    if not have_go():
        warnings.warn("Go is absent: NOTHING was tried on a real Kubernetes here", stacklevel=1)
        pytest.skip("NOT TESTED: Go is not installed, so there is no real control plane")
    with (
        tempfile.TemporaryDirectory(prefix="kj-", ignore_cleanup_errors=True) as folder,
        network_namespace(*RANGES) as namespace,
    ):
        made = World(Path(folder), namespace)
        plane = namespace.popen(
            sys.executable, "-m", "tools.kubernetes.control_plane", "--home", made.plane, "--address", ADDRESS,
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert plane.stdout is not None
            assert plane.stdout.readline().startswith("export"), "the control plane did not start"
            for name, options in joined.items():
                made.kaji("node", "join", "--name", name, *options)
            made.kubectl("wait", "--for=create", "serviceaccount/default")
            yield made
        finally:
            nodes = made.folder / "kaji-nodes"
            for node in sorted(nodes.iterdir()) if nodes.exists() else ():
                made.kaji(
                    "node", "leave", node.name, "--purge", "--force", "--drain-seconds", "1", check=False
                )
            plane.send_signal(signal.SIGTERM)
            plane.wait(60)
            assert plane.stdout is not None
            plane.stdout.close()
