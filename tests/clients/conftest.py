"""What the clients' tests share: the programs, and how to run one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.kubernetes.build import build


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of kubectl, helm and our own programs in Go."""
    return build()
