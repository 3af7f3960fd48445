"""`python -m tests.fuzz.long_run FOLDER SECONDS [NAME...]`: each reader for a while, with a corpus in the folder that is kept
and an input that broke one beside it. Exits with 1 if one was broken.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fuzz.readers import READERS

_LONGEST_INPUT_SECONDS = 10


def main(folder: Path, seconds: int, names: list[str]) -> int:
    broken: list[str] = []
    for name in names or list(READERS):
        corpus = folder / name.replace(" ", "-")
        corpus.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={seconds}", f"-timeout={_LONGEST_INPUT_SECONDS}", "-max_len=8192", "-rss_limit_mb=2048",
            f"-artifact_prefix={corpus}-", "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        command = [sys.executable, "-m", "tests.fuzz.run_atheris", "--reader", name, *options, str(corpus)]
        print(f"== {name}: {seconds} s", flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            broken.append(name)
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
