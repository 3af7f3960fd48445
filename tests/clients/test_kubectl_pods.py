"""kubectl, unmodified, with pods that run as processes: logs, exec, cp, port-forward, attach, debug."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tools.kubernetes.build import have_go

from tests.clients.kubectl_sessions import Session, Terminal, all_sessions, run_session
from tests.world.conftest import Cluster, cluster

__all__ = ["cluster"]
pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]
SESSIONS = [session for session in all_sessions() if session.needs == {"pods"}]
KUBECTLS = [
    pytest.param(
        "current", marks=pytest.mark.skipif(not have_go(), reason="NOT TESTED: GO IS NOT INSTALLED")
    ),
    pytest.param(
        "installed",
        marks=pytest.mark.skipif(shutil.which("kubectl") is None, reason="KUBECTL IS NOT INSTALLED"),
    ),
]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.name)
@pytest.mark.parametrize("which", KUBECTLS)
def test_a_session_with_running_pods_prints_what_is_expected(
    which: str, session: Session, cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if which == "current":
        kubectl = request.getfixturevalue("tools") / "kubectl"
    else:
        kubectl = Path(shutil.which("kubectl") or "")
    terminal = Terminal(tmp_path, {"kubectl": kubectl}, cluster.home / "kubeconfig", "embedded")
    failures = run_session(session, terminal)
    assert not failures, "\n".join(failure.told(session) for failure in failures)
