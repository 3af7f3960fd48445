"""Every code block of the documentation runs, in order, as a reader would type it.

Blocks marked `sh` run in one bash for each file, from the root of the checkout, with a cluster up and `kaji` and
`python` of this environment first on PATH. Blocks marked `python` run in one interpreter for each file. Other
blocks (`text`, `yaml`) are pictures. A block that must not run here stands behind `<!-- not run: why -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.conftest import ROOT, Cluster, down, up

pytestmark = [pytest.mark.docs, pytest.mark.timeout(600), pytest.mark.xdist_group("port-8080")]

_BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^>]+ -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)


def blocks(page: Path, language: str) -> list[str]:
    return [
        match["code"]
        for match in _BLOCK.finditer(page.read_text())
        if match["language"] == language and not match["mark"]
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = up(tmp_path_factory.mktemp("docs") / "home")
    yield made
    down(made)


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize("page", pages_with("sh"), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_shell_blocks_run(page: Path, cluster: Cluster) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks(page, "sh"))
    # Pages speak of the default addresses; the test's cluster lives on ports of its own.
    script = script.replace("127.0.0.1:8080", f"127.0.0.1:{cluster.gateway_port}").replace(
        "~/.kaji", str(cluster.home)
    )
    environment = {
        **cluster.environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OPENAI_BASE_URL": cluster.gateway_url,
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_blocks_run(page: Path, cluster: Cluster) -> None:
    code = "\n".join(blocks(page, "python")).replace("127.0.0.1:8080", f"127.0.0.1:{cluster.gateway_port}")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_every_block_says_its_language() -> None:
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text()):
            assert match["language"], f"{page.relative_to(ROOT)}: a block without a language"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_found_from_a_table_of_contents() -> None:
    contents = (ROOT / "docs/README.md").read_text()
    for folder in ("tutorials", "how-to", "concepts", "reference"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert f"({folder}/{page.name})" in contents, f"docs/README.md does not lead to {page.name}"
    decisions = (ROOT / "docs/decisions/README.md").read_text()
    for page in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        assert f"({page.name})" in decisions, f"docs/decisions/README.md does not lead to {page.name}"
