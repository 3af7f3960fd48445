"""Readers by name, with good inputs of each, and where they may write."""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

Reader = Callable[[bytes], None]
READERS: dict[str, Reader] = {}
SEEDS: dict[str, tuple[bytes, ...]] = {}


def reads(name: str, *seeds: bytes) -> Callable[[Reader], Reader]:
    def add(reader: Reader) -> Reader:
        READERS[name], SEEDS[name] = reader, seeds
        return reader

    return add


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@cache
def folder() -> Path:
    """Of this process, for whatever a reader keeps."""
    kept = tempfile.TemporaryDirectory(prefix="kaji-fuzz-")
    atexit.register(kept.cleanup)
    return Path(kept.name)


@cache
def loop() -> asyncio.AbstractEventLoop:
    found = asyncio.new_event_loop()
    atexit.register(found.close)
    return found
