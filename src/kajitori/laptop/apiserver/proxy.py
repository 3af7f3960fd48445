"""Logs, exec, attach and port-forward: passed on to the node that runs the pod.

The agent of a node of this cluster serves them on a unix socket in `run/`, a node that joined it over TLS at its
address, with a certificate of the cluster's authority. Logs are streamed as they come; the others are an
upgraded connection (WebSocket or SPDY), whose bytes are carried in both directions without being looked at.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from aiohttp import web

from kajitori.api.resource import NODES, PODS
from kajitori.base.unix_sockets import short_path
from kajitori.laptop.apiserver import pki, status
from kajitori.laptop.apiserver.admission.requests import admitted, review_of
from kajitori.laptop.apiserver.admission.review import CONNECT
from kajitori.laptop.apiserver.admission.steps import in_time
from kajitori.laptop.apiserver.answers import base_headers
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.status import FieldError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
CONNECT_SECONDS = 5.0
ANSWER_HEAD_SECONDS = 30.0
CHUNK_BYTES = 64 << 10
UPSTREAM_BYTES_LIMIT = 256 << 10
HEAD_BYTES_LIMIT = 64 << 10
_LOG_OPTIONS = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
)
# Names of exec's options at the API server and at a node.
_EXEC_OPTIONS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


def _containers(pod: Object) -> list[str]:
    spec = pod["spec"]
    return [
        container["name"]
        for group in ("containers", "initContainers", "ephemeralContainers")
        for container in spec.get(group) or ()
    ]


def _container_of(call: Call, pod: Object) -> str:
    """The container that is meant. Raises StatusError 400 if that is not clear."""
    name, wanted = pod["metadata"]["name"], call.query.get("container")
    known = _containers(pod)
    if wanted:
        if wanted not in known:
            raise status.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    annotations = pod["metadata"].get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container")
    if default in known:
        return default
    regular = [container["name"] for container in pod["spec"]["containers"]]
    if len(regular) == 1:
        return regular[0]
    initial = [container["name"] for container in pod["spec"].get("initContainers") or ()]
    choices = f"[{' '.join(regular)}]"
    if initial:
        choices += f" or one of the init containers: [{' '.join(initial)}]"
    raise status.bad_request(f"a container name must be specified for pod {name}, choose one of: {choices}")


def _pod(state: ServerState, call: Call) -> Object:
    entry = state.store.get("pods", call.target.namespace, call.target.name)
    if entry is None:
        raise status.not_found(PODS, call.target.name)
    return entry.peek()


async def _connect(state: ServerState, node: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address, port = _joined_at(state, node)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if port:
                context = await asyncio.to_thread(_kubelet_context, state.home)
                return await asyncio.open_connection(address, port, ssl=context, limit=HEAD_BYTES_LIMIT)
            with short_path(state.home / "run" / f"{node}.sock") as short:
                return await asyncio.open_unix_connection(short, limit=HEAD_BYTES_LIMIT)
    except (OSError, TimeoutError) as error:
        raise status.failure(
            502, "BadGateway", f"node {node} does not answer: {error}; is its agent running?", {}
        ) from None


def _joined_at(state: ServerState, node: str) -> tuple[str, int]:
    """Address and port of a node that joined; port 0 for one of this cluster's own."""
    entry = state.store.get(NODES.qualified_name, "", node)
    reported: Object = (entry.peek().get("status") or {}) if entry is not None else {}
    endpoint = (reported.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    for each in reported.get("addresses") or ():
        if each.get("type") == "InternalIP":
            return each["address"], int(endpoint.get("Port") or 0)
    return "", 0


@cache
def _kubelet_context(home: Path) -> ssl.SSLContext:
    """As what this server comes to nodes, and by whom it knows them."""
    folder = home / "pki"
    file = folder / "clients" / "kubelet-client.pem"
    identity = pki.Identity("kubelet-client", "kube-apiserver-kubelet-client", (pki.MASTERS_GROUP,))
    pki.write_private(file, b"".join(pki.Authority(folder).client_certificate(identity)))
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(file)
    return context


def _request_head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    # As aiohttp decoded them.
    return ("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogateescape")


async def _answer_head(reader: asyncio.StreamReader, node: str) -> tuple[int, dict[str, str], bytes]:
    """Status code, headers and the raw head of a node's answer."""
    try:
        async with asyncio.timeout(ANSWER_HEAD_SECONDS):
            raw = await reader.readuntil(b"\r\n\r\n")
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise status.failure(502, "BadGateway", f"node {node} gave no answer", {}) from None
    first, *lines = raw.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    return int(first.split(" ", 2)[1]), headers, raw


async def _body_chunks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body of an answer, piece by piece as it comes."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
            while size:
                piece = await reader.read(min(size, CHUNK_BYTES))
                if not piece:
                    # Cut, not ended: the client's answer is cut as well.
                    raise ConnectionResetError
                size -= len(piece)
                yield piece
            await reader.readline()
        return
    left = int(headers["content-length"]) if "content-length" in headers else None
    while left is None or left > 0:
        piece = await reader.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
        if not piece:
            return
        if left is not None:
            left -= len(piece)
        yield piece


def _check_log_options(call: Call) -> None:
    errors: list[FieldError] = []
    query = call.query
    for key, least in (("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)):
        if query.get(key) and query.number(key) < least:
            text = f"must be greater than or equal to {least}" if least == 0 else "must be greater than 0"
            errors.append(status.invalid_value(key, query.number(key), text))
    if query.get("sinceSeconds") and query.get("sinceTime"):
        errors.append(
            status.forbidden_field(
                "sinceSeconds", "at most one of `sinceTime` or `sinceSeconds` may be specified"
            )
        )
    if errors:
        raise status.invalid("PodLogOptions", "", call.target.name, errors)


async def stream_logs(state: ServerState, call: Call) -> web.StreamResponse:
    """GET of a pod's log."""
    pod = _pod(state, call)
    _check_log_options(call)
    container = _container_of(call, pod)
    node = pod["spec"].get("nodeName")
    if not node:
        return web.Response(status=204)
    metadata = pod["metadata"]
    options = [(key, call.query.get(key)) for key in _LOG_OPTIONS if key in call.query]
    path = f"/containerLogs/{quote(metadata['namespace'])}/{quote(metadata['name'])}/{quote(container)}"
    if options:
        path += "?" + urlencode(options)
    reader, writer = await _connect(state, node)
    try:
        writer.write(_request_head("GET", path, [("Host", node), ("Connection", "close")]))
        code, headers, _ = await _answer_head(reader, node)
        if code != 200:
            text = b"".join([piece async for piece in _body_chunks(reader, headers)]).decode(errors="replace")
            raise _refusal(code, text.strip())
        response = web.StreamResponse(headers=base_headers(call, "text/plain"))
        response.enable_chunked_encoding()
        out = await response.prepare(call.http)
        assert out is not None
        out.send_headers()
        async for piece in _body_chunks(reader, headers):
            await response.write(piece)
        await response.write_eof()
        return response
    finally:
        writer.close()


async def read_from_node(state: ServerState, node: str, path: str) -> bytes:
    """The body of a node's answer to a GET. Raises StatusError."""
    reader, writer = await _connect(state, node)
    try:
        writer.write(_request_head("GET", path, [("Host", node), ("Connection", "close")]))
        code, headers, _ = await _answer_head(reader, node)
        body = b"".join([piece async for piece in _body_chunks(reader, headers)])
        if code != 200:
            raise _refusal(code, body.decode(errors="replace").strip())
        return body
    finally:
        writer.close()


def _refusal(code: int, text: str) -> status.StatusError:
    if code == 404:
        return status.failure(404, "NotFound", text, {})
    return status.bad_request(text) if 400 <= code < 500 else status.internal_error(text)


def _node_path(call: Call, pod: Object) -> str:
    metadata, subresource = pod["metadata"], call.target.subresource
    place = f"{quote(metadata['namespace'])}/{quote(metadata['name'])}"
    if subresource == "portforward":
        ports = [("port", port) for port in call.query.all("ports")]
        return f"/portForward/{place}" + ("?" + urlencode(ports) if ports else "")
    container = _container_of(call, pod)
    options = [
        (_EXEC_OPTIONS[key], "1" if call.query.flag(key) else "0")
        for key in _EXEC_OPTIONS
        if key in call.query
    ]
    options += [("command", word) for word in call.query.all("command")]
    return f"/{subresource}/{place}/{quote(container)}?{urlencode(options)}"


class Upstream:
    """Receives what the client sends after the upgrade, in the place of aiohttp's frame reader.

    A client that sends more than the node takes waits: nothing is read from it until the node has taken that.
    """

    def __init__(self, writer: asyncio.StreamWriter, client: asyncio.Transport) -> None:
        self._writer = writer
        self._client = client
        self._draining: asyncio.Task[None] | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._writer.write(data)
        too_much = self._writer.transport.get_write_buffer_size() > UPSTREAM_BYTES_LIMIT
        if too_much and self._draining is None and not self._client.is_closing():
            self._client.pause_reading()
            self._draining = asyncio.ensure_future(self._drain())
        return False, b""

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            # The node is gone; who reads from it ends the connection.
            return
        finally:
            self._draining = None
            if not self._client.is_closing():
                self._client.resume_reading()

    def feed_eof(self) -> None:
        if self._writer.is_closing():
            return
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:  # over TLS there are no half closed connections
            self._writer.close()

    def set_exception(self, *_: object) -> None:
        self._writer.close()


_HOP_HEADERS = frozenset({"host", "authorization", "content-length", "transfer-encoding"})


def _check_may_enter(state: ServerState, call: Call) -> None:
    """A WebSocket begins with a GET and runs commands all the same: it needs the right to create. StatusError 403."""
    target = call.target
    asked = Attributes("create", "", f"pods/{target.subresource}", target.namespace, target.name)
    if not state.authorizer.allows(call.user, asked):
        raise status.forbidden(PODS, target.name, asked.sentence(call.user.name))


def _connection(call: Call) -> Object:
    """What is asked of a connection, as admission sees it."""
    query = call.query
    asked: Object = {"kind": call.kind.subresources[call.target.subresource].kind, "apiVersion": "v1"}
    asked |= {name: True for name in _EXEC_OPTIONS if query.flag(name)}
    if query.get("container"):
        asked["container"] = query.get("container")
    if query.all("command"):
        asked["command"] = query.all("command")
    if query.all("ports"):
        asked["ports"] = [int(port) for port in query.all("ports") if port.isdigit()]
    return asked


async def tunnel(state: ServerState, call: Call) -> web.StreamResponse:
    """exec, attach and portforward: an upgraded connection, carried to the node."""
    _check_may_enter(state, call)
    pod = _pod(state, call)
    headers = call.http.headers
    if headers.get("Upgrade", "").lower() not in ("websocket", "spdy/3.1"):
        raise status.bad_request("Upgrade request required")
    path = _node_path(call, pod)
    await in_time(
        admitted(call, review_of(call, CONNECT, _connection(call), None, options={}, dry_run=False))
    )
    node = pod["spec"].get("nodeName")
    if not node:
        raise status.bad_request(f"pod {call.target.name} does not have a host assigned")
    transport = call.http.transport
    if transport is None:
        raise ConnectionResetError
    reader, writer = await _connect(state, node)
    try:
        forwarded = [(k, v) for k, v in headers.items() if k.lower() not in _HOP_HEADERS]
        writer.write(_request_head(call.http.method, path, [("Host", node), *forwarded]))
        code, answer_headers, raw = await _answer_head(reader, node)
        if code != 101:
            pieces = [piece async for piece in _body_chunks(reader, answer_headers)]
            raise _refusal(code, b"".join(pieces).decode(errors="replace").strip())
        return await _carry(call, transport, reader, writer, raw)
    finally:
        writer.close()


async def _carry(
    call: Call,
    transport: asyncio.Transport,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    head: bytes,
) -> web.StreamResponse:
    transport.write(head)
    upstream: Any = Upstream(writer, transport)
    call.http.protocol.set_parser(upstream)
    while (piece := await reader.read(CHUNK_BYTES)) and not transport.is_closing():
        transport.write(piece)
        # The reader of a long output decides how fast it comes.
        while transport.get_write_buffer_size() > 16 * CHUNK_BYTES and not transport.is_closing():
            await asyncio.sleep(0.01)
    transport.close()
    return Carried()


class Carried(web.Response):
    """Stands for an answer that has been sent already, byte by byte."""

    async def prepare(self, request: Any) -> Any:
        return None

    async def write_eof(self, data: Any = b"") -> None:
        return None
