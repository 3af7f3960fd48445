"""The runner with real processes: starting, ending, killing, logging, entering."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.conftest import RunningRunner, running_runner, until

from kajitori.laptop.node import runner_client
from kajitori.laptop.node.runner_client import RunnerError


def processes_with(marker: str) -> list[int]:
    """Process ids whose command line holds the marker."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                text = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in text and int(name) != os.getpid():
                found.append(int(name))
    return found


@pytest.fixture
def null_device() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


async def test_the_exit_code_of_a_container_is_its_commands(any_runner: RunningRunner) -> None:
    await any_runner.client.start(any_runner.container("c", ["sh", "-c", "exit 7"]))
    record = await any_runner.end_of("c")
    assert record.exit_code == 7
    assert record.state == "exited"
    assert 0 < record.started_at <= record.finished_at


async def test_output_is_logged_by_stream_and_line(any_runner: RunningRunner) -> None:
    await any_runner.client.start(
        any_runner.container("c", ["sh", "-c", "echo one; echo two >&2; printf three"])
    )
    await any_runner.end_of("c")
    lines = [line.split(" ", 1)[1] for line in any_runner.log("c").splitlines()]
    assert sorted(lines) == ["stderr F two", "stdout F one", "stdout P three"]


async def test_a_command_without_handlers_ends_by_sigterm(any_runner: RunningRunner) -> None:
    await any_runner.client.start(any_runner.container("c", ["sleep", "1000"]))
    await any_runner.client.call("signal", container="c", signal=signal.SIGTERM)
    assert (await any_runner.end_of("c")).exit_code == 128 + signal.SIGTERM


async def test_killing_a_container_kills_what_escaped_from_its_session(any_runner: RunningRunner) -> None:
    marker = f"9{os.getpid()}.{id(any_runner)}"
    script = f"setsid sh -c 'sleep {marker} & sleep {marker} & wait' & sleep {marker}"
    await any_runner.client.start(any_runner.container("c", ["sh", "-c", script]))
    await until(lambda: len(processes_with(f"sleep\0{marker}")) == 3)
    await any_runner.client.call("kill", container="c")
    await any_runner.end_of("c")
    await until(lambda: not processes_with(marker))


async def test_the_end_of_the_command_ends_what_it_left_behind(any_runner: RunningRunner) -> None:
    marker = f"8{os.getpid()}.{id(any_runner)}"
    script = f"setsid sleep {marker} >/dev/null 2>&1 </dev/null & exit 3"
    await any_runner.client.start(any_runner.container("c", ["sh", "-c", script]))
    assert (await any_runner.end_of("c")).exit_code == 3
    await until(lambda: not processes_with(marker))


async def test_everything_dies_with_a_killed_runner(any_runner: RunningRunner) -> None:
    marker = f"7{os.getpid()}.{id(any_runner)}"
    for name in ("a", "b"):
        script = f"setsid sleep {marker} & sleep {marker}"
        await any_runner.client.start(any_runner.container(name, ["sh", "-c", script]))
    await until(lambda: len(processes_with(f"sleep\0{marker}")) == 4)
    assert any_runner.process is not None
    any_runner.process.kill()
    any_runner.process.wait()
    await until(lambda: any_runner.losses)
    await until(lambda: not processes_with(marker))


async def test_a_stopped_runner_ends_its_containers_first(any_runner: RunningRunner) -> None:
    marker = f"6{os.getpid()}.{id(any_runner)}"
    await any_runner.client.start(any_runner.container("c", ["sleep", marker]))
    any_runner.stop_process()
    assert not processes_with(marker)


async def test_a_command_that_does_not_exist_is_refused_by_name(any_runner: RunningRunner) -> None:
    with pytest.raises(RunnerError, match='exec: "nonesuch": executable file not found') as caught:
        await any_runner.client.start(any_runner.container("c", ["nonesuch"]))
    assert caught.value.exit_code == 128
    assert (await any_runner.client.call("list"))["containers"] == []
    with pytest.raises(RunnerError, match="no such file"):
        await any_runner.client.start(any_runner.container("c", ["/no/such/program"]))


async def test_a_command_inside_a_container_gives_its_exit_code(any_runner: RunningRunner) -> None:
    await any_runner.client.start(any_runner.container("c", ["sleep", "1000"], environment={"COLOUR": "red"}))
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    code = await any_runner.client.execute("c", ["sh", "-c", "echo $COLOUR; exit 9"], [null, writer, writer])
    os.close(writer)
    os.close(null)
    with os.fdopen(reader, "rb") as output:
        assert output.read() == b"red\n"
    assert code == 9
    with pytest.raises(RunnerError, match="not found"):
        await any_runner.client.execute("c", ["nonesuch"], [0, 1, 2])


async def test_a_cancelled_command_is_killed(any_runner: RunningRunner, null_device: int) -> None:
    marker = f"5{os.getpid()}.{id(any_runner)}"
    await any_runner.client.start(any_runner.container("c", ["sleep", "1000"]))
    task = asyncio.create_task(
        any_runner.client.execute("c", ["sh", "-c", f"sleep {marker}; true"], [null_device] * 3)
    )
    await until(lambda: processes_with(marker))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not processes_with(marker))


async def test_commands_inside_a_container_die_with_it(any_runner: RunningRunner, null_device: int) -> None:
    marker = f"4{os.getpid()}.{id(any_runner)}"
    await any_runner.client.start(any_runner.container("c", ["sleep", "1000"]))
    task = asyncio.create_task(any_runner.client.execute("c", ["sleep", marker], [null_device] * 3))
    await until(lambda: processes_with(marker))
    await any_runner.client.call("kill", container="c")
    assert await task == 128 + signal.SIGKILL
    assert not processes_with(marker)


async def test_an_agent_that_was_away_learns_how_containers_ended(home: Path) -> None:
    async with running_runner(home) as first:
        await first.client.start(first.container("short", ["sh", "-c", "sleep 0.1; exit 5"]))
        await first.client.start(first.container("long", ["sleep", "1000"]))
        second = RunningRunner(home)
        await first.end_of("short")
        task = asyncio.create_task(second.client.run())
        await until(lambda: second.connections)
        assert second.records["short"].exit_code == 5
        assert second.records["short"].labels == {"pod": "web"}
        assert second.records["long"].state == "running"
        await second.client.call("forget", container="short")
        with pytest.raises(RunnerError, match="running"):
            await second.client.call("forget", container="long")
        task.cancel()


class _ScriptedRunner:
    """Answers as a runner does, at the moments that a test chooses."""

    def __init__(self, home: Path, *, silent: int = 0) -> None:
        self.heard = RunningRunner(home)
        self.connections = 0
        self._path = home / "run" / "node-1-runner.sock"
        self._silent = silent

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        record = {"name": "c", "labels": {}, "started_at": 1.0, "finished_at": 0.0, "exit_code": 0, "log": ""}
        running, exited = {**record, "state": "running"}, {**record, "state": "exited", "exit_code": 7}
        answers: dict[str, dict[str, Any]] = {"subscribe": {}, "info": {}, "list": {"containers": [running]}}
        while line := await reader.readline():
            request = json.loads(line)
            if self.connections <= self._silent:
                continue
            lines = [{"id": request["id"], **answers[request["op"]]}]
            if request["op"] == "list":
                lines.append({"event": "exit", "container": exited})
            writer.write(b"".join(json.dumps(each).encode() + b"\n" for each in lines))
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RunningRunner]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        client = asyncio.ensure_future(self.heard.client.run())
        try:
            yield self.heard
        finally:
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
            server.close()


async def test_a_container_that_ends_while_the_runner_lists_it_is_not_running_for_ever(home: Path) -> None:
    order: list[str] = []
    scripted = _ScriptedRunner(home)
    client = scripted.heard.client
    client._on_connected = lambda info, records: order.append(records[0].state)
    client._on_exit = lambda record: order.append(record.state)
    async with scripted.running():
        await until(lambda: len(order) == 2)
    assert order == ["running", "exited"]


async def test_a_runner_that_does_not_introduce_itself_is_asked_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_client, "_REPLY_TIMEOUT_SECONDS", 0.05)
    scripted = _ScriptedRunner(home, silent=1)
    async with scripted.running() as heard:
        await until(lambda: heard.connections)
    assert (scripted.connections, heard.losses) == (2, 2)


async def test_a_second_runner_of_a_node_is_refused(runner: RunningRunner) -> None:
    second = RunningRunner(runner.home)
    second.start_process()
    assert second.process is not None
    assert second.process.wait(20) == 1


async def test_input_reaches_an_attached_container(runner: RunningRunner) -> None:
    await runner.client.start(runner.container("c", ["sh", "-c", "read line; echo got $line"], stdin=True))
    out_reader, out_writer = os.pipe()
    err_reader, err_writer = os.pipe()
    terminal, stdin = await runner.client.attach("c", out_writer, err_writer)
    os.close(out_writer)
    os.close(err_writer)
    assert not terminal
    os.write(stdin, b"hello\n")
    os.close(stdin)
    await runner.end_of("c")
    with os.fdopen(out_reader, "rb") as output:
        assert output.read() == b"got hello\n"
    os.close(err_reader)


async def test_a_container_with_a_terminal_has_one(runner: RunningRunner) -> None:
    await runner.client.start(runner.container("c", ["sh", "-c", "tty; stty size"], terminal=True))
    assert (await runner.end_of("c")).exit_code == 0
    assert "stdout F /dev/pts/" in runner.log("c")
