"""How many replicas metrics ask for, and how fast an autoscaler follows them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.kubernetes.core_v1 import PodCondition
from kajitori.base.clock import rfc3339
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.autoscaling import plan
from kajitori.laptop.controllers.autoscaling.behavior import Memory, follow
from kajitori.laptop.controllers.autoscaling.replicas import Tolerances
from kajitori.laptop.controllers.autoscaling.sources import Scene, compute
from kajitori.laptop.controllers.autoscaling.views import (
    AutoscalerSpecView,
    AutoscalerStatusView,
    AutoscalerView,
    Reading,
    RequestingContainer,
    ResourcesView,
    Sample,
    ScaledPod,
    ScaledPodSpec,
    ScaledPodStatus,
)

NOW = 1_700_000_000.0
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


def pod(name, *, request="1", phase="Running", ready=True, age=3600.0, deleting=False):
    started = rfc3339(NOW - age)
    return ScaledPod(
        metadata=Metadata(name=name, deletion_timestamp=rfc3339(NOW) if deleting else None),
        spec=ScaledPodSpec(
            containers=[
                RequestingContainer(
                    name="c", resources=ResourcesView(requests={"cpu": request} if request else {})
                )
            ]
        ),
        status=ScaledPodStatus(
            phase=phase,
            start_time=started,
            conditions=[PodCondition(type="Ready", status=str(ready), last_transition_time=started)],
        ),
    )


def scene(pods, wanted=None, tolerances=None):
    count = len(pods) if wanted is None else wanted
    return Scene("default", count, count, pods, tolerances or Tolerances(), NOW)


def cpu_of(usages):
    return Reading(pods={name: Sample(value, NOW - 10, 30.0) for name, value in usages.items()})


def replicas_for(pods, usages, **spec):
    return compute(CPU, cpu_of(usages), scene(pods, **spec)).replicas


def test_usage_over_target_times_pods_rounded_up():
    pods = [pod("a"), pod("b")]
    assert replicas_for(pods, {"a": 800, "b": 700}) == 3
    assert replicas_for(pods, {"a": 200, "b": 200}) == 1
    outcome = compute(CPU, cpu_of({"a": 800, "b": 700}), scene(pods))
    assert outcome.name == "cpu resource utilization (percentage of request)"
    current = outcome.status["resource"]["current"]
    assert current == {"averageValue": "750m", "averageUtilization": 75}


def test_near_the_target_nothing_changes_and_the_tolerance_says_how_near():
    pods = [pod("a"), pod("b")]
    assert replicas_for(pods, {"a": 540, "b": 540}) == 2
    assert replicas_for(pods, {"a": 540, "b": 540}, tolerances=Tolerances(up=0.05)) == 3
    assert replicas_for(pods, {"a": 460, "b": 460}, tolerances=Tolerances(down=0.0)) == 2


def test_pods_without_a_measurement_count_against_the_change():
    pods = [pod("a"), pod("b"), pod("c"), pod("d")]
    # Growing: the missing ones are idle.
    assert replicas_for(pods, {"a": 1000, "b": 1000}) == 4
    # Shrinking: the missing ones use all that they ask for.
    assert replicas_for(pods, {"a": 100, "b": 100}) == 4


def test_pods_that_start_are_not_believed_and_pods_that_end_are_left_out():
    pods = [
        pod("a"),
        pod("young", ready=False, age=20),
        pod("gone", deleting=True),
        pod("failed", phase="Failed"),
    ]
    usages = {"a": 1000, "young": 5000, "gone": 5000, "failed": 5000}
    assert replicas_for(pods, usages, wanted=2) == 2
    assert replicas_for([pod("a")], {"a": 1000}, wanted=1) == 2


def test_what_cannot_be_computed_says_why():
    nothing = compute(CPU, Reading(failure="unable to fetch"), scene([pod("a")]))
    assert nothing.replicas is None and nothing.reason == "FailedGetResourceMetric"
    assert (
        nothing.text
        == "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch"
    )
    bare = compute(CPU, cpu_of({"a": 1}), scene([pod("a", request="")]))
    assert bare.text == "failed to get cpu utilization: missing request for cpu in container c of Pod a"
    assert compute(CPU, cpu_of({}), scene([])).text.endswith(
        "no pods returned by selector while calculating replica count"
    )


def test_an_external_value_is_shared_by_the_replicas():
    outcome = compute(QUEUE, Reading(values=[35_000]), scene([pod("a"), pod("b")]))
    assert outcome.replicas == 4 and outcome.name == "external metric queue(nil)"
    assert outcome.status["external"]["current"] == {"averageValue": "17500m"}


def autoscaler(current=2, *, metrics=(CPU,), least=1, most=10, behavior=None):
    return AutoscalerView(
        metadata=Metadata(name="web", namespace="default", uid="hpa"),
        spec=AutoscalerSpecView(min_replicas=least, max_replicas=most, metrics=[*metrics], behavior=behavior),
        status=AutoscalerStatusView(current_replicas=current, desired_replicas=current),
    )


def condition(decision, type_name):
    return next(c for c in decision.status.conditions if c["type"] == type_name)


def test_the_largest_proposal_counts_and_a_failed_metric_only_keeps_the_size_from_shrinking():
    pods = [pod("a"), pod("b")]
    one = autoscaler(metrics=[CPU, QUEUE])
    growing = plan.plan_scaling(one, scene(pods), [Reading(failure="x"), Reading(values=[40_000])], Memory())
    assert growing.replicas == 4 and growing.why == "external metric queue(nil) above target"
    shrinking = plan.plan_scaling(one, scene(pods), [Reading(failure="x"), Reading(values=[1_000])], Memory())
    assert shrinking.replicas is None
    active = condition(shrinking, "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")
    assert shrinking.status.current_metrics[0] == {"type": ""}
    assert [event.reason for event in shrinking.events] == [
        "FailedGetResourceMetric",
        "FailedComputeMetricsReplicas",
    ]
    assert shrinking.events[-1].message.startswith("invalid metrics (1 invalid out of 2), first error is: ")


def test_bounds_come_before_metrics():
    above = plan.plan_scaling(autoscaler(most=3), scene([], wanted=5), [], Memory())
    assert (above.replicas, above.why) == (3, "Current number of replicas above Spec.MaxReplicas")
    below = plan.plan_scaling(autoscaler(least=2), scene([], wanted=1), [], Memory())
    assert (below.replicas, below.why) == (2, "Current number of replicas below Spec.MinReplicas")
    off = plan.plan_scaling(autoscaler(), scene([], wanted=0), [], Memory())
    assert off.replicas is None and condition(off, "ScalingActive")["reason"] == "ScalingDisabled"


def test_a_size_at_most_doubles_in_a_step_and_shrinks_to_the_highest_of_five_minutes():
    assert follow(None, Memory(), 5, 100, 1, 50, NOW)[0] == 10
    memory = Memory().with_recommendation(8, NOW - 200)
    held = follow(None, memory, 8, 2, 1, 50, NOW)
    assert held.replicas == 8 and held.stable[0] == "ScaleDownStabilized"
    assert follow(None, memory, 8, 2, 1, 50, NOW + 101).replicas == 2


def test_policies_limit_what_is_added_and_removed_in_their_period():
    behavior = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min",
                      "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60},
                                   {"type": "Pods", "value": 1, "periodSeconds": 60}]},
    }  # fmt: skip
    grown = follow(behavior, Memory(), 4, 10, 1, 50, NOW)
    assert (grown.replicas, grown.limit[0]) == (6, "ScaleUpLimit")
    again = follow(behavior, Memory().with_change(2, NOW - 30), 6, 10, 1, 50, NOW)
    assert again.replicas == 6
    shrunk = follow(behavior, Memory(), 10, 1, 1, 50, NOW)
    assert (shrunk.replicas, shrunk.limit[0]) == (9, "ScaleDownLimit")
    off = follow({**behavior, "scaleDown": {"selectPolicy": "Disabled"}}, Memory(), 10, 1, 1, 50, NOW + 9999)
    assert off.replicas == 10


RULES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            direction: st.fixed_dictionaries(
                {
                    "stabilizationWindowSeconds": st.sampled_from([0, 60, 300]),
                    "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
                    "policies": st.lists(
                        st.fixed_dictionaries(
                            {
                                "type": st.sampled_from(["Pods", "Percent"]),
                                "value": st.integers(1, 200),
                                "periodSeconds": st.sampled_from([15, 60, 600]),
                            }
                        ),
                        min_size=1,
                        max_size=3,
                    ),
                }
            )
            for direction in ("scaleUp", "scaleDown")
        }
    ),
)


@given(
    RULES,
    st.integers(1, 10),
    st.integers(0, 20),
    st.integers(0, 1000),
    st.integers(1, 40),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_a_size_stays_within_its_bounds_and_never_moves_against_what_is_asked(
    behavior, least, more, wanted, current, earlier
):
    most = least + more
    current = min(max(current, least), most)
    memory = Memory()
    for age, replicas in enumerate(earlier):
        memory = memory.with_recommendation(replicas, NOW - 70 * (len(earlier) - age))
    followed = follow(behavior, memory, current, wanted, least, most, NOW)
    assert least <= followed.replicas <= most
    if not earlier:
        low, high = sorted((current, min(max(wanted, least), most)))
        assert low <= followed.replicas <= high
    assert followed.is_limited == (followed.limit[0] != "DesiredWithinRange")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 4000)),
    st.sets(st.sampled_from("abcdef"), min_size=1),
)
def test_missing_measurements_never_turn_a_change_around(usages, names):
    pods = [pod(name) for name in sorted(names)]
    outcome = compute(CPU, cpu_of(usages), scene(pods))
    known = [usages[name] for name in names if name in usages]
    if outcome.replicas is None or not known:
        return
    ratio = sum(known) * 100 // (1000 * len(known)) / 50
    assert not (ratio > 1.1 and outcome.replicas < len(pods))
    assert not (ratio < 0.9 and outcome.replicas > len(pods))
