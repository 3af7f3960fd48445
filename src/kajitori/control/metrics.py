"""Metrics of the machinery: queues under controller-runtime's names, reconciles under ours.

One `Metrics` belongs to one registry; a process has one of each, a test as many as it likes.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_QUEUE_BUCKETS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
_RECONCILE_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """All families of one process. Labels are bounded: controller names, kinds, results."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        name, controller = ("name",), ("controller",)
        registry = self.registry
        self.queue_depth = Gauge("workqueue_depth", "Keys waiting", name, registry=registry)
        self.queue_adds = Counter("workqueue_adds", "Keys added", name, registry=registry)
        self.queue_retries = Counter("workqueue_retries", "Keys added with back-off", name, registry=registry)
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds", "Seconds a key waits", name,
            buckets=_QUEUE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds", "Seconds a key is worked on", name,
            buckets=_QUEUE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.unfinished_seconds = Gauge(
            "workqueue_unfinished_work_seconds", "Seconds of work in progress, all keys", name,
            registry=registry,
        )  # fmt: skip
        self.longest_running_seconds = Gauge(
            "workqueue_longest_running_processor_seconds", "Seconds of the longest work in progress", name,
            registry=registry,
        )  # fmt: skip
        self.reconciles = Counter(
            "kaji_reconcile", "Reconciles by result: done, after, error, conflict, terminal",
            ("controller", "result"), registry=registry,
        )  # fmt: skip
        self.reconcile_seconds = Histogram(
            "kaji_reconcile_seconds", "Seconds a reconcile takes", controller,
            buckets=_RECONCILE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.active_workers = Gauge(
            "kaji_reconcile_active_workers", "Busy workers", controller, registry=registry
        )
        self.panics = Counter(
            "kaji_reconcile_panics", "Reconciles that ended in an error nobody had foreseen", controller,
            registry=registry,
        )  # fmt: skip
        self.informer_lists = Counter("kaji_informer_lists", "Lists made", ("resource",), registry=registry)
        self.informer_watch_ends = Counter(
            "kaji_informer_watch_ends", "Watches ended: clean, gone, error", ("resource", "reason"),
            registry=registry,
        )  # fmt: skip
        self.informer_events = Counter(
            "kaji_informer_events", "Watch events received", ("resource",), registry=registry
        )
        self.informer_objects = Gauge(
            "kaji_informer_objects", "Objects in the cache", ("resource", "projection"), registry=registry
        )
        self.informer_invalid = Counter(
            "kaji_informer_invalid_objects", "Objects skipped since they do not fit the projection",
            ("resource",), registry=registry,
        )  # fmt: skip
        self.leader = Gauge("kaji_leader", "1 while this process leads", registry=registry)
