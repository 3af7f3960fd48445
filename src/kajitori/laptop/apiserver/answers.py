"""Answers: JSON bytes with the headers that clients expect, as YAML, indented or compressed when asked."""

from __future__ import annotations

import asyncio
import re
import uuid
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from aiohttp import web

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.negotiation import PROTOBUF, wants_indentation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.views import ListBody

COMPRESSED_FROM_BYTES = 128 << 10
SLICED_FROM_BYTES = 1 << 20
SLICE_BYTES = 256 << 10
_COMPRESSED = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
_NOT_IN_HEADERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def warning_header(text: str) -> str:
    """Texts hold what clients wrote, and a header takes neither control characters nor halves of surrogate pairs."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{_NOT_IN_HEADERS.sub(" ", quoted)}"'


def base_headers(call: Call, content_type: str) -> list[tuple[str, str]]:
    headers = [
        ("Audit-Id", str(uuid.uuid4())),
        ("Cache-Control", "no-cache, private"),
        ("Content-Type", content_type),
    ]
    headers.extend(("Warning", warning_header(text)) for text in dict.fromkeys(call.warnings))
    return headers


async def body_answer(call: Call, code: int, body: bytes) -> web.StreamResponse:
    """JSON bytes in the form that the call's output asks for."""
    if call.output.protobuf:
        return await _protobuf_answer(call, code, body)
    return await rendered(call.http, code, body, call.output.yaml, call.query.get("pretty"), call.warnings)


async def viewed_answer(call: Call, code: int, body: bytes) -> web.StreamResponse:
    """Bytes that the call's view has made: they are in its form already."""
    if not call.output.protobuf:
        return await body_answer(call, code, body)
    return await rendered(call.http, code, body, warnings=call.warnings, content_type=PROTOBUF, raw=True)


async def list_answer(call: Call, body: ListBody) -> web.StreamResponse:
    """A list in the form of the call's view. A long one goes out piece by piece and is nowhere in memory as a whole."""
    http, output = call.http, call.output
    if not output.protobuf:
        if output.yaml or wants_indentation(http.headers.get("User-Agent", ""), call.query.get("pretty")):
            return await body_answer(call, 200, body.joined())
        body = body._replace(tail=body.tail + b"\n")
    content_type = PROTOBUF if output.protobuf else "application/json"
    size = body.size_bytes()
    if size <= SLICED_FROM_BYTES:
        whole = body.joined()
        return await rendered(http, 200, whole, warnings=call.warnings, content_type=content_type, raw=True)
    headers = base_headers(call, content_type)
    blocks: Iterable[bytes | memoryview] = body.blocks(SLICE_BYTES)
    if "gzip" in http.headers.get("Accept-Encoding", ""):
        compressed = await asyncio.to_thread(_compress, blocks)
        headers += _COMPRESSED
        size, blocks = len(compressed), _slices(compressed)
    return await _sliced(http, 200, size, blocks, headers)


async def _protobuf_answer(call: Call, code: int, body: bytes) -> web.StreamResponse:
    from kajitori.laptop.apiserver.protobuf_writing import as_protobuf

    written = as_protobuf(msgspec.json.decode(body))
    if written is None:
        raise status.not_acceptable()
    return await rendered(call.http, code, written, warnings=call.warnings, content_type=PROTOBUF, raw=True)


async def object_answer(call: Call, code: int, obj: dict[str, Any]) -> web.StreamResponse:
    return await body_answer(call, code, msgspec.json.encode(obj))


async def rendered(
    http: BaseRequest,
    code: int,
    body: bytes,
    as_yaml: bool = False,
    pretty: str = "",
    warnings: Iterable[str] = (),
    content_type: str = "",
    raw: bool = False,
    more_headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """An answer with a body of JSON bytes; raw: of other bytes, to be left as they are. more_headers replace ours."""
    request_headers = http.headers
    if raw:
        pass
    elif as_yaml:
        body = yaml.dump(
            msgspec.json.decode(body), Dumper=_dumper(), default_flow_style=False, allow_unicode=True
        ).encode()
        content_type = content_type or "application/yaml"
    elif wants_indentation(request_headers.get("User-Agent", ""), pretty):
        body = msgspec.json.format(body, indent=2) + b"\n"
    else:
        body += b"\n"
    headers = [
        ("Audit-Id", str(uuid.uuid4())),
        ("Cache-Control", "no-cache, private"),
        ("Content-Type", content_type or "application/json"),
    ]
    if more_headers:
        kept = [header for header in headers if header[0] not in more_headers]
        headers = [*kept, *more_headers.items()]
    headers.extend(("Warning", warning_header(text)) for text in dict.fromkeys(warnings))
    if len(body) > COMPRESSED_FROM_BYTES and "gzip" in request_headers.get("Accept-Encoding", ""):
        body = await asyncio.to_thread(_compress, (body,))
        headers += _COMPRESSED
    if len(body) > SLICED_FROM_BYTES and http.method != "HEAD":
        return await _sliced(http, code, len(body), _slices(body), headers)
    return web.Response(status=code, body=body, headers=headers)


async def _sliced(
    http: BaseRequest,
    code: int,
    size_bytes: int,
    blocks: Iterable[bytes | memoryview],
    headers: list[tuple[str, str]],
) -> web.StreamResponse:
    """Sends a long body as the reader takes it: TLS would keep a buffer of its whole size for the connection."""
    answer = web.StreamResponse(status=code, headers=headers)
    answer.content_length = size_bytes
    await answer.prepare(http)
    for block in blocks:
        await answer.write(block)
    await answer.write_eof()
    return answer


def _slices(body: bytes) -> Iterator[memoryview]:
    view = memoryview(body)
    return (view[start : start + SLICE_BYTES] for start in range(0, len(body), SLICE_BYTES))


def _compress(blocks: Iterable[bytes | memoryview]) -> bytes:
    compressor = zlib.compressobj(1, wbits=31)
    return b"".join((*(compressor.compress(block) for block in blocks), compressor.flush()))


def _dumper() -> Any:
    """The one in C where PyYAML has it."""
    return getattr(yaml, "CSafeDumper", yaml.SafeDumper)
