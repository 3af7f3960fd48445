"""No bytes break whoever reads them. By coverage, and for longer: `make fuzz`.

More of it by hand: `KAJI_FUZZ_RUNS=100000 pytest -n0 tests/fuzz/test_readers.py`, or others: `KAJI_FUZZ_SEED=1000000`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.mutation import mutations
from tests.fuzz.readers import READERS, SEEDS

RUNS = int(os.environ.get("KAJI_FUZZ_RUNS", "250"))
SEED = int(os.environ.get("KAJI_FUZZ_SEED", "1"))
# A plan, a file that is forced to the disk, or a compiler each time.
SLOW = {"secrets": 20, "journals": 5, "CEL": 3, "manifests": 3, "policies": 3, "answers in Lua": 2}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Each line that cannot be read is told, which is right and of no interest here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", READERS)
def test_no_bytes_break_who_reads_them(name: str) -> None:
    for data in mutations(SEEDS[name], RUNS // SLOW.get(name, 1), SEED):
        try:
            READERS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} fails by {data[:1000]!r}") from error


def test_the_fuzzer_finds_its_readers(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzz.run_atheris", "--reader", "usage", "-runs=300", "-seed=1"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "KAJI_FUZZ_BLIND": "1"}
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr
