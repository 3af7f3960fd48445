"""Requests that are no HTTP: aiohttp answers them by itself and logs each with a traceback, as if we had failed.

Anybody who can connect could fill the disk so; a line that says who and why is enough.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

LONGEST_REASON = 200


def _in_one_line(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        reason = " ".join(error.message.split())
        record.msg, record.args = "refused what is no HTTP: %.*r", (LONGEST_REASON, reason)
    return True


def log_in_one_line() -> None:
    """From now on, in this process; again is no different."""
    logging.getLogger("aiohttp.server").addFilter(_in_one_line)
