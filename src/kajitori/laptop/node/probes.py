"""Probes: one attempt each of http, tcp, exec and grpc, and the counting that turns attempts into results.

An attempt answers `Outcome`. `ProbeCounter` is pure: thresholds turn outcomes into healthy or not.

Source: Kubernetes API reference, Probe; documentation, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from kajitori.api.kubernetes.core_v1 import Container, HTTPGetAction, Probe
from kajitori.base.errors import KajitoriError
from kajitori.laptop.node.grpc_health import check_health
from kajitori.laptop.node.runner_client import RunnerError, RunnerLost

MESSAGE_BYTES = 1024
USER_AGENT = "kube-probe/1.36"

# Runs a command in the container: argv -> exit code and output.
RunInContainer = Callable[[list[str]], Awaitable[tuple[int, str]]]


class Outcome(NamedTuple):
    success: bool
    message: str = ""


class ProbeTarget(NamedTuple):
    """What a probe is aimed at. address: of the pod. run: a command in the container."""

    container: Container
    address: str
    run: RunInContainer


def resolve_port(container: Container, port: int | str | None) -> int:
    """A port number, or the container's port of that name. Raises KajitoriError."""
    if isinstance(port, int) or (port or "").isdecimal():
        return int(port or 0)
    for each in container.ports:
        if each.name == port:
            return each.container_port
    raise KajitoriError(f'no port is called "{port}"', where=f"container {container.name}")


async def attempt(probe: Probe, target: ProbeTarget) -> Outcome:
    """One attempt within the probe's timeout. Never raises but for cancellation."""
    timeout_seconds = float(probe.timeout_seconds or 1)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _attempt(probe, target)
    except TimeoutError:
        kind = "command" if probe.exec else "connection"
        return Outcome(False, f"{kind} timed out after {timeout_seconds:g}s")
    except (OSError, ssl.SSLError, RunnerError, RunnerLost, KajitoriError) as error:
        return Outcome(False, _connection_message(error, target.address))


def _connection_message(error: Exception, address: str) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {address}: connect: connection refused"
    return str(error)


async def _attempt(probe: Probe, target: ProbeTarget) -> Outcome:
    if probe.http_get:
        return await http_get(probe.http_get, target)
    if probe.tcp_socket:
        host = probe.tcp_socket.host or target.address
        port = resolve_port(target.container, probe.tcp_socket.port)
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return Outcome(True)
    if probe.exec:
        code, output = await target.run(probe.exec.command)
        return Outcome(code == 0, output if code == 0 else output or f"command ended with exit code {code}")
    if probe.grpc:
        serving = await check_health(target.address, probe.grpc.port, probe.grpc.service)
        return Outcome(
            serving, "" if serving else "service unhealthy (responded with a state other than SERVING)"
        )
    return Outcome(True)


async def http_get(action: HTTPGetAction, target: ProbeTarget) -> Outcome:
    """Success for any status from 200 to 399. Raises OSError."""
    host = action.host or target.address
    port = resolve_port(target.container, action.port)
    path = action.path or "/"
    path = path if path.startswith("/") else f"/{path}"
    context: ssl.SSLContext | None = None
    if (action.scheme or "HTTP").upper() == "HTTPS":
        context = _unverified()
    given = {header.name.lower(): header.value for header in action.http_headers}
    headers = [
        f"Host: {given.pop('host', f'{host}:{port}')}",
        f"User-Agent: {given.pop('user-agent', USER_AGENT)}",
        f"Accept: {given.pop('accept', '*/*')}",
        "Connection: close",
        *(f"{header.name}: {header.value}" for header in action.http_headers if header.name.lower() in given),
    ]
    request = f"GET {path} HTTP/1.1\r\n" + "\r\n".join(headers) + "\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(request.encode("utf-8", "surrogateescape"))
        parts = (await reader.readline()).split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
            return Outcome(False, "the answer is not HTTP")
        status = int(parts[1])
        if 200 <= status < 400:
            return Outcome(True)
        body = await _read_body(reader)
        return Outcome(False, f"HTTP probe failed with statuscode: {status}" + (f": {body}" if body else ""))
    finally:
        writer.transport.abort()


async def _read_body(reader: asyncio.StreamReader) -> str:
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        await reader.readuntil(b"\r\n\r\n")
        return (await reader.read(MESSAGE_BYTES)).decode(errors="replace").strip()
    return ""


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def run_with_output(execute: Callable[[list[int]], Awaitable[int]]) -> tuple[int, str]:
    """Run something that writes to descriptors (stdin, stdout, stderr); its exit code and the first of its output."""
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    os.set_blocking(reader, False)
    output = bytearray()

    def drain() -> None:
        try:
            data = os.read(reader, 65536)
        except BlockingIOError:
            return
        output.extend(data[: MESSAGE_BYTES - len(output)])
        if not data:
            loop.remove_reader(reader)

    loop.add_reader(reader, drain)
    try:
        try:
            code = await execute([null, writer, writer])
        finally:
            os.close(writer)
            os.close(null)
        drain()
        return code, output.decode(errors="replace").strip()
    finally:
        loop.remove_reader(reader)
        os.close(reader)


class ProbeCounter:
    """Turns attempts into a result by thresholds: None while undecided, then healthy or not."""

    def __init__(self, probe: Probe, initial: bool | None = None) -> None:
        self._success_threshold = probe.success_threshold or 1
        self._failure_threshold = probe.failure_threshold or 3
        self._run_of: bool | None = None
        self._count = 0
        self.healthy = initial

    def count(self, success: bool) -> bool:
        """Count an attempt; whether the result changed or, for a failing probe, was confirmed."""
        self._count = self._count + 1 if self._run_of == success else 1
        self._run_of = success
        if self._count < (self._success_threshold if success else self._failure_threshold):
            return False
        changed = self.healthy != success
        self.healthy = success
        return changed
