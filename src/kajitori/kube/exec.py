"""Run a command in a container and collect what it says: `kubectl exec` without a terminal.

Over a WebSocket, in the protocol `v5.channel.k8s.io`: each message's first byte is the channel (1 stdout, 2 stderr,
3 the end as a Status). Source: the API server's remote command protocol.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp
import msgspec

from kajitori.api.resource import PODS
from kajitori.base.errors import ApiError, Unreachable
from kajitori.kube.transport import HttpTransport

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_OUT, _ERR, _END = 1, 2, 3


@dataclass(frozen=True)
class Executed:
    """How a command ended and what it wrote."""

    exit_code: int
    output: str
    errors: str


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: list[_Cause] = []


class _End(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""
    details: _Details = _Details()


async def execute(
    transport: HttpTransport,
    namespace: str,
    pod: str,
    command: list[str],
    *,
    container: str = "",
    timeout_seconds: float = 30.0,
) -> Executed:
    """Run it to its end. Raises Unreachable, or ApiError where the API server or the node refuses."""
    query = [("command", word) for word in command]
    query += [("stdout", "true"), ("stderr", "true")]
    if container:
        query.append(("container", container))
    target = f"{PODS.path(namespace, pod, 'exec')}?{urlencode(query)}"
    parts: dict[int, list[bytes]] = {_OUT: [], _ERR: [], _END: []}
    try:
        async with asyncio.timeout(timeout_seconds):
            async with transport.websocket(target, _PROTOCOLS) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY and message.data:
                        parts.get(message.data[0], []).append(message.data[1:])
    except TimeoutError:
        raise Unreachable(
            f"no end within {timeout_seconds:.0f} s", where=f"exec in {namespace}/{pod}"
        ) from None
    code = _exit_code(b"".join(parts[_END]), f"{namespace}/{pod}")
    return Executed(code, *(b"".join(parts[number]).decode(errors="replace") for number in (_OUT, _ERR)))


def _exit_code(content: bytes, where: str) -> int:
    try:
        end = msgspec.json.decode(content, type=_End)
    except msgspec.DecodeError:
        raise Unreachable("the connection was cut before the command ended", where=where) from None
    if end.status == "Success":
        return 0
    codes = [cause.message for cause in end.details.causes if cause.reason == "ExitCode"]
    if not codes or not codes[0].isdecimal():
        raise ApiError(end.message or "the command could not be run", where=where)
    return int(codes[0])
