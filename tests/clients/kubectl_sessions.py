"""Sessions at a terminal, written down with what they print: the same text from both API servers.

A file of `tests/clients/sessions` is one session. `$ command` is given to bash, `~ command` until it prints what is
expected (20 seconds at most), `> ` continues a command; the lines below are the expected output, standard error
included. In them `...` stands for any lines and `[..]` for anything within a line; `embedded| ` and `real| ` begin a
line that only one server prints. A failing command prints `[exit CODE]` last. `# ` begins prose; `# needs: pods` asks
for nodes that run processes. An empty line goes before each command and all prose. Before outputs are compared, what changes from run to run is replaced (see `settled`),
runs of spaces become two, and empty lines go.

Each session has a namespace of its own, `$NAMESPACE`, which is also the one of its kubeconfig.

    python -m tests.clients.kubectl_sessions --kubeconfig FILE [--which real] [--record] [--tools FOLDER] [SESSION...]

`--record` writes what a server prints into the steps that are not as expected.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

SESSIONS = Path(__file__).parent / "sessions"
STEP_SECONDS = 60.0
EVENTUALLY_SECONDS = 20.0
NUMBERS = itertools.count(1)
_ONLY = re.compile(r"(embedded|real)\| ?(.*)")
# Of what API machinery makes random names.
_RANDOM = "bcdfghjklmnpqrstvwxz2456789"
_SETTLED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Helm ends its own watch and complains of that when it reads one event more just then.
        (r"(?m)^I\d{4} .* \"Warning: watch ended with error\".*context canceled.*\n", ""),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
        (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
        (r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}", "<time>"),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} UTC", "<time>"),
        (r"https://\d+\.\d+\.\d+\.\d+:\d+", "<server>"),
        (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b(?!/)", "<address>"),
        (r'(resourceVersion"?: )"\d+"', r"\1<version>"),
        (rf"-[{_RANDOM}]{{8,10}}-[{_RANDOM}]{{5}}\b", "-<hash>-<id>"),
        (rf"-[{_RANDOM}]{{8,10}}\b", "-<hash>"),
        (rf"(pod-template-hash\"?[=:] ?\"?)[{_RANDOM}]{{8,10}}\b", r"\1<hash>"),
        (rf"-[{_RANDOM}]{{5}}\b", "-<id>"),
        (r"(?<![\w./-])\d+(s|m|h|d)(\d+[smh])?(?![\w.-])", "<age>"),
        (r"<age> \(x\d+ over <age>\)", "<age>"),
        (r"(?<=\S)[ \t]{2,}", "  "),
    )
)


@dataclass(frozen=True)
class Step:
    """One command and its expected lines. line: its number in the file, from 0. end: of its expectation."""

    command: str
    expected: tuple[str, ...]
    patient: bool
    line: int
    begin: int
    end: int


@dataclass(frozen=True)
class Session:
    path: Path
    needs: frozenset[str]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass
class Failure:
    """A step whose output is not the expected one."""

    step: Step
    output: list[str] = field(default_factory=list)

    def told(self, session: Session) -> str:
        expected, output = "\n    ".join(self.step.expected), "\n    ".join(self.output)
        place = f"{session.path.name}:{self.step.line + 1}"
        return f"{place}: {self.step.command}\n  expected:\n    {expected}\n  printed:\n    {output}"


def read_session(path: Path) -> Session:
    """Raises ValueError for a line that belongs to no step."""
    lines = path.read_text().splitlines()
    needs: set[str] = set()
    steps: list[Step] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("# needs:"):
            needs.update(line.removeprefix("# needs:").split())
        if line.startswith("#") or not line:
            number += 1
            continue
        if not line.startswith(("$ ", "~ ")):
            raise ValueError(f"{path.name}:{number + 1}: belongs to no command: {line}")
        begin = number + 1
        while begin < len(lines) and (lines[begin].startswith("> ") or lines[begin] == ">"):
            begin += 1
        end = begin
        while end < len(lines) and (lines[end - 1] or not lines[end].startswith(("$ ", "~ ", "# "))):
            end += 1
        command = "\n".join([line[2:], *(each[2:] for each in lines[number + 1 : begin])])
        expected = tuple(each for each in lines[begin:end] if each.strip())
        steps.append(Step(command, expected, line.startswith("~"), number, begin, end))
        number = end
    return Session(path, frozenset(needs), tuple(steps))


def all_sessions(folder: Path = SESSIONS) -> list[Session]:
    """By name."""
    return [read_session(path) for path in sorted(folder.glob("*.session"))]


def settled(output: str, namespace: str) -> list[str]:
    """Lines without what changes from run to run: names of the namespace, addresses, ages, times, random names."""
    text = output.replace(namespace, "<namespace>")
    for pattern, replacement in _SETTLED:
        text = pattern.sub(replacement, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _expected_of(step: Step, which: str) -> list[str]:
    lines: list[str] = []
    for line in step.expected:
        found = _ONLY.fullmatch(line)
        if found is None:
            lines.append(line.rstrip())
        elif found.group(1) == which:
            lines.append(found.group(2).rstrip())
    return lines


def _line_pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("[..]")) + "\n"


def matches(expected: Sequence[str], output: Sequence[str]) -> bool:
    """Whether the output is as expected; see the module for `...` and `[..]`."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else _line_pattern(line) for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in output)) is not None


class Terminal:
    """A folder with a home, a kubeconfig for one namespace, and the clients to be tried first on its PATH."""

    def __init__(self, folder: Path, clients: dict[str, Path], kubeconfig: Path, which: str) -> None:
        self.which = which
        self.namespace = f"s{os.getpid()}-{next(NUMBERS)}"
        self._folder = folder / self.namespace
        self._folder.mkdir(parents=True)
        tools = self._folder / "bin"
        tools.mkdir()
        for name, program in clients.items():
            (tools / name).symlink_to(program)
        document = yaml.safe_load(kubeconfig.read_text())
        document["contexts"][0]["context"]["namespace"] = self.namespace
        (self._folder / "kubeconfig").write_text(yaml.safe_dump(document))
        work = self._folder / "work"
        work.mkdir()
        self._environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            # Shared, for the clients' cache of what a server serves.
            "HOME": str(folder),
            "KUBECONFIG": str(self._folder / "kubeconfig"),
            "NAMESPACE": self.namespace,
            "CHART": str(SESSIONS.parent / "chart"),
            "COLUMNS": "200",
        }

    def run(self, command: str, seconds: float = STEP_SECONDS) -> list[str]:
        """The settled output of a command, with its exit code if that is not 0."""
        try:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=self._folder / "work",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return [*settled((error.stdout or b"").decode(errors="replace"), self.namespace), "[timeout]"]
        lines = settled(done.stdout.decode(errors="replace"), self.namespace)
        return [*lines, f"[exit {done.returncode}]"] if done.returncode else lines

    def open(self) -> None:
        """Make the namespace and wait for its service account. Raises RuntimeError if there is none."""
        command = 'kubectl create namespace "$NAMESPACE" && kubectl wait --for=create serviceaccount/default --timeout=30s'
        output = self.run(command)
        if any(line.startswith("[") for line in output):
            raise RuntimeError("\n".join(output))

    def close(self) -> None:
        """Delete the namespace; its end is not waited for."""
        self.run('kubectl delete namespace "$NAMESPACE" --wait=false')
        shutil.rmtree(self._folder, ignore_errors=True)


def _run_step(terminal: Terminal, step: Step) -> Failure | None:
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    expected = _expected_of(step, terminal.which)
    while True:
        output = terminal.run(step.command)
        if matches(expected, output):
            return None
        if not step.patient or time.monotonic() > deadline:
            return Failure(step, output)
        time.sleep(0.1)


def run_session(session: Session, terminal: Terminal) -> list[Failure]:
    """The steps that did not print what is expected; all are tried."""
    terminal.open()
    try:
        return [failure for step in session.steps if (failure := _run_step(terminal, step)) is not None]
    finally:
        terminal.close()


def record(session: Session, failures: Sequence[Failure]) -> None:
    """Write what was printed into the session's file."""
    lines = session.path.read_text().splitlines()
    for failure in reversed(failures):
        blank = [""] if failure.step.end < len(lines) else []
        lines[failure.step.begin : failure.step.end] = [*failure.output, *blank]
    session.path.write_text("\n".join(lines) + "\n")


def _chosen(names: Sequence[str]) -> Iterator[Session]:
    for session in all_sessions():
        if not names or session.name in names:
            yield session


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("sessions", nargs="*")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--which", default="embedded", choices=["embedded", "real"])
    parser.add_argument("--tools", type=Path, required=True, help="folder with kubectl and helm")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--have", default="", help="such as pods")
    options = parser.parse_args()
    clients = {name: options.tools / name for name in ("kubectl", "helm") if (options.tools / name).exists()}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for session in _chosen(options.sessions):
            if not session.needs <= set(options.have.split()):
                continue
            begin = time.monotonic()
            failures = run_session(
                session, Terminal(Path(folder), clients, options.kubeconfig, options.which)
            )
            failed += len(failures)
            for failure in failures:
                print(failure.told(session))
            print(
                f"{session.name}: {len(failures)} of {len(session.steps)} differ, {time.monotonic() - begin:.1f} s"
            )
            if options.record:
                record(session, failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
