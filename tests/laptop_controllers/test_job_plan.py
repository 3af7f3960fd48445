"""The decisions of Jobs in a small world of their own: pods end as chance has it, the controller stops anywhere."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.clock import rfc3339
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.jobs import plan, tracking
from kajitori.laptop.controllers.jobs.backoff import (
    FAILURE_COUNT,
    BackoffRecord,
    index_wait_seconds,
    next_record,
)
from kajitori.laptop.controllers.jobs.indexes import (
    contains,
    count,
    first_missing,
    from_indexes,
    overlap,
    parse_indexes,
    union,
    write_indexes,
)
from kajitori.laptop.controllers.jobs.pods import new_pod
from kajitori.laptop.controllers.jobs.situation import COMPLETION_INDEX, FINALIZER, observe
from kajitori.laptop.controllers.jobs.views import JobSpecView, JobStatusView, JobView
from kajitori.laptop.controllers.views import (
    ContainerStateView,
    ContainerStatusView,
    PodSpecView,
    PodStatusView,
    PodView,
    TerminatedView,
)

NOW = 1_700_000_000.0
INDEXES = st.sets(st.integers(0, 40))


@given(INDEXES, INDEXES)
def test_sets_of_indexes_are_written_and_read_back(one, other):
    first, second = from_indexes(one), from_indexes(other)
    assert parse_indexes(write_indexes(first), 41) == first
    assert union(first, second) == from_indexes(one | other)
    assert count(first) == len(one) and overlap(first, second) == len(one & other)
    assert all(contains(first, index) == (index in one) for index in range(41))
    assert first_missing(first, 41, 5) == sorted(set(range(41)) - one)[:5]
    assert parse_indexes(write_indexes(first), 10) == from_indexes(index for index in one if index < 10)


@pytest.mark.parametrize(
    ("indexes", "text"), [({0, 1}, "0,1"), ({0, 1, 2}, "0-2"), ({1, 3, 4, 5, 7}, "1,3-5,7"), (set(), "")]
)
def test_two_neighbours_are_listed_and_three_are_a_range(indexes, text):
    assert write_indexes(from_indexes(indexes)) == text


def ended_pod(seconds_ago, failures=0):
    ended = TerminatedView(exit_code=1, finished_at=rfc3339(NOW - seconds_ago))
    state = ContainerStateView(terminated=ended)
    return PodView(
        metadata=Metadata(name="p", annotations={FAILURE_COUNT: str(failures)}),
        status=PodStatusView(phase="Failed", container_statuses=[ContainerStatusView(name="c", state=state)]),
    )


def test_the_pause_doubles_with_each_failure_and_a_success_ends_it():
    record = next_record(BackoffRecord(), [], [ended_pod(4)])
    assert record.remaining_seconds(NOW) == 6
    record = next_record(record, [], [ended_pod(0), ended_pod(2)])
    assert (record.failures, record.remaining_seconds(NOW)) == (3, 40)
    assert next_record(record, [ended_pod(1)], [ended_pod(0)]).failures == 1
    assert next_record(record, [ended_pod(1)], []) == BackoffRecord()
    assert BackoffRecord(50, NOW).remaining_seconds(NOW) == 600
    assert index_wait_seconds(ended_pod(5, failures=1), NOW) == 15
    assert index_wait_seconds(None, NOW) == 0


class World:
    """A job, its pods and a clock; `step` does one thing of the controller's, and may stop after it."""

    def __init__(self, spec: JobSpecView) -> None:
        self.job = JobView(metadata=Metadata(name="j", namespace="n", uid="job"), spec=spec)
        self.pods: dict[str, PodView] = {}
        self.record = BackoffRecord()
        self.now = NOW
        self.made = 0
        self.succeeded = 0
        self.failed = 0

    def end(self, name: str, code: int) -> None:
        pod = self.pods[name]
        ended = TerminatedView(exit_code=code, finished_at=rfc3339(self.now))
        status = ContainerStatusView(name="c", state=ContainerStateView(terminated=ended))
        phase = "Failed" if code else "Succeeded"
        self.pods[name] = msgspec.structs.replace(
            pod, status=PodStatusView(phase=phase, container_statuses=[status])
        )
        self.failed += code != 0
        self.succeeded += code == 0

    def look(self, stop_after: int) -> None:
        """One look that stops after so many writes."""
        writes = 0

        def may_write() -> bool:
            nonlocal writes
            writes += 1
            return writes <= stop_after

        job, pods = self.job, list(self.pods.values())
        situation = observe(job, pods, self.record, self.now)
        status, ending = plan.started(job, self.now), situation.ending
        deleted = created = 0
        if ending is not None:
            for pod in situation.active:
                if not may_write():
                    return
                self._mark_deleted(pod)
                deleted += 1
        else:
            scaling = plan.plan_scaling(job, situation, pods, self.now)
            assert not (scaling.delete and scaling.create)
            for pod in scaling.delete:
                if not may_write():
                    return
                del self.pods[pod.metadata.name]
                deleted += 1
            for index in scaling.create:
                if not may_write():
                    return
                self._make(index, situation.waiting.get(index) if index is not None else None)
                created += 1
            ending = plan.completion(job, situation, len(situation.active) - deleted + created, self.now)
        status = msgspec.structs.replace(
            status,
            active=len(situation.active) - deleted + created,
            terminating=situation.terminating + (deleted if situation.ending else 0),
        )
        planned = tracking.plan_tracking(job, status, pods, situation, ending, self.now)
        if planned.status != job.status:
            if not may_write():
                return
            self._write(planned.status)
            self.record = situation.record
        held = set(planned.held)
        for pod in planned.release:
            if not may_write():
                return
            self._free(pod)
            held.discard(pod.metadata.uid)
        status = tracking.counted(planned.status, held)
        final = tracking.finished(status, planned.final)
        if (final or status) != planned.status and may_write():
            self._write(final or status)

    def _write(self, status: JobStatusView) -> None:
        self.job = msgspec.structs.replace(self.job, status=status)

    def _make(self, index: int | None, replaced: PodView | None) -> None:
        self.made += 1
        body = new_pod(self.job, index, replaced)["metadata"]
        name = f"p{self.made}"
        metadata = Metadata(
            name=name,
            namespace="n",
            uid=name,
            annotations=body.get("annotations", {}),
            finalizers=body["finalizers"],
            creation_timestamp=rfc3339(self.now),
        )
        self.pods[name] = PodView(
            metadata=metadata, spec=PodSpecView(node_name="n1"), status=PodStatusView(phase="Running")
        )

    def _mark_deleted(self, pod: PodView) -> None:
        metadata = msgspec.structs.replace(
            pod.metadata, deletion_timestamp=rfc3339(self.now), deletion_grace_period_seconds=0
        )
        self.pods[pod.metadata.name] = msgspec.structs.replace(pod, metadata=metadata)

    def _free(self, pod: PodView) -> None:
        pod = self.pods[pod.metadata.name]
        finalizers = [one for one in pod.metadata.finalizers if one != FINALIZER]
        metadata = msgspec.structs.replace(pod.metadata, finalizers=finalizers)
        self.pods[pod.metadata.name] = msgspec.structs.replace(pod, metadata=metadata)
        if metadata.deletion_timestamp is not None:
            del self.pods[pod.metadata.name]

    def active(self) -> list[PodView]:
        return [pod for pod in self.pods.values() if pod.is_active]


SPECS = st.builds(
    lambda completions, parallelism, indexed, limit, per_index: JobSpecView(
        completions=completions,
        parallelism=parallelism,
        completion_mode="Indexed" if indexed else "NonIndexed",
        backoff_limit=2**31 - 1 if indexed and per_index is not None else limit,
        backoff_limit_per_index=per_index if indexed else None,
        template={"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}},
    ),
    st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 4), st.sampled_from([None, 0, 1]),
)  # fmt: skip
STEPS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 1]), st.integers(0, 3)), max_size=40)


@given(SPECS, STEPS)
def test_every_pod_is_counted_once_wherever_the_controller_stops(spec, steps):
    world = World(spec)
    for stop_after, code, choice in steps:
        world.look(stop_after)
        active = world.active()
        assert len(active) <= spec.parallelism
        if active and choice < len(active):
            world.end(active[choice].metadata.name, code)
        world.now += 7
    for _ in range(200):
        if world.job.finished is not None:
            break
        world.look(1000)
        for pod in world.active():
            world.end(pod.metadata.name, 0)
        world.now += 700
    status, ended = world.job.status, world.job.finished
    assert ended is not None, "it comes to an end"
    assert not status.uncounted_terminated_pods.succeeded and not status.uncounted_terminated_pods.failed
    assert not any(FINALIZER in pod.metadata.finalizers for pod in world.pods.values())
    assert status.active == 0 and not world.active()
    if ended["type"] == "Complete":
        assert status.succeeded == spec.completions == world.succeeded
        assert status.failed == world.failed
    elif spec.completion_mode == "Indexed":
        failed = parse_indexes(status.failed_indexes or "", spec.completions or 0)
        done = parse_indexes(status.completed_indexes, spec.completions or 0)
        assert not overlap(failed, done) and status.succeeded == count(done)
    else:
        assert status.failed >= world.failed > spec.backoff_limit


@given(SPECS, STEPS)
def test_no_index_has_two_pods_and_none_runs_after_it_succeeded(spec, steps):
    spec = msgspec.structs.replace(spec, completion_mode="Indexed")
    world = World(spec)
    for stop_after, code, choice in steps:
        world.look(stop_after)
        indexes = [pod.metadata.annotations[COMPLETION_INDEX] for pod in world.active()]
        assert len(set(indexes)) == len(indexes)
        done = parse_indexes(world.job.status.completed_indexes, spec.completions or 0)
        assert not any(contains(done, int(index)) for index in indexes)
        if indexes and choice < len(indexes):
            world.end(world.active()[choice].metadata.name, code)
        world.now += 11
