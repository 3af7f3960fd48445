"""Build the real control plane and the clients in Go that Kajitori is tried against: `make kubernetes`.

One Go module (this folder) holds them all, so that each dependency is compiled once. What comes out lies in a cache
outside the checkout, in a folder named by the sources; Go's own caches make a rebuild after a change a link only.
A cold build takes some 400 CPU seconds.
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

VERSION = "v1.36.3"
PUBLISHED = "2026-07-22T18:07:38Z"
SOURCE = Path(__file__).parent
PROGRAMS = ("kubernetes-control-plane", "helm", "client", "manager")
# The names under which the control plane's binary is also called.
PARTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubectl")


def cache_folder() -> Path:
    """Where built programs are kept: KAJITORI_CACHE, or the user's cache."""
    root = os.environ.get("KAJITORI_CACHE")
    if root:
        return Path(root) / "kubernetes"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kajitori" / "kubernetes"


def have_go() -> bool:
    """Whether anything can be built here."""
    return shutil.which("go") is not None


def _digest() -> str:
    files = sorted([*SOURCE.rglob("*.go"), SOURCE / "go.mod", SOURCE / "go.sum"])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(SOURCE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _link_flags() -> str:
    flags = ["-s", "-w"]
    major, minor = VERSION.removeprefix("v").split(".")[:2]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        facts = {
            "gitVersion": VERSION,
            "gitMajor": major,
            "gitMinor": minor,
            "gitCommit": "unknown",
            "gitTreeState": "clean",
            "buildDate": PUBLISHED,
        }
        flags += [f"-X {package}.{name}={value}" for name, value in facts.items()]
    return " ".join(flags)


def build() -> Path:
    """The folder of the built programs; builds them if these sources have not been built yet.

    Safe to call from several processes: one builds, the others wait. Raises CalledProcessError if Go fails.
    """
    root = cache_folder()
    folder = root / f"{VERSION}-{_digest()}"
    if folder.exists():
        return folder
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
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -trimpath -mod=readonly",
        "GOTOOLCHAIN": "local",
    }
    begin = time.monotonic()
    print(f"building Kubernetes {VERSION} from Go modules (minutes, once) ...", file=sys.stderr, flush=True)
    packages = [f"./{name.removeprefix('kubernetes-')}" for name in PROGRAMS]
    subprocess.run(
        ["go", "build", "-ldflags", _link_flags(), "-o", str(scratch), *packages],
        cwd=SOURCE,
        env=environment,
        check=True,
    )
    (scratch / "control-plane").rename(scratch / "kubernetes-control-plane")
    for part in PARTS:
        (scratch / part).symlink_to("kubernetes-control-plane")
    scratch.rename(folder)
    print(f"built in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(build())
