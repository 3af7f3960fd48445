"""The local programs that stand for images: folders of executables, made in the cache on first use.

A folder is put first on a container's PATH, so `vllm`, `llama-server` or `python3` mean what they mean in
the image. The executables are lines of shell that start a module of this package with this interpreter.
A folder's name carries a hash of its contents: after an upgrade a new one is made, and running pods keep theirs.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import kajitori
from kajitori.base.errors import MissingDependency
from kajitori.engines.envoy import find_envoy

_PACKAGE = Path(kajitori.__file__).parent

# -E -P: neither PYTHON* variables of the container nor its working folder change our own programs.
# -S: no site-packages until a module asks for them; a worker of a simulated group starts in 15 ms this way.
_ISOLATED = f"exec {shlex.quote(sys.executable)} -E -P "
_PYTHON = f"exec {shlex.quote(sys.executable)} "


def _module(path: str, *flags: str) -> str:
    return _ISOLATED + shlex.join([*flags, str(_PACKAGE / "engines" / path)])


def _simulated_vllm() -> dict[str, str]:
    server = _module("simulated/__main__.py", "-S")
    api_server = "vllm.entrypoints.openai.api_server"
    python = (
        f'if [ "$1" = -m ] && [ "$2" = {api_server} ]; then shift 2; {server} serve "$@"; fi\n{_PYTHON}"$@"'
    )
    return {"vllm": f'{server} "$@"', "python": python, "python3": python}


def _llama_cpp() -> dict[str, str]:
    return {"llama-server": f'{_module("llamacpp.py")} "$@"'}


def _interpreter() -> dict[str, str]:
    python = f'{_PYTHON}"$@"'
    return {
        "python": python,
        "python3": python,
        "pip": f'{_PYTHON}-m pip "$@"',
        "torchrun": f'{_PYTHON}-m torch.distributed.run "$@"',
    }


def _pause() -> dict[str, str]:
    return {"pause": "trap 'kill $!; exit 0' TERM INT\nsleep infinity &\nwait"}


def _nothing() -> dict[str, str]:
    return {}


def _curl() -> dict[str, str]:
    if shutil.which("curl") is None:
        raise MissingDependency("curl is not installed on this machine", hint="install curl")
    return {}


def _kajitori() -> dict[str, str]:
    return {"kaji": f'{_ISOLATED}-m kajitori.cli "$@"', **_interpreter()}


def _envoy() -> dict[str, str]:
    binary = shlex.quote(str(find_envoy()))
    # Pods share this machine's abstract sockets, by which Envoys would take each other for one that restarts.
    alone = "--disable-hot-restart"
    start = f'case " $* " in *" {alone} "*) exec {binary} "$@";; *) exec {binary} {alone} "$@";; esac'
    # As the image's: options alone are Envoy's.
    entrypoint = 'case "$1" in -*|"") exec envoy "$@";; *) exec "$@";; esac'
    return {"envoy": start, "docker-entrypoint.sh": entrypoint}


_EXECUTABLES = {
    "simulated-vllm": _simulated_vllm,
    "llama.cpp": _llama_cpp,
    "python": _interpreter,
    "shell": _nothing,
    "pause": _pause,
    "curl": _curl,
    "kajitori": _kajitori,
    "envoy": _envoy,
}

# A real vLLM has executables of its own: see kajitori.engines.vllm.
ENGINES = ("vllm", *_EXECUTABLES)


def bin_folder(engine: str, cache: Path) -> str:
    """Folder with the executables of an engine other than a real vLLM, made where it is missing; empty where the machine's own PATH serves.

    Raises MissingDependency where the machine lacks the program, OSError where the cache cannot be written.
    """
    scripts = {name: f"#!/bin/sh\n{text}\n" for name, text in _EXECUTABLES[engine]().items()}
    if not scripts:
        return ""
    digest = hashlib.sha256(repr(sorted(scripts.items())).encode()).hexdigest()[:10]
    folder = cache / "bin" / f"{engine}-{digest}"
    if not folder.is_dir():
        _make(folder, scripts)
    return str(folder)


def _make(folder: Path, scripts: dict[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    unfinished.chmod(0o755)
    for name, text in scripts.items():
        path = unfinished / name
        path.write_text(text)
        path.chmod(0o755)
    try:
        os.rename(unfinished, folder)
    except OSError:
        # Another node made it between our look and our rename; its contents are the same by name.
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():
            raise
