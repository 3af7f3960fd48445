"""Where an installation's gateway keeps its files. Nothing else is in here, so the command line may import it."""

from __future__ import annotations

# The request records of `kaji serve gateway`, in its container.
LEDGER_FOLDER = "/var/lib/kajitori"
