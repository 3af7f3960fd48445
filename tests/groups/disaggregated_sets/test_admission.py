"""What the definitions of DisaggregatedSet and its scaler refuse by themselves, on both servers."""

from __future__ import annotations

from typing import Any

from tests.groups.disaggregated_sets.conftest import EXTERNAL, a_role, a_set, rolling
from tests.servers import Server

Object = dict[str, Any]
EXCLUSIVE = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"}
PLACED = {"type": "ExclusiveSlice", "topology": "topology.kubernetes.io/zone"}


def path(namespace: str, plural: str = "disaggregatedsets") -> str:
    return f"/apis/disaggregatedset.x-k8s.io/v1/namespaces/{namespace}/{plural}"


def pair(name: str = "x", spec: Object | None = None, **prefill: Any) -> Object:
    """Prefill as given beside a decode that makes sense."""
    return a_set(a_role("prefill", **prefill), a_role("decode"), name=name, **(spec or {}))


REFUSED: list[tuple[Object, str, str]] = [
    (a_set(a_role("prefill")), "spec.roles", "at least 2"),
    (a_set(*(a_role(f"r{number}") for number in range(11))), "spec.roles", "at most 10"),
    (a_set(a_role("prefill"), a_role("prefill")), "spec.roles[1]", ""),
    (a_set(a_role("Prefill"), a_role("decode")), "spec.roles[0].name", ""),
    (a_set(a_role("p" * 64), a_role("decode")), "spec.roles[0].name", ""),
    (
        pair(rolloutStrategy=rolling(partition=1)),
        "spec.roles[0].spec.rolloutStrategy.rollingUpdateConfiguration.partition",
        "partition must be 0",
    ),
    (
        pair(rolloutStrategy=rolling(0, 0)),
        "spec.roles[0].spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable",
        "cannot both be 0",
    ),
    (pair(rolloutStrategy=rolling("0%", "0%")), "maxUnavailable", "cannot both be 0"),
    (pair(rolloutStrategy=rolling("101%")), "maxSurge", ""),
    (pair(rolloutStrategy={"type": "Recreate"}), "spec.roles[0].spec.rolloutStrategy.type", ""),
    (pair(replicas=0), "spec.roles", "0 for all roles or for none"),
    (pair(replicas=-1), "spec.roles[0].spec.replicas", ""),
    (pair(size=0), "spec.roles[0].spec.leaderWorkerTemplate.size", ""),
    (
        pair(size=4, group={"subGroupPolicy": {"subGroupSize": 3, "subGroupPolicyType": "LeaderExcluded"}, "size": 3}),
        "subGroupSize",
        "",
    ),
    (pair(name="x" * 41), "spec.roles", "must fit the 63 characters of a Service's name"),
    (pair(name="x" * 40, replicas=12), "spec.roles", "must fit the 63 characters of a host name"),
    (pair(name="0x"), "", "a letter first"),
    (pair(name="x.y"), "", "a letter first"),
    (pair(scaling=EXTERNAL, spec={"slices": 2}), "spec.slices", "needs slices to be 1"),
    (pair(spec={"slices": 0}), "spec.slices", ""),
    (pair(spec={"slices": 101}), "spec.slices", ""),
    (pair(scaling={"mode": "Auto"}), "spec.roles[0].scaling.mode", ""),
    (pair(spec={"placementPolicy": {"type": "ExclusiveSlice"}}), "spec.placementPolicy.topology", "node label"),
    (pair(spec={"placementPolicy": {"type": "Close"}}), "spec.placementPolicy.type", ""),
    (
        pair(spec={"placementPolicy": PLACED}, metadata={"annotations": EXCLUSIVE}),
        "spec.placementPolicy",
        "no pod could satisfy both",
    ),
    (pair(spec={"placementPolicy": PLACED}, annotations=EXCLUSIVE), "spec.placementPolicy", "satisfy both"),
]  # fmt: skip

ACCEPTED: list[Object] = [
    a_set(a_role("prefill", 0), a_role("decode", 0)),
    a_set(a_role("prefill", 0, rolloutStrategy=rolling(0, 0)), a_role("decode", 0)),
    pair(name="x" * 40),
    pair(rolloutStrategy=rolling("25%", "50%")),
    pair(replicas=None, scaling=EXTERNAL),
    pair(replicas=0, scaling=EXTERNAL),
    pair(metadata={"annotations": EXCLUSIVE}),
    pair(spec={"placementPolicy": {"type": "None"}}, metadata={"annotations": EXCLUSIVE}),
    pair(spec={"placementPolicy": PLACED, "slices": 3}),
]


async def test_partition_both_zero_one_zero_role_long_names_and_placement_with_exclusive_annotations_are_rejected(
    server: Server, namespace: str
) -> None:
    for manifest, field, sentence in REFUSED:
        answer = await server.http.create(path(namespace), manifest, dryRun="All", fieldValidation="Strict")
        assert answer.code == 422, (manifest, answer.json)
        causes = answer.json["details"]["causes"]
        assert any(field in cause["field"] and sentence in cause["message"] for cause in causes), causes


async def test_what_makes_sense_is_taken_and_completed(server: Server, namespace: str) -> None:
    for manifest in ACCEPTED:
        answer = await server.http.create(path(namespace), manifest, dryRun="All", fieldValidation="Strict")
        assert answer.code == 201, (manifest, answer.json)
    made = (await server.http.create(path(namespace), pair(replicas=None), dryRun="All")).ok()
    assert made["spec"]["slices"] == 1
    role = made["spec"]["roles"][0]
    assert role["spec"]["replicas"] == 1
    assert "scaling" not in role
    assert "rolloutStrategy" not in role["spec"]


async def test_templates_and_subgroups_of_a_role_may_change(server: Server, namespace: str) -> None:
    grouped = pair(size=4, group={"subGroupPolicy": {"subGroupSize": 2}})
    (await server.http.create(path(namespace), grouped)).ok()
    for group in ({"subGroupPolicy": {"subGroupSize": 4}}, {}):
        answer = None
        # The controller writes its status in between.
        while answer is None or answer.code == 409:
            stored = (await server.http.get(f"{path(namespace)}/x")).ok()
            changed = {**stored, "spec": pair(size=4, group=group)["spec"]}
            answer = await server.http.put(f"{path(namespace)}/x", changed)
        answer.ok()


async def test_a_scaler_has_a_scale_before_anybody_writes_it(server: Server, namespace: str) -> None:
    scalers = path(namespace, "disaggregatedsetrolescalers")
    kind = {"apiVersion": "disaggregatedset.x-k8s.io/v1", "kind": "DisaggregatedSetRoleScaler"}
    (await server.http.create(scalers, {**kind, "metadata": {"name": "s"}, "spec": {}})).ok()
    scale = (await server.http.get(f"{scalers}/s/scale")).ok()
    assert scale["spec"].get("replicas", 0) == 0
    answer = await server.http.merge(f"{scalers}/s", {"spec": {"replicas": -1}})
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["field"] == "spec.replicas"
