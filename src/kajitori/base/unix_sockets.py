"""Names of Unix sockets that are short enough for the kernel, wherever a cluster's home lies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def short_path(path: Path) -> Generator[str]:
    """A name of the socket that stays below the 108 bytes to which such names are limited, while this is open.

    It leads through a descriptor of the socket's folder. Raises OSError where there is no such folder.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
