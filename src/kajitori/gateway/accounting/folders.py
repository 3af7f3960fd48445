"""Where an installation's gateway keeps its files. Nothing else is in here, so the command line may import it."""

from __future__ import annotations

# The request records of `kaji serve accountant`, in its container, and the log that it reads.
LEDGER_FOLDER = "/var/lib/kajitori"
LOG_FOLDER = "/var/log/kajitori"
ACCESS_LOG = f"{LOG_FOLDER}/access.log"
ACCOUNTANT = "accountant"
