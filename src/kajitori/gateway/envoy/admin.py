"""Envoy's administration socket, for what its accountant asks of it: a request, an answer, no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

_PATIENCE_SECONDS = 5.0


async def reopen_logs(socket: Path) -> None:
    """Has Envoy close its log files and open them anew. Raises OSError if it cannot be asked."""
    await _ask(socket, "POST", "/reopen_logs")


async def failed_log_writes(socket: Path) -> int:
    """How often Envoy could not write what it had for its log. Raises OSError if it cannot be asked."""
    text = await _ask(socket, "GET", "/stats?type=Counters&filter=%5Efilesystem%5C.write_failed")
    _, found, count = text.rpartition("filesystem.write_failed:")
    return int(count.split()[0]) if found else 0


async def _ask(socket: Path, method: str, path: str) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(
                    f"{method} {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
                )
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
    except TimeoutError:
        raise OSError(f"no answer within {_PATIENCE_SECONDS:.0f} s") from None
    if " 200 " not in head.partition("\r\n")[0]:
        raise OSError(f"{method} {path} was answered with {head.partition(chr(13))[0]!r}")
    return body
