"""One record a request, with every attempt: what happened, whom it went to, what it took and what it cost.

What a record is, and what batches of them are as bytes. `record_store` writes them, by one thread of the accountant; `record_reading` reads
them, by whoever asks, and needs no process of ours to run.

A batch says once how its fields are called, so fields may come and go. Pure.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from kajitori.gateway.accounting.costs import Usage

# Below the folder of the ledger.
FILE_NAME = "ledger.db"


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One try at one backend.

    backend: AIServiceBackend as namespace/name. status: HTTP status, 0 for none. outcome: `answered`, or what went
    wrong in words, such as `connection failure`. duration_seconds: as far as known.
    """

    number: int
    backend: str
    cluster: str
    address: str
    status: int
    outcome: str
    detail: str = ""
    duration_seconds: float | None = None
    retry_after: str = ""


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One request.

    time: seconds since 1970 when it began. route: AIGatewayRoute as namespace/name, else Envoy's name of what
    answered. model: as asked for; effective_model: as sent to the last backend; response_model: as its answer
    names it. outcome: `answered`, or what went
    wrong. cost_usd: US dollars; None if no price is known. key: the id of the client's key, key_name its APIKey as
    namespace/name. decision: why these backends, in this order; empty: the configured order. usage: None if none was
    reported. usage_estimated: the backend did not tell, or a stream was cut before it did; see `reported`, `estimates`. operation: see `OPERATIONS`.
    tokens_per_second: output of a stream after its first byte. provider: what the backend speaks, as telemetry names it.
    received_seconds, sent_seconds: from the beginning until all of the request was there, and until the last backend began
    to get it. admission_seconds: of that, waiting for the accountant. limit: that refused it, refusal: in which words.
    traceparent: of the client. headers: of the client, those that are kept.
    """

    id: str
    time: float
    route: str
    rule: int
    method: str
    path: str
    status: int
    outcome: str
    model: str = ""
    effective_model: str = ""
    backend: str = ""
    client: str = ""
    stream: bool = False
    duration_seconds: float = 0.0
    time_to_first_token_seconds: float | None = None
    tokens_per_second: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    usage: Usage | None = None
    costs: dict[str, int] = {}
    attempts: list[Attempt] = []
    key: str = ""
    tenant: str = ""
    dialect: str = ""
    decision: str = ""
    operation: str = ""
    usage_estimated: bool = False
    cost_usd: float | None = None
    key_name: str = ""
    provider: str = ""
    response_model: str = ""
    received_seconds: float | None = None
    sent_seconds: float | None = None
    admission_seconds: float = 0.0
    limit: str = ""
    refusal: str = ""
    traceparent: str = ""
    headers: dict[str, str] = {}


class LogPosition(msgspec.Struct, frozen=True, gc=False):
    """How far an access log was read.

    inode: of the file, -1 for none. offset: bytes. head: its first bytes, to know it again. unfinished: lines of attempts
    that were read, of requests whose end was not.
    """

    inode: int = -1
    offset: int = 0
    head: bytes = b""
    unfinished: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_FIELDS = RequestRecord.__struct_fields__
_decoder = msgspec.msgpack.Decoder(tuple[list[str], list[list[Any]]])
_position_decoder = msgspec.msgpack.Decoder(LogPosition)


def encode_batch(records: list[RequestRecord]) -> bytes:
    """Raises what msgspec does for a record that cannot be written."""
    return _encoder.encode((_FIELDS, [msgspec.structs.astuple(record) for record in records]))


def decode_batch(data: bytes) -> list[RequestRecord]:
    """The records of a batch, in their order."""
    fields, rows = _decoder.decode(data)
    known = [dict(zip(fields, row, strict=True)) for row in rows]
    return msgspec.convert(known, list[RequestRecord])


def encode_position(position: LogPosition) -> bytes:
    """For `decode_position`."""
    return _encoder.encode(position)


def decode_position(data: bytes) -> LogPosition:
    """Raises what msgspec does for what is none."""
    return _position_decoder.decode(data)


def short_key(request_id: str) -> bytes:
    """Four bytes by which the batch of a request is found: now and then another one is looked at in vain."""
    return zlib.crc32(request_id.encode()).to_bytes(4, "little")
