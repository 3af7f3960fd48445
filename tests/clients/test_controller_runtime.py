"""A manager on controller-runtime, unmodified, against both API servers: caches, ownership, elections, finalizers.

The program is `tools/kubernetes/manager`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.programs import checks_of
from tests.servers import Place

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]


def test_every_check_of_an_operator_in_go_passes(place: Place, tools: Path, tmp_path: Path) -> None:
    lines = checks_of(tools / "manager", place.kubeconfig, tmp_path, 150)
    assert sum(line.startswith("ok ") for line in lines) == 12
