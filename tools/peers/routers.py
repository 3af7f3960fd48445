"""Routers of other projects that ours is measured beside, from their packages: `python -m tools.peers.routers`.

They get an environment of their own in the cache, since nothing of ours needs them. `routers.in` names them, `routers.txt` has
all that they need with hashes: `uv pip compile --universal --generate-hashes --no-header routers.in -o routers.txt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.kubernetes.build import cache_folder  # noqa: E402

REQUIREMENTS = Path(__file__).parent / "routers.txt"


def install() -> Path:
    """The folder of their programs; a minute or so the first time. Raises CalledProcessError where pip fails."""
    root = cache_folder().parent / "peers"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"routers-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
            subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
            done.touch()
    return folder / "bin"


def vllm_router(programs: Path, port: int, workers: list[int]) -> list[str]:
    """Round robin over workers; it checks no key and looks at no model."""
    urls = [f"http://127.0.0.1:{worker}" for worker in workers]
    options = ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    return [str(programs / "vllm-router"), *options, "--worker-urls", *urls]


def smg(programs: Path, port: int, key: str) -> list[str]:
    """By model, with a key; its workers are registered at `/workers`."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--enable-igw", "--api-key", key]
    return [str(programs / "smg"), "launch", *options, "--policy", "round_robin"]


if __name__ == "__main__":
    print(install())
