"""The gRPC health check as a probe asks it: `grpc.health.v1.Health/Check`, in plain HTTP/2.

One request on a fresh connection needs a dozen lines of framing; the gRPC library would cost each node 20 MB. The
answer's headers stay packed: what counts is whether its one message says SERVING.

Source: the gRPC health checking protocol; RFC 9113 (frames), RFC 7541 (literal header fields).
"""

from __future__ import annotations

import asyncio
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACKNOWLEDGE, _PADDED = 1, 4, 1, 8
_SERVING = 1
_LARGEST_FRAME = 1 << 20


async def check_health(host: str, port: int, service: str) -> bool:
    """Whether the service (empty: the server as a whole) says that it is serving. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        name = service.encode()
        message = b"\x0a" + _varint(len(name)) + name if name else b""
        writer.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, _request_headers(f"{host}:{port}"))
            + _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message)
        )
        body = b""
        while True:
            length, kind, flags, stream = _parse_head(await reader.readexactly(9))
            if length > _LARGEST_FRAME:
                return False
            payload = await reader.readexactly(length)
            if kind == _SETTINGS and not flags & _ACKNOWLEDGE:
                writer.write(_frame(_SETTINGS, _ACKNOWLEDGE, 0, b""))
            elif kind == _PING and not flags & _ACKNOWLEDGE:
                writer.write(_frame(_PING, _ACKNOWLEDGE, 0, payload))
            elif kind in (_GOAWAY, _RESET):
                return False
            elif stream == 1 and kind == _DATA:
                body += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
            if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return _status(body) == _SERVING
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended before the answer") from error
    finally:
        writer.transport.abort()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _parse_head(head: bytes) -> tuple[int, int, int, int]:
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return int.from_bytes(head[:3], "big"), kind, flags, stream & 0x7FFFFFFF


def _request_headers(authority: str) -> bytes:
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.36"),
    )
    # Each a literal without indexing, name and value as plain text shorter than 127 bytes.
    return b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields
    )


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _status(body: bytes) -> int:
    """The first field of a HealthCheckResponse; 0 where the answer has none."""
    message = body[5:]
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
