"""Two small C programs of the nodes, compiled once on this machine with its own compiler.

`bind.c` gives pods their own addresses in programs that use the C library; `init.c` is a container's first process.
Where there is no C compiler, pods run without the first (docs/decisions/0011 says what that costs), and the init is
a Python process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

_SOURCES = Path(__file__).parent
_FLAGS = {
    "bind.so": ("bind.c", ("-shared", "-fPIC", "-O2", "-Wl,--as-needed"), ("-ldl",)),
    "init": ("init.c", ("-O2", "-static"), ()),
}


class NativePrograms(NamedTuple):
    """Paths, empty where missing; message: why."""

    bind_library: str = ""
    init: str = ""
    message: str = ""


def compile_programs(cache: Path) -> NativePrograms:
    """The programs, compiled into cache where they are not there yet. Never raises: the message says what failed."""
    built: dict[str, str] = {}
    messages: list[str] = []
    for name, (source, flags, libraries) in _FLAGS.items():
        text = (_SOURCES / source).read_bytes()
        digest = hashlib.sha256(text + repr(flags).encode() + os.uname().machine.encode()).hexdigest()[:12]
        target = cache / "native" / f"{digest}-{name}"
        message = "" if target.exists() else _compile(_SOURCES / source, target, flags, libraries)
        if message:
            messages.append(message)
        else:
            built[name] = str(target)
    return NativePrograms(built.get("bind.so", ""), built.get("init", ""), "; ".join(messages))


def _compile(source: Path, target: Path, flags: tuple[str, ...], libraries: tuple[str, ...]) -> str:
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
    if not compiler:
        return "no C compiler on this machine (looked for cc, gcc, clang)"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            unfinished = Path(scratch) / target.name
            failure = ""
            # Not every machine has a C library to link statically.
            for attempt in (flags, tuple(flag for flag in flags if flag != "-static")):
                result = subprocess.run(
                    [compiler, *attempt, "-o", str(unfinished), str(source), *libraries],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                if result.returncode == 0:
                    unfinished.replace(target)
                    return ""
                failure = result.stderr.strip()[:300]
            return f"{compiler} failed on {source.name}: {failure}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"compiling {source.name}: {error}"
