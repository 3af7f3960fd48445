"""Where the engine of a leader is asked: at the pod's own address, whatever its annotations say."""

from __future__ import annotations

import msgspec
import pytest

from kajitori.groups.leader_worker_sets.engine_watch import Engine


def engine(address: str = "10.0.0.1", **annotations: str) -> Engine:
    pod = {
        "metadata": {"annotations": {f"prometheus.io/{key}": value for key, value in annotations.items()}},
        "spec": {"containers": [{"ports": [{"containerPort": 9000}]}]},
        "status": {"podIP": address},
    }
    return msgspec.convert(pod, Engine)


def test_an_engine_is_asked_where_its_pod_says() -> None:
    assert engine().url() == "http://10.0.0.1:9000/metrics"
    assert engine(port="8080", path="/stats").url() == "http://10.0.0.1:8080/stats"
    assert engine("fd00::1").url() == "http://[fd00::1]:9000/metrics"
    assert engine("").url() == ""


@pytest.mark.parametrize("port", ["80@elsewhere.example", "80/../", "http", "8o"])
def test_no_annotation_leads_to_another_host(port: str) -> None:
    assert engine(port=port).url() == ""
