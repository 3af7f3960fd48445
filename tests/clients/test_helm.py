"""helm, unmodified, leads a chart of ours through its life on both API servers: see `sessions/helm.session`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.kubectl_sessions import Session, Terminal, all_sessions, run_session
from tests.servers import Place

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]
SESSIONS = [session for session in all_sessions() if session.needs == {"helm"}]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.name)
def test_a_chart_lives_the_same_on_both_servers(
    session: Session, place: Place, nodes: list[str], tools: Path, tmp_path: Path
) -> None:
    clients = {"kubectl": tools / "kubectl", "helm": tools / "helm"}
    failures = run_session(session, Terminal(tmp_path, clients, place.kubeconfig, place.name))
    assert not failures, "\n".join(failure.told(session) for failure in failures)
