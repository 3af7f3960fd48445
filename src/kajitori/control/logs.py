"""Log lines of the daemons: one line each, `time level key=value ... message`, on standard error.

Inside a reconcile every line, whoever writes it, carries the controller and the object's key.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
from collections.abc import Generator

from kajitori.base.clock import rfc3339_micro

_context: contextvars.ContextVar[str] = contextvars.ContextVar("reconcile", default="")


@contextlib.contextmanager
def reconcile_context(controller: str, key: str) -> Generator[None]:
    """Lines written inside say which controller works on which object."""
    token = _context.set(f"controller={controller} object={key} ")
    try:
        yield
    finally:
        _context.reset(token)


class LineFormatter(logging.Formatter):
    """Keeps a record on one line; only tracebacks take more, indented."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\n", "\\n")
        line = (
            f"{rfc3339_micro(record.created)} {record.levelname.lower()} "
            f"logger={record.name} {_context.get()}{message}"
        )
        if record.exc_info:
            line += "\n  " + self.formatException(record.exc_info).replace("\n", "\n  ")
        return line


def configure_logging(level: int = logging.INFO) -> None:
    """Send all records of this process to standard error in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
