"""Where the gateway's processes meet in a laptop's home."""

from __future__ import annotations

from pathlib import Path

from kajitori.gateway.accounting.places import Places

DISCOVERY_SOCKET = "ads.sock"


def accounting_places(home: Path) -> Places:
    """Of the only Envoy."""
    run = home / "run"
    return Places(
        home,
        home / "log" / "access.log",
        run / "accountant.sock",
        run / "envoy-admin.sock",
        run / "rescue.sock",
        run / "inner.sock",
    )
