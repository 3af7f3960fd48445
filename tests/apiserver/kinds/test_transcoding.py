"""JSON bytes as protobuf: the same message whichever way it is written, and a bounded memory of parts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.laptop.apiserver import transcoding
from kajitori.laptop.apiserver.protobuf import read_message
from kajitori.laptop.apiserver.protobuf_writing import message
from kajitori.laptop.apiserver.transcoding import transcode

POD = "io.k8s.api.core.v1.Pod"
TIME = "2026-01-01T00:00:00Z"
TEXTS = st.text(max_size=8)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=3)
STATES = st.sampled_from(
    [
        {"running": {"startedAt": TIME}},
        {"waiting": {"reason": "x"}},
        {"terminated": {"exitCode": -1, "reason": ""}},
        {},
    ]
)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


PORTS = st.sampled_from([8000, "http"])
CONTAINERS = _optional(
    name=TEXTS,
    args=st.lists(TEXTS, max_size=3),
    env=st.lists(
        _optional(
            name=TEXTS,
            value=TEXTS,
            valueFrom=_optional(secretKeyRef=st.fixed_dictionaries({"name": TEXTS, "key": TEXTS})),
        ),
        max_size=3,
    ),
    resources=_optional(limits=st.dictionaries(TEXTS, st.sampled_from(["1", "2Gi"]), max_size=2)),
    readinessProbe=_optional(
        httpGet=_optional(path=TEXTS, port=PORTS), periodSeconds=st.integers(-(2**31), 2**31 - 1)
    ),
    stdin=st.booleans(),
)
PODS = _optional(
    metadata=_optional(
        name=TEXTS,
        labels=LABELS,
        annotations=LABELS,
        finalizers=st.lists(TEXTS, max_size=2),
        creationTimestamp=st.sampled_from([TIME, "2026-01-01T00:00:01.5Z"]),
        managedFields=st.lists(
            _optional(manager=TEXTS, fieldsV1=st.sampled_from([{}, {"f:spec": {"f:a": {}}}])), max_size=2
        ),
    ),
    spec=_optional(containers=st.lists(CONTAINERS, max_size=2), nodeName=TEXTS, unheardOf=TEXTS),
    status=_optional(
        containerStatuses=st.lists(_optional(name=TEXTS, restartCount=st.just(3), state=STATES), max_size=2)
    ),
)


@settings(max_examples=60, deadline=None)
@given(PODS)
def test_both_ways_write_the_same_message(obj: dict[str, Any]):
    text = msgspec.json.encode(obj)
    assert transcode(POD, text) == message(POD, obj)
    # The second time every part is remembered.
    assert transcode(POD, text) == message(POD, obj)


def test_nulls_are_left_out():
    assert transcode(
        POD, b'{"metadata":null,"spec":{"nodeName":null,"containers":[{"name":"a"}]}}'
    ) == message(POD, {"spec": {"containers": [{"name": "a"}]}})


def test_what_is_remembered_of_parts_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transcoding, "REMEMBERED_BYTES", 20_000)
    for number in range(500):
        pod = {"metadata": {"name": f"pod-{number}", "labels": {"app": "x" * 50}}}
        assert read_message(POD, transcode(POD, msgspec.json.encode(pod))) == pod
        assert transcoding.remembered_bytes() <= 20_000
