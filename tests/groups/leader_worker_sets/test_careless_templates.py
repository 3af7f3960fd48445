"""Templates that were copied from a pod that lived, with what was written on it."""

from __future__ import annotations

from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, template

COPIED = {
    "groups.kajitori.dev/incarnation": "of another",
    "groups.kajitori.dev/complete": "true",
    "groups.kajitori.dev/failed": "3 restarts",
    "groups.kajitori.dev/restarts": "5",
    "groups.kajitori.dev/draining-since": "2026-01-01T00:00:00Z",
    "scheduling.kajitori.dev/gang-released": "its scheduler gave up",
    "leaderworkerset.sigs.k8s.io/size": "99",
    "example.com/mine": "stays",
}


def test_what_was_noted_on_a_pod_means_nothing_in_a_template() -> None:
    copied = {"metadata": {"annotations": COPIED}, **template()}
    cluster = PlannedCluster(a_set(replicas=1, size=2, workerTemplate=copied)).settle()
    assert cluster.conditions()["Available"] == "True"
    assert cluster.created == ["x-0", "x-0-1"], "no pod was made twice"
    annotations = cluster.pods["x-0"]["metadata"]["annotations"]
    assert annotations["leaderworkerset.sigs.k8s.io/size"] == "2"
    assert annotations["example.com/mine"] == "stays"
    assert not {"groups.kajitori.dev/failed", "groups.kajitori.dev/draining-since"} & annotations.keys()
