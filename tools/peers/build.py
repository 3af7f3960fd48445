"""Build controllers of other projects that ours are measured beside: `python tools/peers/build.py`.

Not part of `make kubernetes` nor of any test: a program that measures builds what it needs, and without Go goes
without. One Go module (this folder) names them as its tools; what comes out lies in a cache, in a folder named by
the module's sums.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.kubernetes.build import cache_folder  # noqa: E402

SOURCE = Path(__file__).parent
LWS_MODULE = "sigs.k8s.io/lws"
# Name of the program and the package that it is built from.
PROGRAMS = {"lws-manager": f"{LWS_MODULE}/cmd"}


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -trimpath -mod=readonly",
        "GOTOOLCHAIN": "local",
    }


def module_folder(module: str) -> Path:
    """Where the module's own files lie, such as its definitions. Raises CalledProcessError if it cannot be had."""
    subprocess.run(["go", "mod", "download", module], cwd=SOURCE, env=_environment(), check=True)
    words = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    done = subprocess.run(words, cwd=SOURCE, env=_environment(), check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def build() -> Path:
    """The folder of the built programs; builds them if these versions have not been built yet.

    Some 100 CPU seconds where Kubernetes' own packages are compiled already. Raises CalledProcessError if Go fails.
    """
    root = cache_folder().parent / "peers"
    digest = hashlib.sha256(
        b"\0".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "build.py"))
    ).hexdigest()[:16]
    folder = root / digest
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build_into(folder)
    return folder


def _build_into(folder: Path) -> None:
    scratch = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    begin = time.monotonic()
    print(f"building {', '.join(PROGRAMS)} from Go modules ...", file=sys.stderr, flush=True)
    for name, package in PROGRAMS.items():
        subprocess.run(
            ["go", "build", "-ldflags", "-s -w", "-o", str(scratch / name), package],
            cwd=SOURCE,
            env=_environment(),
            check=True,
        )
    scratch.rename(folder)
    print(f"built in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(build())
