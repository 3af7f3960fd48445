"""Running other people's clients as processes."""

from __future__ import annotations

import subprocess
from pathlib import Path


def checks_of(program: Path, kubeconfig: Path, folder: Path, seconds: float) -> list[str]:
    """The lines of a program of ours in Go that tells each check as `ok   name` or `FAIL name: why`.

    Fails with the lines if one is not ok. Raises subprocess.TimeoutExpired.
    """
    done = subprocess.run(
        [str(program), "-kubeconfig", str(kubeconfig)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join([*lines, done.stderr[-3_000:]])
    return lines
