"""Records of lines that are settled already, made when there is room for them: beside the reading of what is new."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.log_file import LogFile
from kajitori.gateway.accounting.records import LogPosition

if TYPE_CHECKING:
    from kajitori.gateway.accounting.ledger import Ledger

_log = logging.getLogger(__name__)


class LaterRecords:
    """path: of the file that has the first of the lines. newest: of the one behind it. position: where they begin.

    told: whether metrics and spans of them are made already. count: how many there are, as far as is known.
    """

    def __init__(
        self, path: Path, newest: Path, position: LogPosition, ledger: Ledger, *, told: bool
    ) -> None:
        self.told = told
        self.count = 0
        self._newest = newest
        self._file = LogFile(path)
        self._position = position
        self._ledger = ledger
        ledger.part()

    def make(self, settled: LogPosition) -> bool:
        """Makes some; whether all up to a position are made. Raises OSError."""
        until = settled.offset if self._file.inode == settled.inode else None
        if until is not None and self._position.offset >= until:
            return True
        found = self._file.lines(self._position, until)
        if found is None and until is None:
            self._file.close()
            self._file = LogFile(self._newest)
            self._position = LogPosition(self._file.inode)
            return False
        if found is None:
            _log.warning(
                "the access log %s was cut short by somebody: lines without records are lost", self._newest
            )
            return True
        lines, self._position, _ = found
        records = self._ledger.book(lines, later=True)
        self._ledger.keep(records, self._position)
        if self.told:
            self.count = max(0, self.count - len(records))
        else:
            self._ledger.tell(records)
        return False

    def close(self) -> None:
        """Without joining what is read with what was."""
        self._file.close()
