"""`python -m tests.fuzz.run_atheris [--reader NAME] [libFuzzer's options] [CORPUS]`: what covers more of the readers is
found by coverage. Without a name the first byte of each input chooses the reader.

`make fuzz` runs each for a while, with a corpus that is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

# To rewrite all that is imported takes a quarter of a minute; a test of this module itself can do without.
_REWRITTEN = ["kajitori.gateway", "kajitori.app.standalone", "kajitori.cli", "kajitori.base"]
_BLIND = "KAJI_FUZZ_BLIND" in os.environ

with (
    contextlib.nullcontext()
    if _BLIND
    else atheris.instrument_imports(_REWRITTEN, enable_loader_override=False)
):
    from tests.fuzz.readers import READERS, SEEDS


def write_seeds(folder: Path, name: str) -> None:
    """Good inputs to begin with. name: of a reader; empty for all, each behind the byte that chooses it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, reader in enumerate(READERS):
        for place, seed in enumerate(SEEDS[reader]):
            if name in ("", reader):
                path = folder / f"seed-{number}-{place}"
                path.write_bytes(seed if name else bytes([number]) + seed)


def main(arguments: list[str]) -> None:
    logging.disable(logging.CRITICAL)
    name = ""
    if arguments[:1] == ["--reader"]:
        name, arguments = arguments[1], arguments[2:]
    readers = list(READERS.values())

    def read(data: bytes) -> None:
        if name:
            READERS[name](data)
        elif data:
            readers[data[0] % len(readers)](data[1:])

    with tempfile.TemporaryDirectory(prefix="kaji-seeds-") as folder:
        write_seeds(Path(folder), name)
        atheris.Setup([sys.argv[0], *arguments, folder], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
