"""The ledger: Envoy's access log entries to one record a request, costs and metrics.

Envoy sends an entry for every request when it ends, and one more for every attempt that failed, on separate
streams in either order. A request with failed attempts waits for their entries for a moment. The happy path is
one entry, and what it costs here is measured by `bench/gateway.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.gateway.accounting.costs import Cost, Usage
from kajitori.gateway.accounting.log_format import ATTEMPT_LOG, FACTS_TAG
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.records import Attempt, RecordStore, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 1.0
_LOW_HALF = 0xFFFFFFFF
_OUTCOMES = {
    "failed_local_healthcheck": "no healthy host",
    "no_healthy_upstream": "no healthy host",
    "upstream_request_timeout": "timeout",
    "local_reset": "connection reset locally",
    "upstream_remote_reset": "connection reset by the backend",
    "upstream_connection_failure": "connection failure",
    "upstream_connection_termination": "connection closed by the backend",
    "upstream_overflow": "too many requests open",
    "no_route_found": "no route",
    "delay_injected": "",
    "rate_limited": "rate limited",
    "downstream_connection_termination": "client left",
    "upstream_retry_limit_exceeded": "retries exhausted",
    "stream_idle_timeout": "silent for too long",
    "downstream_protocol_error": "malformed request",
    "upstream_protocol_error": "malformed answer",
    "upstream_max_stream_duration_reached": "took too long",
    "response_from_cache_filter": "",
    "no_cluster_found": "no such cluster",
    "overload_manager": "gateway overloaded",
    "downstream_remote_reset": "client left",
}


class Facts(msgspec.Struct, frozen=True):
    """What the ledger knows of the configuration: both as `Plan` has them."""

    backends: dict[str, tuple[str, str]] = {}
    costs: dict[str, tuple[Cost, ...]] = {}


class Ledger:
    """Takes in access log messages. on_record: called for each record, after it was handed to the store."""

    def __init__(
        self,
        store: RecordStore,
        metrics: GatewayMetrics,
        on_record: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._on_record = on_record
        self._facts = Facts()
        self._routes: dict[str, tuple[str, int]] = {}
        self._attempts: dict[str, tuple[float, list[Any]]] = {}
        self._waiting: dict[str, tuple[float, Any]] = {}

    def configure(self, facts: Facts) -> None:
        """Takes the backends and costs of a new plan; requests that end later are booked by it."""
        self._facts = facts

    def take(self, log_name: str, message: Any) -> None:
        """One batch as Envoy sent it."""
        now = asyncio.get_running_loop().time()
        if log_name == ATTEMPT_LOG:
            self._take_attempts(message, now)
            return
        records: list[RequestRecord] = []
        for entry in message.http_logs.log_entry:
            tries = entry.common_properties.upstream_request_attempt_count
            if tries > 1:
                # A request whose last attempt failed too has as many entries as attempts; wait for them.
                request_id = entry.request.request_id
                known = self._attempts.get(request_id)
                if known is None or len(known[1]) < tries:
                    # Clients may choose the id, and use one twice.
                    if earlier := self._waiting.pop(request_id, None):
                        self._book(earlier[1], records)
                    self._waiting[request_id] = (now, entry)
                    continue
            self._book(entry, records)
        self._hand_on(records)
        self.settle(now)

    def _take_attempts(self, message: Any, now: float) -> None:
        for entry in message.http_logs.log_entry:
            self._attempts.setdefault(entry.request.request_id, (now, []))[1].append(entry)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Books requests that need not, or will not, wait any longer; forgets attempts nobody asked for."""
        records: list[RequestRecord] = []
        for request_id, (since, entry) in list(self._waiting.items()):
            known = self._attempts.get(request_id)
            tries = entry.common_properties.upstream_request_attempt_count
            answered = entry.response.response_code.value < 400
            expected = tries - 1 if answered else tries
            if (known is not None and len(known[1]) >= expected) or now - since > _PATIENCE_SECONDS:
                del self._waiting[request_id]
                self._book(entry, records)
        self._hand_on(records)
        for request_id in [key for key, (since, _) in self._attempts.items() if now - since > 30.0]:
            if request_id not in self._waiting:
                del self._attempts[request_id]

    async def run(self) -> None:
        """Settles what waits although nothing more arrives."""
        while True:
            await asyncio.sleep(_PATIENCE_SECONDS / 2)
            if self._waiting or self._attempts:
                self.settle(asyncio.get_running_loop().time())

    def _hand_on(self, records: list[RequestRecord]) -> None:
        if not records:
            return
        self._store.write(records)
        self._metrics.observe(records)
        if self._on_record is not None:
            for record in records:
                self._on_record(record)

    def _book(self, entry: Any, records: list[RequestRecord]) -> None:
        try:
            records.append(self._record(entry))
        except Exception:
            # The others of its batch, and the stream that they come on, are not to suffer.
            _log.exception("request %s cannot be booked", entry.request.request_id)

    def _record(self, entry: Any) -> RequestRecord:
        common, request, response = entry.common_properties, entry.request, entry.response
        usage, first_byte, stream, path, model = _facts(common.custom_tags.get(FACTS_TAG, ""))
        name = common.route_name
        route = self._routes.get(name) or self._parse_route(name)
        cluster = common.upstream_cluster
        backend, override = self._facts.backends.get(cluster, ("", ""))
        status = response.response_code.value
        duration = common.duration.seconds + common.duration.nanos * 1e-9
        flags = _outcome(common) if common.HasField("response_flags") else ""
        speed = None
        # An answer that is not streamed comes all at once: its first byte says nothing of its first token.
        if stream and usage is not None and first_byte is not None and duration > first_byte:
            speed = (usage.output_tokens - 1) / (duration - first_byte) if usage.output_tokens > 1 else None
        return RequestRecord(
            id=request.request_id,
            time=common.start_time.seconds + common.start_time.nanos * 1e-9,
            route=route[0],
            rule=route[1],
            method=_METHODS.get(request.request_method, ""),
            path=path or request.path,
            status=status,
            outcome=flags or "answered",
            model=model,
            effective_model=(override or model) if backend else "",
            backend=backend,
            client=common.downstream_direct_remote_address.socket_address.address,
            stream=stream,
            duration_seconds=duration,
            time_to_first_token_seconds=first_byte,
            tokens_per_second=speed,
            request_bytes=request.request_body_bytes,
            response_bytes=response.response_body_bytes,
            usage=usage,
            costs=self._costs(route[0], override or model, backend, usage),
            attempts=self._attempt_list(entry, cluster, backend, status, flags) if cluster else [],
        )

    def _parse_route(self, name: str) -> tuple[str, int]:
        """`ai/namespace/name/rule/0/match/0` to namespace/name and 0; names of our own answers stay."""
        parts = name.split("/")
        found = (name, -1)
        if len(parts) == 7 and parts[0] in ("ai", "http") and parts[3] == "rule":
            found = (f"{parts[1]}/{parts[2]}", int(parts[4]))
        if len(self._routes) > 10_000:
            self._routes.clear()
        self._routes[name] = found
        return found

    def _costs(self, route: str, model: str, backend: str, usage: Usage | None) -> dict[str, int]:
        costs = self._facts.costs.get(route)
        if not costs or usage is None:
            return {}
        namespace, _, name = backend.partition("/")
        found: dict[str, int] = {}
        for cost in costs:
            try:
                found[cost.key] = cost.compute(model, f"{name}.{namespace}", route, usage)
            except KajitoriError as error:
                _log.warning("cost %s of %s could not be computed: %s", cost.key, route, error)
        return found

    def _attempt_list(self, entry: Any, cluster: str, backend: str, status: int, flags: str) -> list[Attempt]:
        common = entry.common_properties
        if not self._attempts and common.upstream_request_attempt_count <= 1:
            return [Attempt(1, backend, cluster, _address(common), status, flags or "answered")]
        _, failed = self._attempts.pop(entry.request.request_id, (0.0, []))
        attempts = [self._failed_attempt(number, item) for number, item in enumerate(failed, 1)]
        tries = common.upstream_request_attempt_count
        if len(attempts) < max(tries, 1):
            attempts.append(
                Attempt(
                    max(tries, len(attempts) + 1),
                    backend,
                    cluster,
                    _address(common),
                    status,
                    flags or "answered",
                )
            )
        return attempts

    def _failed_attempt(self, number: int, entry: Any) -> Attempt:
        common = entry.common_properties
        cluster = common.upstream_cluster
        status = entry.response.response_code.value
        flags = _outcome(common) if common.HasField("response_flags") else ""
        duration = common.duration
        return Attempt(
            number,
            self._facts.backends.get(cluster, ("", ""))[0],
            cluster,
            _address(common),
            0 if flags and status in (0, 503) else status,
            flags or f"answered {status}",
            common.upstream_transport_failure_reason,
            duration.seconds + duration.nanos * 1e-9,
        )


_METHODS = {1: "GET", 2: "HEAD", 3: "POST", 4: "PUT", 5: "DELETE", 6: "CONNECT", 7: "OPTIONS", 8: "TRACE",
            9: "PATCH"}  # fmt: skip


def _facts(text: str) -> tuple[Usage | None, float | None, bool, str, str]:
    """Usage, seconds to the first byte of the answer, whether it is a stream, path, model: see FACTS_FORMAT."""
    parts = text.split("|", 6)
    if len(parts) < 7:
        return None, None, False, "", ""
    usage = None
    if parts[0]:
        tokens, details, rest = int(parts[0]), int(parts[1] or 0), int(parts[2] or 0)
        usage = Usage(
            tokens >> 32, tokens & _LOW_HALF, rest & _LOW_HALF, details >> 32, rest >> 32, details & _LOW_HALF
        )
    first_byte = int(parts[3]) * 1e-6 if parts[3].isdigit() else None
    return usage, first_byte, parts[4] == "true", parts[5], parts[6]


def _outcome(common: Any) -> str:
    """What the flags of an entry say, in words."""
    words = [_OUTCOMES.get(field.name, field.name) for field, _ in common.response_flags.ListFields()]
    return ", ".join(dict.fromkeys(word for word in words if word))


def _address(common: Any) -> str:
    socket = common.upstream_remote_address.socket_address
    return f"{socket.address}:{socket.port_value}" if socket.address else ""
