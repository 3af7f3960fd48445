"""Exports what the ledger books: spans in batches as they come, metrics at intervals.

Records wait in a queue that is bounded; when a collector is away, or too slow, further ones are counted and dropped. Nobody
waits for a collector, neither the ledger nor admission, which share this loop: messages are made a few spans at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.header_attributes import HeaderAttributes
from kajitori.gateway.telemetry.settings import TelemetrySettings, read_settings
from kajitori.gateway.telemetry.spans import context_of, is_sampled, spans_of

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from kajitori.gateway.accounting.records import RequestRecord
    from kajitori.gateway.telemetry.senders import Sender

_log = logging.getLogger(__name__)

_SPANS_AT_ONCE = 16
_FIRST_WAIT_SECONDS, _LEAST_WAIT_SECONDS = 0.5, 0.1
_COMPLAINT_SECONDS = 60.0
_CLOSE_SECONDS = 3.0


def open_exporter(
    environment: Mapping[str, str], instance: str = "", attributes: HeaderAttributes | None = None
) -> Exporter | None:
    """None where the environment asks for no export; then nothing of OTLP is loaded. instance: `service.instance.id`.
    attributes: what is told of clients' headers.

    Raises UsageError for a variable that makes no sense.
    """
    settings = read_settings(environment)
    return None if settings is None else Exporter(settings, instance, attributes or HeaderAttributes())


class Exporter:
    """Give it records; `run` sends them. As a collector it tells what became of them."""

    def __init__(self, settings: TelemetrySettings, instance: str, attributes: HeaderAttributes) -> None:
        from kajitori.gateway.telemetry.messages import resource_of
        from kajitori.gateway.telemetry.senders import open_sender

        self._settings = settings
        self._attributes = attributes
        known = dict(settings.resource)
        if instance:
            known.setdefault("service.instance.id", instance)
        self._resource = resource_of(known.items())
        self._traces: Sender | None = None
        self._metrics: Sender | None = None
        if settings.traces.exporter != "none":
            self._traces = open_sender(settings.traces, "traces")
        if settings.metrics.exporter != "none":
            self._metrics = open_sender(settings.metrics, "metrics")
        self._waiting: deque[RequestRecord] = deque()
        self._enough = asyncio.Event()
        self._started = time.time()
        self._complained = -_COMPLAINT_SECONDS
        self.exported = self.dropped = self.failed_metrics = 0

    def take(self, record: RequestRecord) -> None:
        """Of each record, when it is booked."""
        if self._traces is None or not record.operation:
            return
        if len(self._waiting) >= self._settings.most_waiting:
            self.dropped += 1
            return
        self._waiting.append(record)
        if len(self._waiting) >= self._settings.batch:
            self._enough.set()

    async def run(self, registry: CollectorRegistry) -> None:
        """Export until cancelled. registry: the metrics."""
        async with asyncio.TaskGroup() as group:
            if self._traces is not None:
                group.create_task(self._run_traces(self._traces))
            if self._metrics is not None:
                group.create_task(self._run_metrics(self._metrics, registry))

    async def close(self) -> None:
        """After `run`: tries once, for a moment, to send what waits, and ends connections."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._traces is not None and self._waiting:
                    await self._send_batch(self._traces, give_up_seconds=0.0)
        except TimeoutError:
            self.dropped += len(self._waiting)
        for sender in (self._traces, self._metrics):
            if sender is not None:
                await sender.close()

    async def _run_traces(self, sender: Sender) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.delay_seconds):
                    await self._enough.wait()
            except TimeoutError:
                pass
            self._enough.clear()
            while self._waiting:
                await self._send_batch(sender, self._settings.give_up_seconds)

    async def _send_batch(self, sender: Sender, give_up_seconds: float) -> None:
        from kajitori.gateway.telemetry.messages import refused_spans

        taken: list[RequestRecord] = []
        try:
            message = await self._message(taken)
            if not taken:
                return
            answer = await self._send(sender, message, give_up_seconds)
        except asyncio.CancelledError:
            # `close` tries once more; a span that is told twice is the same span.
            self._waiting.extendleft(reversed(taken))
            raise
        if answer is None:
            self.dropped += len(taken)
            return
        self.exported += len(taken)
        if refused := refused_spans(answer):
            self._complain(f"the collector refused {refused[0]} spans: {refused[1]}")

    async def _message(self, taken: list[RequestRecord]) -> Message:
        """Of what waits, up to a batch. taken: gets the requests that are in it."""
        from kajitori.gateway.telemetry.messages import add_span, traces_message

        message, scope = traces_message(self._resource)
        while self._waiting and len(taken) < self._settings.batch:
            record = self._waiting.popleft()
            context = context_of(record)
            if not is_sampled(self._settings, context):
                continue
            taken.append(record)
            for span in spans_of(record, context, self._settings.convention, self._attributes.spans):
                add_span(scope, span)
            if len(taken) % _SPANS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return message

    async def _send(self, sender: Sender, message: Message, give_up_seconds: float) -> bytes | None:
        """What the collector answered; None if it could not be sent."""
        from kajitori.gateway.telemetry.senders import NotSent

        loop = asyncio.get_running_loop()
        deadline, wait = loop.time() + give_up_seconds, _FIRST_WAIT_SECONDS
        while True:
            try:
                return await sender.send(message)
            except NotSent as error:
                pause = wait if error.after_seconds is None else max(error.after_seconds, _LEAST_WAIT_SECONDS)
                if not error.again or loop.time() + pause > deadline:
                    self._complain(str(error))
                    return None
            await asyncio.sleep(pause)
            wait *= 2

    def _complain(self, what: str) -> None:
        if time.monotonic() - self._complained > _COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            _log.warning("telemetry is dropped: %s", what)

    async def _run_metrics(self, sender: Sender, registry: CollectorRegistry) -> None:
        from kajitori.gateway.telemetry.messages import metrics_message

        while True:
            await asyncio.sleep(self._settings.interval_seconds)
            families: list[Metric] = list(registry.collect())
            message = await asyncio.to_thread(
                metrics_message,
                self._resource,
                families,
                self._started,
                time.time(),
                self._attributes.metrics.values(),
            )
            if await self._send(sender, message, min(self._settings.interval_seconds, 30.0)) is None:
                self.failed_metrics += 1

    def collect(self) -> Iterable[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import (  # loaded only where somebody asks
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        yield CounterMetricFamily(
            "kaji_gateway_spans_exported", "Requests whose spans a collector has taken.", self.exported
        )
        yield CounterMetricFamily(
            "kaji_gateway_spans_dropped",
            "Requests whose spans were dropped: the collector is away, too slow, or refused them.",
            self.dropped,
        )
        yield CounterMetricFamily(
            "kaji_gateway_metric_exports_failed", "Times that metrics could not be sent.", self.failed_metrics
        )
        yield GaugeMetricFamily(
            "kaji_gateway_spans_waiting", "Requests whose spans are to be sent.", len(self._waiting)
        )
